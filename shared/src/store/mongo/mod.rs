//! Messages in MongoDB: the collection `messages`, and `dead_letters` and `memberships` beside it.
//!
//! What is written is acknowledged by a majority and in its journals (`w: majority, j: true`).
//! What is read has been acknowledged by a majority too: a primary may show a write before that,
//! and lose it again in a failover. On the primary, a write that was acknowledged so is in every
//! such read that follows.

mod document;
mod failure;
mod memberships;
mod setup;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bson::{Document, RawDocumentBuf, doc};
use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use mongodb::options::Hint;
use mongodb::{Collection, Database};

use self::document::Identity;
use self::failure::{WriteFailure, failure};
use super::{ANOTHER, DeadLetter, Inserted, Rights, Store, StoreError, within};
use crate::config::StoreSettings;
use crate::message::{Message, MessageId, RoomName, Span, UsedKey, UserName};

/// The collection of messages.
pub const MESSAGES: &str = "messages";

/// The collection of what can never be a message.
pub const DEAD_LETTERS: &str = "dead_letters";

/// The collection of what users may do in rooms. The application writes it.
pub const MEMBERSHIPS: &str = "memberships";

/// The largest document that a server takes, in octets. The driver fails a whole batch for one
/// that is larger, so those are kept from it.
const MAX_DOCUMENT: usize = 16 << 20;

/// A store in MongoDB.
pub struct Mongo {
    database: Database,
    messages: Collection<RawDocumentBuf>,
    dead_letters: Collection<RawDocumentBuf>,
    memberships: Collection<RawDocumentBuf>,
    deadline: Duration,
}

impl Mongo {
    /// Connects, and makes the indexes.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when no primary answers within the connect timeout, and
    /// [`StoreError::Misconfigured`] when the URL or the user's rights have to be changed first.
    pub async fn open(
        url: &str,
        database: &str,
        settings: &StoreSettings,
    ) -> Result<Self, StoreError> {
        setup::open(url, database, settings).await
    }

    async fn insert_all(&self, batch: &[Arc<Message>]) -> Result<Inserted, StoreError> {
        let mut inserted = Inserted::default();
        let mut messages = Vec::with_capacity(batch.len());
        let mut documents = Vec::with_capacity(batch.len());
        for message in batch {
            let encoded = document::encode(message);
            let size = encoded.as_bytes().len();
            if size > MAX_DOCUMENT {
                let reason = format!("a document of {size} octets: at most {MAX_DOCUMENT} fit");
                inserted.refused.push((message.id, reason));
            } else {
                messages.push(message);
                documents.push(encoded);
            }
        }
        if documents.is_empty() {
            return Ok(inserted);
        }
        let Err(error) = self.messages.insert_many(&documents).ordered(false).await else {
            inserted.stored = documents.len();
            return Ok(inserted);
        };
        let WriteFailure {
            duplicates,
            doubtful,
            mut refused,
        } = WriteFailure::of(error)?;
        inserted.stored = documents.len() - duplicates.len() - doubtful.len() - refused.len();
        let known = duplicates
            .iter()
            .chain(doubtful.iter().map(|(index, _)| index));
        let known: Vec<_> = known.map(|index| messages[*index].id).collect();
        let present = self.identities(&known).await?;
        for index in duplicates {
            match present.get(&messages[index].id) {
                Some(identity) if !identity.is_of(messages[index]) => {
                    refused.push((index, ANOTHER.into()));
                }
                _ => inserted.duplicates += 1,
            }
        }
        for (index, reason) in doubtful {
            match present.get(&messages[index].id) {
                Some(identity) if identity.is_of(messages[index]) => inserted.duplicates += 1,
                Some(_) => refused.push((index, ANOTHER.into())),
                None => refused.push((index, reason)),
            }
        }
        let refused = refused.into_iter();
        inserted
            .refused
            .extend(refused.map(|(index, reason)| (messages[index].id, reason)));
        Ok(inserted)
    }

    /// Whose these ids are, of those that are there.
    async fn identities(
        &self,
        ids: &[MessageId],
    ) -> Result<HashMap<MessageId, Identity>, StoreError> {
        let ids: Vec<_> = ids.iter().map(|id| document::uuid(*id)).collect();
        let found = self
            .messages
            .find(doc! { "_id": { "$in": ids } })
            .projection(doc! { "room": 1, "sender": 1, "idempotencyKey": 1 })
            .max_time(self.deadline)
            .await
            .map_err(failure)?;
        let found: Vec<_> = found.try_collect().await.map_err(failure)?;
        let identity = |found: &RawDocumentBuf| Some((document::id(found)?, Identity::of(found)));
        Ok(found.iter().filter_map(identity).collect())
    }

    async fn bury_all(&self, letters: &[DeadLetter]) -> Result<(), StoreError> {
        if letters.is_empty() {
            return Ok(());
        }
        let documents: Vec<_> = letters.iter().map(document::encode_letter).collect();
        let Err(error) = self
            .dead_letters
            .insert_many(&documents)
            .ordered(false)
            .await
        else {
            return Ok(());
        };
        let failed = WriteFailure::of(error)?;
        let doubtful: Vec<_> = failed
            .doubtful
            .iter()
            .map(|(index, _)| letters[*index].id)
            .collect();
        let present = present(&self.dead_letters, &doubtful, self.deadline).await?;
        let lost = |(index, _): &(usize, String)| !present.contains(&letters[*index].id);
        match failed
            .refused
            .into_iter()
            .chain(failed.doubtful.into_iter().filter(lost))
            .next()
        {
            Some((_, reason)) => Err(StoreError::Misconfigured(format!(
                "MongoDB refuses a document in {DEAD_LETTERS}: {reason}"
            ))),
            None => Ok(()),
        }
    }

    async fn read(
        &self,
        room: &RoomName,
        span: Span,
        limit: usize,
    ) -> Result<Vec<Message>, StoreError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let Query {
            filter,
            sort,
            index,
        } = Query::history(room, span);
        let found = self
            .messages
            .find(filter)
            .sort(sort)
            .hint(Hint::Keys(index))
            .limit(i64::try_from(limit).unwrap_or(i64::MAX))
            // One more than the limit, so that the server closes the cursor with the first reply.
            .batch_size(u32::try_from(limit).unwrap_or(u32::MAX).saturating_add(1))
            .max_time(self.deadline)
            .await
            .map_err(failure)?;
        let found: Vec<_> = found.try_collect().await.map_err(failure)?;
        let mut messages: Vec<_> = found
            .iter()
            .filter_map(|found| document::decode(found))
            .collect();
        if !matches!(span, Span::After(_)) {
            messages.reverse();
        }
        Ok(messages)
    }

    fn within<'a, T: Send + 'a>(
        &'a self,
        operation: impl Future<Output = Result<T, StoreError>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        within(self.deadline, "MongoDB", operation)
    }
}

impl Store for Mongo {
    fn insert<'a>(
        &'a self,
        batch: &'a [Arc<Message>],
    ) -> BoxFuture<'a, Result<Inserted, StoreError>> {
        self.within(self.insert_all(batch))
    }

    fn bury<'a>(&'a self, letters: &'a [DeadLetter]) -> BoxFuture<'a, Result<(), StoreError>> {
        self.within(self.bury_all(letters))
    }

    fn history<'a>(
        &'a self,
        room: &'a RoomName,
        span: Span,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Message>, StoreError>> {
        self.within(self.read(room, span, limit))
    }

    fn stored<'a>(
        &'a self,
        ids: &'a [MessageId],
    ) -> BoxFuture<'a, Result<Vec<MessageId>, StoreError>> {
        self.within(present(&self.messages, ids, self.deadline))
    }

    fn newest(&self) -> BoxFuture<'_, Result<Option<MessageId>, StoreError>> {
        self.within(async {
            // The bound keeps to ids of this kind, whatever else was put into the collection.
            let found = self
                .messages
                .find_one(doc! { "_id": { "$lte": document::greatest_uuid() } })
                .sort(doc! { "_id": -1 })
                .projection(doc! { "_id": 1 })
                .max_time(self.deadline)
                .await
                .map_err(failure)?;
            Ok(found.and_then(|found| document::id(&found)))
        })
    }

    fn keys_after(&self, id: MessageId) -> BoxFuture<'_, Result<Vec<UsedKey>, StoreError>> {
        self.within(async move {
            let after = doc! { "$gt": document::uuid(id), "$lte": document::greatest_uuid() };
            let found = self
                .messages
                .find(doc! { "_id": after, "idempotencyKey": { "$exists": true } })
                .sort(doc! { "_id": 1 })
                .projection(doc! { "room": 1, "sender": 1, "idempotencyKey": 1 })
                .max_time(self.deadline)
                .await
                .map_err(failure)?;
            let found: Vec<_> = found.try_collect().await.map_err(failure)?;
            Ok(found
                .iter()
                .filter_map(|found| document::used_key(found))
                .collect())
        })
    }

    fn prepare_rights(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.within(memberships::prepare(self))
    }

    fn rights<'a>(
        &'a self,
        room: &'a RoomName,
        user: &'a UserName,
    ) -> BoxFuture<'a, Result<Rights, StoreError>> {
        self.within(memberships::rights(self, room, user))
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.within(async {
            self.database
                .run_command(doc! { "ping": 1 })
                .await
                .map(drop)
                .map_err(failure)
        })
    }
}

/// Which of these ids are in a collection.
async fn present(
    collection: &Collection<RawDocumentBuf>,
    ids: &[MessageId],
    deadline: Duration,
) -> Result<Vec<MessageId>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<_> = ids.iter().map(|id| document::uuid(*id)).collect();
    let found = collection
        .find(doc! { "_id": { "$in": ids } })
        .projection(doc! { "_id": 1 })
        .max_time(deadline)
        .await
        .map_err(failure)?;
    let found: Vec<_> = found.try_collect().await.map_err(failure)?;
    Ok(found
        .iter()
        .filter_map(|found| document::id(found))
        .collect())
}

/// The query that reads a span of a room's history by an index scan.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Which documents.
    pub filter: Document,
    /// In which order: newest first unless the span is [`Span::After`].
    pub sort: Document,
    /// The index to read. It is named, because for a quiet room in a busy collection the server
    /// may otherwise try the ids of all rooms.
    pub index: Document,
}

impl Query {
    /// The query for a span of a room.
    pub fn history(room: &RoomName, span: Span) -> Self {
        let room = room.as_str();
        let (filter, direction) = match span {
            Span::After(id) => (
                doc! { "room": room, "_id": { "$gt": document::uuid(id) } },
                1,
            ),
            Span::Before(id) => (
                doc! { "room": room, "_id": { "$lt": document::uuid(id) } },
                -1,
            ),
            Span::Newest => (doc! { "room": room }, -1),
        };
        // The room is part of the order so that it is the index's own order.
        let sort = doc! { "room": direction, "_id": direction };
        Self {
            filter,
            sort,
            index: doc! { "room": 1, "_id": 1 },
        }
    }
}
