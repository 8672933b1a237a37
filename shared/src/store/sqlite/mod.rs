//! Messages in one SQLite file.
//!
//! One thread owns the connection that writes, so that inserts which wait for the disk share the
//! next commit; reads run beside it on connections of their own, as the write-ahead log allows.

mod memberships;
mod readers;
mod schema;
mod statements;
mod sweep;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rusqlite::ErrorCode;

use self::readers::Readers;
pub use self::statements::history_sql;
use self::writer::Writer;
use super::{DeadLetter, Inserted, Rights, Store, StoreError, within};
use crate::config::{Retention, StoreSettings};
use crate::message::{Message, MessageId, RoomName, Span, UsedKey, UserName};

/// A store in one SQLite file: durable because every commit is synced to disk before it is
/// answered (`journal_mode=WAL`, `synchronous=FULL`).
pub struct Sqlite {
    writer: Writer,
    readers: Readers,
    deadline: Duration,
    path: PathBuf,
}

impl Sqlite {
    /// Opens the file, and makes it and its parent folders where they are missing.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] when the file is no database of this program or cannot be
    /// written, and [`StoreError::Unavailable`] when another process keeps it locked.
    pub async fn open(path: &Path, settings: &StoreSettings) -> Result<Self, StoreError> {
        let deadline = settings.operation_timeout;
        let retention = settings.retention;
        let (path, settings) = (path.to_owned(), settings.clone());
        let store = tokio::task::spawn_blocking(move || {
            let connection = schema::open(&path, &settings)?;
            let writer = Writer::start(connection, &path)?;
            Ok(Self {
                writer,
                readers: Readers::new(&path, deadline),
                deadline,
                path,
            })
        })
        .await
        .map_err(|error| StoreError::Unavailable(error.to_string()))??;
        if let Retention::For(age) = retention {
            tokio::spawn(sweep::run(store.writer.downgrade(), age));
        }
        Ok(store)
    }

    fn within<'a, T: Send + 'a>(
        &'a self,
        operation: impl Future<Output = Result<T, StoreError>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        within(self.deadline, self.path.display(), operation)
    }
}

impl Store for Sqlite {
    fn insert<'a>(
        &'a self,
        batch: &'a [Arc<Message>],
    ) -> BoxFuture<'a, Result<Inserted, StoreError>> {
        let batch = batch.to_vec();
        self.within(self.writer.run(move |t| statements::insert(t, &batch)))
    }

    fn bury<'a>(&'a self, letters: &'a [DeadLetter]) -> BoxFuture<'a, Result<(), StoreError>> {
        let letters = letters.to_vec();
        self.within(self.writer.run(move |t| statements::bury(t, &letters)))
    }

    fn history<'a>(
        &'a self,
        room: &'a RoomName,
        span: Span,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Message>, StoreError>> {
        let room = room.clone();
        self.within(
            self.readers
                .run(move |c| statements::history(c, &room, span, limit)),
        )
    }

    fn stored<'a>(
        &'a self,
        ids: &'a [MessageId],
    ) -> BoxFuture<'a, Result<Vec<MessageId>, StoreError>> {
        let ids = ids.to_vec();
        self.within(self.readers.run(move |c| statements::stored(c, &ids)))
    }

    fn newest(&self) -> BoxFuture<'_, Result<Option<MessageId>, StoreError>> {
        self.within(self.readers.run(statements::newest))
    }

    fn keys_after(&self, id: MessageId) -> BoxFuture<'_, Result<Vec<UsedKey>, StoreError>> {
        self.within(self.readers.run(move |c| statements::keys_after(c, id)))
    }

    fn prepare_rights(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.within(self.writer.run(|t| memberships::prepare(t)))
    }

    fn rights<'a>(
        &'a self,
        room: &'a RoomName,
        user: &'a UserName,
    ) -> BoxFuture<'a, Result<Rights, StoreError>> {
        let (room, user) = (room.clone(), user.clone());
        self.within(
            self.readers
                .run(move |c| memberships::rights(c, &room, &user)),
        )
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.within(self.readers.run(statements::ping))
    }
}

/// Says in one line what an error means for whoever runs this.
fn failure(path: &Path, error: rusqlite::Error) -> StoreError {
    let shown = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            StoreError::Misconfigured(format!("{shown} is not an SQLite database"))
        }
        Some(ErrorCode::DatabaseCorrupt) => damaged(path, &error.to_string()),
        Some(ErrorCode::DiskFull) => StoreError::Unavailable(format!(
            "the disk of {shown} is full: make room, and it goes on by itself"
        )),
        Some(ErrorCode::SystemIoFailure) => StoreError::Unavailable(format!(
            "{shown} cannot be read or written ({error}): look at its disk, and make room where a \
             quota or a limit on the size of files is reached; it goes on by itself"
        )),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            StoreError::Misconfigured(format!("{shown} cannot be written: {error}"))
        }
        Some(ErrorCode::CannotOpen) => {
            StoreError::Misconfigured(format!("{shown} cannot be opened: {error}"))
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            StoreError::Unavailable(format!("{shown} is locked by another process"))
        }
        _ => StoreError::Unavailable(format!("{shown}: {error}")),
    }
}

fn damaged(path: &Path, how: &str) -> StoreError {
    StoreError::Misconfigured(format!(
        "{} is damaged ({how}): restore it, or move it away to start afresh",
        path.display()
    ))
}
