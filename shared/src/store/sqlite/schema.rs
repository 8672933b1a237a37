//! The file's tables, and what makes a file this program's.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::{damaged, failure};
use crate::config::StoreSettings;
use crate::store::StoreError;

/// `PRAGMA user_version` of files that this program writes.
const VERSION: i64 = 1;

/// `PRAGMA application_id`: "RCst".
const APPLICATION: i64 = 0x5243_7374;

/// How long looking through a file at start may take.
const CHECK: Duration = Duration::from_secs(1);

/// The table is clustered by the id, that is by time, so that inserts go to its end; an entry of
/// `messages_by_room` is a room and an id.
const TABLES: &str = "
    CREATE TABLE messages (
        id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
        room TEXT NOT NULL,
        sender TEXT NOT NULL,
        content_type TEXT,
        headers TEXT,
        body BLOB NOT NULL,
        idempotency_key TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX messages_by_room ON messages (room, id);
    CREATE TABLE dead_letters (
        id BLOB NOT NULL PRIMARY KEY,
        reason TEXT NOT NULL,
        room TEXT,
        sender TEXT,
        content_type TEXT,
        headers TEXT,
        body BLOB,
        idempotency_key TEXT,
        raw BLOB
    ) STRICT, WITHOUT ROWID;
";

/// Opens the connection that writes, with the tables in place.
pub(super) fn open(path: &Path, settings: &StoreSettings) -> Result<Connection, StoreError> {
    if let Some(folder) = path.parent()
        && let Err(error) = std::fs::create_dir_all(folder)
    {
        let folder = folder.display();
        return Err(StoreError::Misconfigured(format!(
            "{folder} cannot be created: {error}"
        )));
    }
    if path.is_dir() {
        let path = path.display();
        return Err(StoreError::Misconfigured(format!(
            "{path} is a folder, not a file"
        )));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let fail = |error| failure(path, error);
    let mut connection = Connection::open_with_flags(path, flags).map_err(fail)?;
    connection
        .busy_timeout(settings.connect_timeout)
        .map_err(fail)?;
    // SQLite makes do with reading where a file may not be written.
    if connection.is_readonly("main").map_err(fail)? {
        let path = path.display();
        return Err(StoreError::Misconfigured(format!(
            "{path} cannot be written: look at its owner and its rights"
        )));
    }
    claim(&mut connection, path)?;
    connection
        .busy_timeout(settings.operation_timeout)
        .map_err(fail)?;
    Ok(connection)
}

/// Makes the tables in an empty file, and refuses a file that is not this program's.
fn claim(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let fail = |error| failure(path, error);
    // Nothing is written, not even the journal mode, before the file is known to be ours.
    let (empty, application, version) = connection
        .query_row(
            "SELECT (SELECT count(*) FROM sqlite_schema) = 0, a.application_id, v.user_version
             FROM pragma_application_id a, pragma_user_version v",
            [],
            |row| {
                Ok((
                    row.get::<_, bool>(0)?,
                    row.get::<_, i64>(1)?,
                    row.get::<_, i64>(2)?,
                ))
            },
        )
        .map_err(fail)?;
    let fresh = empty && application == 0 && version == 0;
    if !fresh && application != APPLICATION {
        let path = path.display();
        return Err(StoreError::Misconfigured(format!(
            "{path} is another program's database"
        )));
    }
    if version > VERSION {
        let path = path.display();
        return Err(StoreError::Misconfigured(format!(
            "{path} was written by a newer version (its schema is {version}, this program knows \
             {VERSION}): use that version"
        )));
    }
    check(connection, path)?;
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
        .map_err(fail)?;
    if !fresh {
        return Ok(());
    }
    create(connection).map_err(fail)
}

/// Looks for damage, as far as [`CHECK`] reaches: what a room's history would otherwise stumble
/// over later.
fn check(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let fail = |error| failure(path, error);
    let until = Instant::now() + CHECK;
    connection
        .progress_handler(10_000, Some(move || Instant::now() > until))
        .map_err(fail)?;
    let found = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    connection
        .progress_handler(0, None::<fn() -> bool>)
        .map_err(fail)?;
    match found {
        Ok(found) if found == "ok" => Ok(()),
        Ok(found) => Err(damaged(path, &found)),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            tracing::debug!(
                "{} is too large to be looked through at start",
                path.display()
            );
            Ok(())
        }
        Err(error) => Err(fail(error)),
    }
}

fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Two processes may find the file empty; the second to get the lock sees the first's tables.
    let version: i64 =
        transaction.query_row("SELECT user_version FROM pragma_user_version", [], |r| {
            r.get(0)
        })?;
    if version == 0 {
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()
}
