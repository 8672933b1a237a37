//! The past of a room, read from wherever it is: the broker has what no store may have yet, the
//! store has the rest.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, Shared, WeakShared};
use shared::broker::Broker;
use shared::config::{Protection, Without};
use shared::message::{Message, MessageId, RoomName, Span};
use shared::store::Store;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// Readings at one time; more wait. After a restart of a gateway all its clients ask at once, and
/// the broker and the store have other work.
const READINGS: usize = 32;

/// How long a reading waits for its turn.
const TURN: Duration = Duration::from_secs(10);

/// How long a subscription's reading waits for its turn: sent away, its client would come back and
/// ask again.
const SUBSCRIPTION_TURN: Duration = Duration::from_secs(60);

/// Reads rooms' pasts, a bounded number at a time.
pub struct Past {
    broker: Arc<dyn Broker>,
    store: Arc<dyn Store>,
    turns: Semaphore,
    /// Readings that wait for their turn, for whoever wants the same.
    waiting: Mutex<HashMap<Wanted, WeakShared<Reading>>>,
}

/// A part of a room's past.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PastPage {
    /// Oldest first, each once.
    pub messages: Vec<Arc<Message>>,
    /// No accepted message that the span and limit name is missing. At-most-once brokers keep
    /// nothing, so that with them this speaks of what reached the store.
    pub complete: bool,
}

/// What came after a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Since {
    /// What came after it.
    pub(crate) page: PastPage,
    /// The message is in the room. What is complete and begins nowhere proves nothing: the message
    /// may have gone with a server of the broker's, and others have taken its place.
    pub(crate) is_known: bool,
    /// A message names one before it that is neither in the broker nor in the store.
    pub(crate) has_hole: bool,
}

impl Since {
    /// What a reading has found that begins at a message, one more than at most so many.
    fn from_page(mut page: PastPage, after: MessageId, limit: usize) -> Self {
        let is_known = page.messages.first().is_some_and(|first| first.id == after);
        if is_known {
            page.messages.remove(0);
        } else {
            page.messages.truncate(limit);
        }
        let has_hole = has_hole(after, &page.messages);
        Self {
            page,
            is_known,
            has_hole,
        }
    }

    /// It is certain that nothing is missing.
    pub(crate) fn is_whole(&self) -> bool {
        self.page.complete && self.is_known && !self.has_hole
    }
}

impl From<PastPage> for Since {
    /// What a reading that comes after no message has found.
    fn from(page: PastPage) -> Self {
        Self {
            page,
            is_known: true,
            has_hole: false,
        }
    }
}

/// Why there is no past to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PastError {
    /// Neither the broker nor the store answered.
    #[error("neither the broker nor the store can be asked")]
    Unavailable,
    /// Too many others are reading.
    #[error("too many are reading at the moment")]
    Busy,
}

type Wanted = (RoomName, MessageId, usize);

type Reading = BoxFuture<'static, Result<Since, PastError>>;

impl Past {
    /// Reads from these two.
    pub fn new(broker: Arc<dyn Broker>, store: Arc<dyn Store>, without: &Without) -> Self {
        let readings = if without.has(Protection::BoundedReadings) {
            Semaphore::MAX_PERMITS
        } else {
            READINGS
        };
        Self {
            broker,
            store,
            turns: Semaphore::new(readings),
            waiting: Mutex::default(),
        }
    }

    /// At most `limit` messages of a room, cut as the span says.
    ///
    /// It takes no longer than waiting for a turn (10 s) and the deadlines of the broker and of the
    /// store.
    ///
    /// # Errors
    /// [`PastError`] when nothing could be read; when only one of the two could be, the page is
    /// what that one has, and incomplete.
    pub async fn read(
        &self,
        room: &RoomName,
        span: Span,
        limit: usize,
    ) -> Result<PastPage, PastError> {
        let _turn = self.turn(TURN).await?;
        self.read_now(room, span, limit).await
    }

    /// [`Self::read`] for a subscription, which waits longer for its turn (60 s).
    pub(crate) async fn attach(
        &self,
        room: &RoomName,
        span: Span,
        limit: usize,
    ) -> Result<PastPage, PastError> {
        let _turn = self.turn(SUBSCRIPTION_TURN).await?;
        self.read_now(room, span, limit).await
    }

    /// At most `limit` messages that came after this one, for a subscription. Those who ask for the
    /// same before its turn (60 s) share one reading: when a gateway ends, all members of a room
    /// come back after the same message.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) async fn since(
        self: &Arc<Self>,
        room: RoomName,
        after: MessageId,
        limit: usize,
    ) -> Result<Since, PastError> {
        let reading = self.join(room, after, limit);
        reading.await
    }

    /// [`Self::since`] without waiting for a turn, for who bounds its readings itself.
    pub(crate) async fn since_now(
        &self,
        room: &RoomName,
        after: MessageId,
        limit: usize,
    ) -> Result<Since, PastError> {
        if after == MessageId::MIN {
            let page = self.read_now(room, Span::After(after), limit).await?;
            let has_hole = has_hole(after, &page.messages);
            return Ok(Since {
                has_hole,
                ..page.into()
            });
        }
        let span = Span::After(after.before());
        let page = self.read_now(room, span, limit + 1).await?;
        Ok(Since::from_page(page, after, limit))
    }

    /// [`Self::since_now`] of the broker's recent window alone. `None` where the message is not in
    /// it, or the broker does not answer.
    pub(crate) async fn since_in_window(
        &self,
        room: &RoomName,
        after: MessageId,
        limit: usize,
    ) -> Option<Since> {
        if self.broker.guarantees().shows_stored_only() {
            return None;
        }
        let span = Span::After(after.before());
        let recent = self.broker.recent(room, span, limit + 1).await.ok()?;
        let page = PastPage {
            messages: recent.messages,
            complete: recent.complete,
        };
        Some(Since::from_page(page, after, limit)).filter(Since::is_whole)
    }

    fn join(self: &Arc<Self>, room: RoomName, after: MessageId, limit: usize) -> Shared<Reading> {
        let wanted = (room, after, limit);
        let mut waiting = self.waiting();
        if let Some(reading) = waiting.get(&wanted).and_then(WeakShared::upgrade) {
            return reading;
        }
        let place = Waiting {
            past: Arc::clone(self),
            wanted: wanted.clone(),
        };
        let reading = async move {
            let past = Arc::clone(&place.past);
            let (room, after, limit) = place.wanted.clone();
            let _turn = past.turn(SUBSCRIPTION_TURN).await?;
            // Who asks from now on may have joined its room since, and must read for itself.
            drop(place);
            past.since_now(&room, after, limit).await
        };
        let reading = reading.boxed().shared();
        if let Some(weak) = reading.downgrade() {
            waiting.insert(wanted, weak);
        }
        reading
    }

    async fn turn(&self, patience: Duration) -> Result<SemaphorePermit<'_>, PastError> {
        let turn = timeout(patience, self.turns.acquire()).await;
        turn.ok().and_then(Result::ok).ok_or(PastError::Busy)
    }

    async fn read_now(
        &self,
        room: &RoomName,
        span: Span,
        limit: usize,
    ) -> Result<PastPage, PastError> {
        if self.broker.guarantees().shows_stored_only() {
            let stored = self.store.history(room, span, limit).await;
            let stored = stored.map_err(|_| PastError::Unavailable)?;
            let messages = stored.into_iter().map(Arc::new).collect();
            return Ok(PastPage {
                messages,
                complete: true,
            });
        }
        // The broker first: what leaves it meanwhile is in the store by then.
        let recent = self.broker.recent(room, span, limit).await;
        let recent =
            recent.inspect_err(|error| tracing::debug!(%error, "recent messages not read"));
        if let Ok(recent) = &recent
            && recent.complete
        {
            return Ok(PastPage {
                messages: recent.messages.clone(),
                complete: true,
            });
        }
        let horizon = recent.as_ref().ok().and_then(|recent| recent.horizon);
        let stored = self.store.history(room, within(span, horizon), limit).await;
        let stored = stored.inspect_err(|error| tracing::debug!(%error, "history not read"));
        if recent.is_err() && stored.is_err() {
            return Err(PastError::Unavailable);
        }
        let broker_counts = self.broker.guarantees().journaled;
        let complete = stored.is_ok() && (recent.is_ok() || !broker_counts);
        let recent = recent.map(|recent| recent.messages).unwrap_or_default();
        let stored = stored.unwrap_or_default();
        let messages = merge(recent, stored, horizon, span, limit);
        Ok(PastPage { messages, complete })
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Wanted, WeakShared<Reading>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reading's place among those that wait; dropping it makes it private.
struct Waiting {
    past: Arc<Past>,
    wanted: Wanted,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.past.waiting().remove(&self.wanted);
    }
}

/// Whether one of these, which come after this message, names one before it that is not there.
/// What the store alone has names none, and proves nothing.
fn has_hole(mut before: MessageId, messages: &[Arc<Message>]) -> bool {
    messages.iter().any(|message| {
        let misses = message.prev > Some(before);
        before = message.id;
        misses
    })
}

/// The span of what the store has without holes.
fn within(span: Span, horizon: Option<MessageId>) -> Span {
    match (span, horizon) {
        (Span::Newest, Some(horizon)) => Span::Before(horizon),
        (Span::Before(bound), Some(horizon)) => Span::Before(bound.min(horizon)),
        (Span::After(_), _) | (_, None) => span,
    }
}

/// What either has, each message once, cut as the span says. Where both have it, the broker's
/// is taken, which knows the message before it.
///
/// What lies beyond the horizon was accepted since the reading began, and is left out: the store
/// may have it and not yet what came before it. It comes live, or with the next page.
fn merge(
    recent: Vec<Arc<Message>>,
    stored: Vec<Message>,
    horizon: Option<MessageId>,
    span: Span,
    limit: usize,
) -> Vec<Arc<Message>> {
    let stored = stored.into_iter().map(Arc::new);
    let by_id: BTreeMap<MessageId, Arc<Message>> = stored
        .chain(recent)
        .map(|message| (message.id, message))
        .filter(|(id, _)| horizon.is_none_or(|horizon| *id < horizon))
        .collect();
    let mut messages: Vec<_> = by_id.into_values().collect();
    span.cut(&mut messages, limit);
    messages
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use shared::message::{Message, MessageId, RoomName, Span, Stamp, UserName};

    use super::{merge, within};

    fn message(number: usize) -> Message {
        Message {
            id: id(number),
            room: RoomName::parse("room").unwrap(),
            sender: UserName::parse("sender").unwrap(),
            content_type: None,
            headers: Vec::new(),
            body: Bytes::new(),
            idempotency_key: None,
            prev: None,
            ephemeral: false,
        }
    }

    fn id(number: usize) -> MessageId {
        MessageId::new(
            Stamp {
                ms: number as u64 / 3,
                seq: number as u64 % 3,
            },
            0,
        )
    }

    /// What a backend that has these messages answers.
    fn answer(numbers: impl Iterator<Item = usize>, span: Span, limit: usize) -> Vec<Message> {
        let mut messages: Vec<_> = numbers
            .map(message)
            .filter(|message| span.contains(message.id))
            .collect();
        span.cut(&mut messages, limit);
        messages
    }

    fn spans() -> impl Strategy<Value = Span> {
        prop_oneof![
            Just(Span::Newest),
            (0..40_usize).prop_map(|number| Span::After(id(number))),
            (0..40_usize).prop_map(|number| Span::Before(id(number))),
        ]
    }

    proptest! {
        #[test]
        fn a_page_is_the_same_wherever_its_messages_lie(
            // Whether the broker has it, whether the store has it; one of the two does.
            places in vec(prop_oneof![Just((true, false)), Just((false, true)), Just((true, true))], 0..40),
            // What was accepted while it was read: the store has some of it already.
            since in vec(any::<bool>(), 0..10),
            span in spans(),
            limit in 1..20_usize,
        ) {
            let horizon = Some(id(places.len()));
            let having = |broker: bool| {
                let has = places.iter().map(move |place| if broker { place.0 } else { place.1 });
                let since = since.iter().map(move |stored| *stored && !broker);
                let has = has.chain(since);
                has.enumerate().filter_map(|(number, has)| has.then_some(number))
            };
            let recent = answer(having(true), span, limit).into_iter().map(Arc::new).collect();
            let stored = answer(having(false), within(span, horizon), limit);
            let whole = answer(0..places.len(), span, limit);
            let merged: Vec<_> =
                merge(recent, stored, horizon, span, limit).iter().map(|message| message.id).collect();
            prop_assert_eq!(merged, whole.iter().map(|message| message.id).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_broker_knows_the_message_before() {
        let with_prev = Message {
            prev: Some(id(1)),
            ..message(2)
        };
        let merged = merge(
            vec![Arc::new(with_prev)],
            vec![message(2)],
            None,
            Span::Newest,
            10,
        );
        assert_eq!(merged.len(), 1);
        assert_eq!(merged[0].prev, Some(id(1)));
    }
}
