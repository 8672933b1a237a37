//! How a message lies in a document.

use std::borrow::Cow;
use std::sync::Arc;

use bson::raw::{RawArrayBuf, RawBinaryRef, RawBsonRef, cstr};
use bson::spec::BinarySubtype;
use bson::{Binary, DateTime, RawDocument, RawDocumentBuf};
use bytes::Bytes;
use uuid::Uuid;

use crate::message::{Headers, IdempotencyKey, Message, MessageId, RoomName, UsedKey, UserName};
use crate::store::DeadLetter;

/// The most octets of a body, and of headers, in a dead letter: together with the rest they are
/// below the server's limit for a document.
const LETTER_BODY: usize = 14 << 20;
const LETTER_HEADERS: usize = 1 << 20;
const LETTER_REASON: usize = 4096;

/// A document without fields: its length, and its end.
const EMPTY: [u8; 5] = [5, 0, 0, 0, 0];

/// About the octets of a message's document without its body.
const OTHERS: usize = 256;

/// A message as a document of `messages`.
pub(super) fn encode(message: &Message) -> RawDocumentBuf {
    let mut empty = Vec::with_capacity(message.body.len() + OTHERS);
    empty.extend_from_slice(&EMPTY);
    let mut document = RawDocumentBuf::from_bytes(empty).expect("that is a document");
    let id = message.id.uuid();
    document.append(
        cstr!("_id"),
        RawBinaryRef {
            subtype: BinarySubtype::Uuid,
            bytes: id.as_bytes(),
        },
    );
    append_message(&mut document, message, &message.body);
    document
}

/// A document of `dead_letters`, within the size that a server takes.
pub(super) fn encode_letter(letter: &DeadLetter) -> RawDocumentBuf {
    let mut document = RawDocumentBuf::new();
    let mut reason = letter.reason[..letter.reason.floor_char_boundary(LETTER_REASON)].to_owned();
    document.append(cstr!("_id"), uuid(letter.id));
    match &letter.content {
        Ok(message) => {
            let mut message = Cow::Borrowed(&**message);
            let length = message.body.len();
            let body = message.body.slice(..length.min(LETTER_BODY));
            if body.len() < length {
                reason += &format!("; the body is cut from {length} octets");
            }
            let size: usize = message
                .headers
                .iter()
                .map(|(n, v)| n.len() + v.len() + 32)
                .sum();
            if size > LETTER_HEADERS {
                message.to_mut().headers.clear();
                reason += "; the headers are left out";
            }
            append_message(&mut document, &message, &body);
        }
        Err(raw) => {
            let bytes = &raw[..raw.len().min(LETTER_BODY)];
            if bytes.len() < raw.len() {
                reason += &format!("; it is cut from {} octets", raw.len());
            }
            document.append(
                cstr!("raw"),
                RawBinaryRef {
                    subtype: BinarySubtype::Generic,
                    bytes,
                },
            );
        }
    }
    document.append(cstr!("reason"), reason.as_str());
    document
}

fn append_message(document: &mut RawDocumentBuf, message: &Message, body: &[u8]) {
    let ms = i64::try_from(message.id.stamp().ms).expect("48 bits fit");
    document.append(cstr!("room"), message.room.as_str());
    document.append(cstr!("createdAt"), DateTime::from_millis(ms));
    document.append(cstr!("sender"), message.sender.as_str());
    if let Some(content_type) = &message.content_type {
        document.append(cstr!("contentType"), &**content_type);
    }
    match std::str::from_utf8(body) {
        Ok(text) => document.append(cstr!("body"), text),
        Err(_) => {
            let bytes = RawBinaryRef {
                subtype: BinarySubtype::Generic,
                bytes: body,
            };
            document.append(cstr!("body"), bytes);
        }
    }
    if let Some(key) = &message.idempotency_key {
        document.append(cstr!("idempotencyKey"), key.as_str());
    }
    if !message.headers.is_empty() {
        let pairs: RawArrayBuf = message
            .headers
            .iter()
            .map(|(name, value)| [&**name, &**value].into_iter().collect::<RawArrayBuf>())
            .collect();
        document.append(cstr!("headers"), pairs);
    }
}

/// Reads a document back. One that this program did not write is left out of the history, rather
/// than taking the room's other messages with it.
pub(super) fn decode(document: &RawDocument) -> Option<Message> {
    let message = id(document).and_then(|id| fields(document, id));
    if message.is_none() {
        let id = document.get("_id").ok().flatten();
        tracing::warn!(
            ?id,
            "a document in `messages` is no message; it is left out"
        );
    }
    message
}

fn fields(document: &RawDocument, id: MessageId) -> Option<Message> {
    let text = |name| {
        document
            .get(name)
            .ok()
            .flatten()
            .and_then(RawBsonRef::as_str)
    };
    let body = match document.get("body").ok()?? {
        RawBsonRef::String(text) => text.as_bytes(),
        RawBsonRef::Binary(binary) => binary.bytes,
        _ => return None,
    };
    let headers = match document.get("headers").ok()? {
        Some(pairs) => pairs
            .as_array()?
            .into_iter()
            .map(|pair| header(pair.ok()?))
            .collect::<Option<Headers>>()?,
        None => Headers::new(),
    };
    Some(Message {
        id,
        room: RoomName::recorded(text("room")?).ok()?,
        sender: UserName::parse(text("sender")?).ok()?,
        content_type: text("contentType").map(Arc::from),
        headers,
        body: Bytes::copy_from_slice(body),
        idempotency_key: text("idempotencyKey")
            .map(IdempotencyKey::parse)
            .transpose()
            .ok()?,
        prev: None,
        ephemeral: false,
    })
}

fn header(pair: RawBsonRef<'_>) -> Option<(Box<str>, Box<str>)> {
    let mut pair = pair.as_array()?.into_iter().map(|part| part.ok()?.as_str());
    Some((pair.next()??.into(), pair.next()??.into()))
}

/// The id of a document, where it is a message's.
pub(super) fn id(document: &RawDocument) -> Option<MessageId> {
    let binary = document.get_binary("_id").ok()?;
    if binary.subtype != BinarySubtype::Uuid {
        return None;
    }
    MessageId::from_uuid(Uuid::from_slice(binary.bytes).ok()?).ok()
}

/// What tells a message from another under the same id.
pub(super) struct Identity {
    room: Option<String>,
    sender: Option<String>,
    key: Option<String>,
}

impl Identity {
    pub(super) fn of(document: &RawDocument) -> Self {
        let text = |name| document.get_str(name).ok().map(str::to_owned);
        Self {
            room: text("room"),
            sender: text("sender"),
            key: text("idempotencyKey"),
        }
    }

    pub(super) fn is_of(&self, message: &Message) -> bool {
        let key = message.idempotency_key.as_ref();
        self.room.as_deref() == Some(message.room.as_str())
            && self.sender.as_deref() == Some(message.sender.as_str())
            && self.key.as_deref() == key.map(IdempotencyKey::as_str)
    }
}

/// The key of a message that has one.
pub(super) fn used_key(document: &RawDocument) -> Option<UsedKey> {
    let text = |name| document.get_str(name).ok();
    Some(UsedKey {
        id: id(document)?,
        room: RoomName::recorded(text("room")?).ok()?,
        sender: UserName::parse(text("sender")?).ok()?,
        key: IdempotencyKey::parse(text("idempotencyKey")?).ok()?,
    })
}

/// An id as MongoDB knows it: binary of subtype 4.
pub(super) fn uuid(id: MessageId) -> Binary {
    Binary {
        subtype: BinarySubtype::Uuid,
        bytes: id.uuid().as_bytes().to_vec(),
    }
}

/// No UUID is greater.
pub(super) fn greatest_uuid() -> Binary {
    Binary {
        subtype: BinarySubtype::Uuid,
        bytes: Uuid::max().as_bytes().to_vec(),
    }
}
