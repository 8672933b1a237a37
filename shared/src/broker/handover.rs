//! The bounded queue between a broker's link and the gateway: it never blocks the link, and what
//! does not fit is dropped and reported as a gap.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::{Notify, mpsc};

use super::Event;
use crate::message::Message;
use crate::metrics::BrokerMetrics;

/// The most events that wait, whatever their size.
const MAX_EVENTS: usize = 65_536;

/// The most octets of messages that wait.
pub const MAX_BYTES: usize = 64 << 20;

/// What a message costs beside its texts and its body.
const OVERHEAD: usize = 256;

/// Makes a hand-over that holds at most `max_bytes` octets of messages.
pub fn handover(max_bytes: usize, metrics: Arc<BrokerMetrics>) -> (Handover, Events) {
    let (sender, receiver) = mpsc::channel(MAX_EVENTS);
    let state = Arc::new(State::default());
    (
        Handover {
            sender,
            state: Arc::clone(&state),
            max_bytes,
            metrics,
        },
        Events {
            receiver,
            state,
            taken: None,
        },
    )
}

/// The link's end.
#[derive(Clone)]
pub struct Handover {
    sender: mpsc::Sender<Event>,
    state: Arc<State>,
    max_bytes: usize,
    metrics: Arc<BrokerMetrics>,
}

/// The gateway's end.
pub struct Events {
    receiver: mpsc::Receiver<Event>,
    state: Arc<State>,
    /// Out of the queue, and not out of here: a gap may have been raised before it was queued.
    taken: Option<Event>,
}

#[derive(Default)]
struct State {
    bytes: AtomicUsize,
    gap: AtomicBool,
    gap_raised: Notify,
}

impl Handover {
    /// Hands an event over, or drops it, counts it and raises a gap. A gap itself is never lost. An
    /// ephemeral message that is dropped is no gap: nothing that could be read is missing.
    pub fn offer(&self, event: Event) {
        if matches!(event, Event::Gap) {
            self.raise_gap();
            return;
        }
        let size = size(&event);
        let readable = !matches!(&event, Event::Message(message) if message.ephemeral);
        let waiting = self.state.bytes.fetch_add(size, Ordering::Relaxed);
        if waiting + size > self.max_bytes || self.sender.try_send(event).is_err() {
            self.state.bytes.fetch_sub(size, Ordering::Relaxed);
            self.metrics.handover_dropped.inc();
            if readable {
                self.raise_gap();
            }
        }
    }

    /// Whether the gateway has let go of its end.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits until the gateway lets go of its end.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    fn raise_gap(&self) {
        self.state.gap.store(true, Ordering::Release);
        self.state.gap_raised.notify_one();
    }
}

impl Events {
    /// The next event; a gap overtakes the messages that wait, because reading what was missed
    /// covers them too, and nothing that was offered after a gap comes before it. `None` when the
    /// link has been closed. Safe to cancel.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if self.state.gap.swap(false, Ordering::Acquire) {
                return Some(Event::Gap);
            }
            if let Some(event) = self.taken.take() {
                self.state.bytes.fetch_sub(size(&event), Ordering::Relaxed);
                return Some(event);
            }
            tokio::select! {
                biased;
                () = self.state.gap_raised.notified() => {}
                event = self.receiver.recv() => self.taken = Some(event?),
            }
        }
    }
}

/// What a message weighs in a queue, in octets.
pub fn weight(message: &Message) -> usize {
    let headers: usize = message.headers.iter().map(|(k, v)| k.len() + v.len()).sum();
    let names = message.room.as_str().len() + message.sender.as_str().len();
    let key = (message.idempotency_key.as_ref()).map_or(0, |key| key.as_str().len());
    let content_type = message.content_type.as_deref().map_or(0, str::len);
    OVERHEAD + message.body.len() + headers + names + key + content_type
}

fn size(event: &Event) -> usize {
    match event {
        Event::Message(message) => weight(message),
        Event::Stored(ids) => 16 * ids.len(),
        Event::Gap => 0,
    }
}
