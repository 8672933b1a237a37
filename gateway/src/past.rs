//! The past of a room, read from wherever it is: the broker has what no store may have yet, the
//! store has the rest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use shared::broker::Broker;
use shared::message::{Message, MessageId, RoomName, Span};
use shared::store::Store;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Readings at one time; more wait. After a restart of a gateway all its clients ask at once, and
/// the broker and the store have other work.
const READINGS: usize = 32;

/// How long a reading waits for its turn.
const TURN: Duration = Duration::from_secs(10);

/// Reads rooms' pasts, a bounded number at a time.
pub struct Past {
    broker: Arc<dyn Broker>,
    store: Arc<dyn Store>,
    turns: Semaphore,
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

impl Past {
    /// Reads from these two.
    pub fn new(broker: Arc<dyn Broker>, store: Arc<dyn Store>) -> Self {
        Self {
            broker,
            store,
            turns: Semaphore::new(READINGS),
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
        let turn = timeout(TURN, self.turns.acquire()).await;
        let _turn = turn.ok().and_then(Result::ok).ok_or(PastError::Busy)?;

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
