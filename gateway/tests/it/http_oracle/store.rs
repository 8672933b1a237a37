//! A store that holds what it is given for as long as a case lasts, on no thread or disk: a virtual
//! clock does not wait for those.

use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use shared::message::{Message, MessageId, RoomName, Span, UsedKey, UserName};
use shared::store::{DeadLetter, Inserted, Rights, Store, StoreError};

#[derive(Default)]
pub(super) struct Held(Mutex<Vec<Arc<Message>>>);

fn at_once<'a, T: Send + 'a>(answer: T) -> BoxFuture<'a, Result<T, StoreError>> {
    ready(Ok(answer)).boxed()
}

impl Store for Held {
    fn insert<'a>(
        &'a self,
        batch: &'a [Arc<Message>],
    ) -> BoxFuture<'a, Result<Inserted, StoreError>> {
        let mut held = self.0.lock().unwrap();
        let mut inserted = Inserted::default();
        for message in batch {
            if held.iter().any(|other| other.id == message.id) {
                inserted.duplicates += 1;
            } else {
                held.push(Arc::clone(message));
                inserted.stored += 1;
            }
        }
        held.sort_by_key(|message| message.id);
        at_once(inserted)
    }

    fn bury<'a>(&'a self, _: &'a [DeadLetter]) -> BoxFuture<'a, Result<(), StoreError>> {
        at_once(())
    }

    fn history<'a>(
        &'a self,
        room: &'a RoomName,
        span: Span,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Message>, StoreError>> {
        let held = self.0.lock().unwrap();
        let fits = |message: &&Arc<Message>| message.room == *room && span.contains(message.id);
        let page = held.iter().filter(fits).map(|message| (**message).clone());
        let mut page = page.collect();
        span.cut(&mut page, limit);
        at_once(page)
    }

    fn stored<'a>(
        &'a self,
        ids: &'a [MessageId],
    ) -> BoxFuture<'a, Result<Vec<MessageId>, StoreError>> {
        let held = self.0.lock().unwrap();
        let is_held = |id: &&MessageId| held.iter().any(|message| message.id == **id);
        at_once(ids.iter().filter(is_held).copied().collect())
    }

    fn newest(&self) -> BoxFuture<'_, Result<Option<MessageId>, StoreError>> {
        at_once(self.0.lock().unwrap().last().map(|message| message.id))
    }

    fn keys_after(&self, _: MessageId) -> BoxFuture<'_, Result<Vec<UsedKey>, StoreError>> {
        at_once(Vec::new())
    }

    fn prepare_rights(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        at_once(())
    }

    fn rights<'a>(
        &'a self,
        _: &'a RoomName,
        _: &'a UserName,
    ) -> BoxFuture<'a, Result<Rights, StoreError>> {
        at_once(Rights::default())
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        at_once(())
    }
}
