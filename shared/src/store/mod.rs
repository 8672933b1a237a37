//! Where messages stay. Every backend keeps what this file promises and is held to it by one
//! conformance suite (`tests/it/store_conformance.rs`).

pub mod mongo;
mod rights;
pub mod sqlite;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::timeout;

pub use self::rights::Rights;
use crate::config::{StoreSettings, StoreUrl};
use crate::message::{Message, MessageId, RoomName, Span, UsedKey, UserName};

/// Opens the store that the settings name and makes its tables, collections and indexes.
///
/// # Errors
/// [`StoreError::Misconfigured`] when a person has to change something first, and
/// [`StoreError::Unavailable`] when the store does not answer within the connect timeout.
pub async fn open(settings: &StoreSettings) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match &settings.url {
        StoreUrl::Sqlite(path) => Arc::new(sqlite::Sqlite::open(path, settings).await?),
        StoreUrl::Mongo { url, database } => {
            Arc::new(mongo::Mongo::open(url, database, settings).await?)
        }
    })
}

/// Keeps messages, once each, and reads them back in order. Indexes are made when it is opened.
pub trait Store: Send + Sync + 'static {
    /// Stores a batch. When this returns `Ok`, every message of the batch is durable (SQLite:
    /// synced to disk; MongoDB: journaled by a majority), was there already, or is in `refused`.
    /// Storing the same message again changes nothing and counts as success; another message under
    /// an id that is taken, told by its room, its sender and its key, is refused.
    ///
    /// # Errors
    /// [`StoreError`] when that cannot be said of the whole batch, which may then be partly
    /// stored: repeat it.
    fn insert<'a>(
        &'a self,
        batch: &'a [Arc<Message>],
    ) -> BoxFuture<'a, Result<Inserted, StoreError>>;

    /// Keeps what can never be stored as a message, with the reason. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`StoreError`] when the letters may not be kept.
    fn bury<'a>(&'a self, letters: &'a [DeadLetter]) -> BoxFuture<'a, Result<(), StoreError>>;

    /// A room's messages: oldest first, at most `limit`, cut as the span says, by an index scan.
    ///
    /// # Errors
    /// [`StoreError`] when the store does not answer within its deadline.
    fn history<'a>(
        &'a self,
        room: &'a RoomName,
        span: Span,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Message>, StoreError>>;

    /// Which of these messages are stored.
    ///
    /// # Errors
    /// [`StoreError`] when the store does not answer within its deadline.
    fn stored<'a>(
        &'a self,
        ids: &'a [MessageId],
    ) -> BoxFuture<'a, Result<Vec<MessageId>, StoreError>>;

    /// The greatest id in the store, over all rooms.
    ///
    /// # Errors
    /// [`StoreError`] when the store does not answer within its deadline.
    fn newest(&self) -> BoxFuture<'_, Result<Option<MessageId>, StoreError>>;

    /// The idempotency keys of the messages after this one, over all rooms, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when the store does not answer within its deadline.
    fn keys_after(&self, id: MessageId) -> BoxFuture<'_, Result<Vec<UsedKey>, StoreError>>;

    /// Makes what [`Self::rights`] reads: the collection's index, or the table. Repeating it changes
    /// nothing. Whoever never asks for rights need not call it, and then nothing is made.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] when what is there cannot be used so, and
    /// [`StoreError::Unavailable`] when the store does not answer within its deadline.
    fn prepare_rights(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// What a user may do in a room, by the memberships that the application writes beside the
    /// messages. No membership, and one that cannot be understood, is no right.
    ///
    /// # Errors
    /// [`StoreError`] when the store does not answer within its deadline.
    fn rights<'a>(
        &'a self,
        room: &'a RoomName,
        user: &'a UserName,
    ) -> BoxFuture<'a, Result<Rights, StoreError>>;

    /// Asks the backend for a sign of life.
    ///
    /// # Errors
    /// [`StoreError`] when the store does not answer within its deadline.
    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// Why a message is refused whose id another has. A Redis that lost what it had accepted, and whose
/// clock ran back, may give an id again.
const ANOTHER: &str = "another message has this id";

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inserted {
    /// How many were new.
    pub stored: usize,
    /// How many were there already.
    pub duplicates: usize,
    /// Those that the backend will never take, each with its reason.
    pub refused: Vec<(MessageId, String)>,
}

/// What can never be stored as a message.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The id that the broker gave.
    pub id: MessageId,
    /// Why it was refused.
    pub reason: String,
    /// The message where it could be read, else what the journal had in its place. A backend may
    /// cut a body that is too large for it, and says so in the reason.
    pub content: Result<Arc<Message>, Vec<u8>>,
}

/// Why a store could not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL or what the backend is set up as cannot work: a person has to change something.
    #[error("{0}")]
    Misconfigured(String),
    /// The backend did not answer as it should; it may later.
    #[error("{0}")]
    Unavailable(String),
}

/// Runs an operation within its deadline; `name` is who did not answer.
fn within<'a, T: Send + 'a>(
    deadline: Duration,
    name: impl fmt::Display + Send + 'a,
    operation: impl Future<Output = Result<T, StoreError>> + Send + 'a,
) -> BoxFuture<'a, Result<T, StoreError>> {
    let late = move |_| {
        Err(StoreError::Unavailable(format!(
            "{name} did not answer within {deadline:?}"
        )))
    };
    async move { timeout(deadline, operation).await.unwrap_or_else(late) }.boxed()
}
