//! The table of memberships, which the application writes.

use rusqlite::{Connection, OptionalExtension, params};

use crate::message::{RoomName, UserName};
use crate::store::Rights;

/// Its checks tell the application of a mistake when it makes one.
const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS memberships (
        room TEXT NOT NULL,
        user TEXT NOT NULL,
        rights TEXT NOT NULL CHECK (rights IN ('r', 'w', 'rw')),
        PRIMARY KEY (room, user)
    ) STRICT, WITHOUT ROWID;
";

pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(TABLE)
}

pub(super) fn rights(
    connection: &Connection,
    room: &RoomName,
    user: &UserName,
) -> rusqlite::Result<Rights> {
    let known = connection
        .prepare_cached("SELECT rights FROM memberships WHERE room = ?1 AND user = ?2")?
        .query_row(params![room.as_str(), user.as_str()], |row| {
            // The application may have made the table, with columns of any type.
            Ok(row.get_ref(0)?.as_str().ok().and_then(Rights::parse))
        })
        .optional()?;
    if known == Some(None) {
        tracing::debug!("a row of `memberships` has no rights that are r, w or rw");
    }
    Ok(known.flatten().unwrap_or_default())
}
