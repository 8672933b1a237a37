//! The statements, and how a message lies in a row.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::types::Type;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params};
use uuid::Uuid;

use crate::message::{
    Headers, IdempotencyKey, Message, MessageId, RoomName, Span, UsedKey, UserName,
};
use crate::store::{ANOTHER, DeadLetter, Inserted};

/// The statement that reads a span of a room's history: an index scan, newest first unless the
/// span is [`Span::After`]. Its parameters are the room, the limit and, but for [`Span::Newest`],
/// the id at the span's end.
pub fn history_sql(span: Span) -> &'static str {
    match span {
        Span::After(_) => {
            "SELECT id, room, sender, content_type, headers, body, idempotency_key FROM messages
             WHERE room = ?1 AND id > ?3 ORDER BY id LIMIT ?2"
        }
        Span::Before(_) => {
            "SELECT id, room, sender, content_type, headers, body, idempotency_key FROM messages
             WHERE room = ?1 AND id < ?3 ORDER BY id DESC LIMIT ?2"
        }
        Span::Newest => {
            "SELECT id, room, sender, content_type, headers, body, idempotency_key FROM messages
             WHERE room = ?1 ORDER BY id DESC LIMIT ?2"
        }
    }
}

pub(super) fn history(
    connection: &Connection,
    room: &RoomName,
    span: Span,
    limit: usize,
) -> rusqlite::Result<Vec<Message>> {
    let mut statement = connection.prepare_cached(history_sql(span))?;
    let (room, limit) = (room.as_str(), i64::try_from(limit).unwrap_or(i64::MAX));
    let rows = match span {
        Span::After(id) | Span::Before(id) => {
            statement.query_map(params![room, limit, id.uuid().as_bytes()], message)?
        }
        Span::Newest => statement.query_map(params![room, limit], message)?,
    };
    let mut messages = rows.collect::<Result<Vec<_>, _>>()?;
    if !matches!(span, Span::After(_)) {
        messages.reverse();
    }
    Ok(messages)
}

pub(super) fn stored(
    connection: &Connection,
    ids: &[MessageId],
) -> rusqlite::Result<Vec<MessageId>> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM messages WHERE id = ?1")?;
    let mut found = Vec::new();
    for id in ids {
        if statement.exists([id.uuid().as_bytes()])? {
            found.push(*id);
        }
    }
    Ok(found)
}

pub(super) fn newest(connection: &Connection) -> rusqlite::Result<Option<MessageId>> {
    connection
        .prepare_cached("SELECT id FROM messages ORDER BY id DESC LIMIT 1")?
        .query_row([], id)
        .optional()
}

pub(super) fn keys_after(
    connection: &Connection,
    after: MessageId,
) -> rusqlite::Result<Vec<UsedKey>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, room, sender, idempotency_key FROM messages
         WHERE id > ?1 AND idempotency_key IS NOT NULL ORDER BY id",
    )?;
    let rows = statement.query_map([after.uuid().as_bytes()], |row| {
        Ok(UsedKey {
            id: id(row)?,
            room: RoomName::recorded(&row.get::<_, String>(1)?).map_err(|e| invalid(1, e))?,
            sender: UserName::parse(&row.get::<_, String>(2)?).map_err(|e| invalid(2, e))?,
            key: IdempotencyKey::parse(&row.get::<_, String>(3)?).map_err(|e| invalid(3, e))?,
        })
    })?;
    rows.collect()
}

pub(super) fn ping(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .prepare_cached("SELECT 1 FROM messages LIMIT 1")?
        .exists([])
        .map(drop)
}

pub(super) fn insert(
    connection: &Connection,
    batch: &[Arc<Message>],
) -> rusqlite::Result<Inserted> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO messages (id, room, sender, content_type, headers, body, idempotency_key)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO NOTHING",
    )?;
    let mut same = connection.prepare_cached(
        "SELECT 1 FROM messages
         WHERE id = ?1 AND room = ?2 AND sender = ?3 AND idempotency_key IS ?4",
    )?;
    let mut inserted = Inserted::default();
    for message in batch {
        let outcome = statement.execute(params![
            message.id.uuid().as_bytes(),
            message.room.as_str(),
            message.sender.as_str(),
            message.content_type,
            headers_json(&message.headers),
            &message.body[..],
            message.idempotency_key.as_ref().map(IdempotencyKey::as_str),
        ]);
        match outcome {
            Ok(0) => {
                let (room, sender) = (message.room.as_str(), message.sender.as_str());
                let key = message.idempotency_key.as_ref().map(IdempotencyKey::as_str);
                if same.exists(params![message.id.uuid().as_bytes(), room, sender, key])? {
                    inserted.duplicates += 1;
                } else {
                    inserted.refused.push((message.id, ANOTHER.into()));
                }
            }
            Ok(_) => inserted.stored += 1,
            Err(error) if is_refusal(&error) => {
                inserted.refused.push((message.id, error.to_string()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(inserted)
}

pub(super) fn bury(connection: &Connection, letters: &[DeadLetter]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO dead_letters
            (id, reason, room, sender, content_type, headers, body, idempotency_key, raw)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id) DO NOTHING",
    )?;
    for letter in letters {
        let message = letter.content.as_ref().ok();
        statement.execute(params![
            letter.id.uuid().as_bytes(),
            letter.reason,
            message.map(|m| m.room.as_str()),
            message.map(|m| m.sender.as_str()),
            message.and_then(|m| m.content_type.as_deref()),
            message.and_then(|m| headers_json(&m.headers)),
            message.map(|m| &m.body[..]),
            message
                .and_then(|m| m.idempotency_key.as_ref())
                .map(IdempotencyKey::as_str),
            letter.content.as_ref().err(),
        ])?;
    }
    Ok(())
}

/// Removes up to `limit` of the oldest messages before this id, and says how many.
pub(super) fn remove_before(
    connection: &Connection,
    before: MessageId,
    limit: usize,
) -> rusqlite::Result<usize> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "DELETE FROM messages WHERE id IN
                (SELECT id FROM messages WHERE id < ?1 ORDER BY id LIMIT ?2)",
        )?
        .execute(params![before.uuid().as_bytes(), limit])
}

/// Whether this row will never be taken, while others may be.
fn is_refusal(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch)
    )
}

fn headers_json(headers: &Headers) -> Option<String> {
    let json = || serde_json::to_string(headers).expect("pairs of text are valid JSON");
    (!headers.is_empty()).then(json)
}

fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    let text = |index| {
        row.get_ref(index)?
            .as_str()
            .map_err(|error| invalid(index, error))
    };
    let headers: Option<String> = row.get(4)?;
    let key: Option<String> = row.get(6)?;
    Ok(Message {
        id: id(row)?,
        room: RoomName::recorded(text(1)?).map_err(|error| invalid(1, error))?,
        sender: UserName::parse(text(2)?).map_err(|error| invalid(2, error))?,
        content_type: row.get::<_, Option<Arc<str>>>(3)?,
        headers: headers
            .map_or(Ok(Headers::new()), |json| serde_json::from_str(&json))
            .map_err(|error| invalid(4, error))?,
        body: Bytes::copy_from_slice(
            row.get_ref(5)?
                .as_blob()
                .map_err(|error| invalid(5, error))?,
        ),
        idempotency_key: key
            .map(|key| IdempotencyKey::parse(&key))
            .transpose()
            .map_err(|error| invalid(6, error))?,
        prev: None,
        ephemeral: false,
    })
}

fn id(row: &Row<'_>) -> rusqlite::Result<MessageId> {
    let uuid = Uuid::from_bytes(row.get(0)?);
    MessageId::from_uuid(uuid).map_err(|error| invalid(0, error))
}

fn invalid(
    column: usize,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, Box::new(error))
}
