//! The bounded queue of MESSAGEs between the hub and one connection.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::{Notify, mpsc};

use shared::metrics::GatewayMetrics;

use crate::close::CloseReason;
use crate::session::output::{Encoded, Slot};

/// The most MESSAGEs that wait, whatever their size.
const MAX_MESSAGES: usize = 8_192;

/// What a queued MESSAGE costs beside its frame, which it shares with others.
const OVERHEAD: usize = 64;

/// Makes an outbox that holds at most `max_bytes` octets.
pub fn outbox(max_bytes: usize, metrics: Arc<GatewayMetrics>) -> (Outbox, Deliveries) {
    let (sender, receiver) = mpsc::channel(MAX_MESSAGES);
    let state = Arc::new(State {
        bytes: AtomicUsize::new(0),
        max_bytes,
        cut: OnceLock::new(),
        cut_raised: Notify::new(),
        metrics,
    });
    (Outbox { sender, state }, Deliveries { receiver })
}

/// The hub's end.
#[derive(Clone, Debug)]
pub struct Outbox {
    sender: mpsc::Sender<Delivery>,
    state: Arc<State>,
}

/// The connection's end.
#[derive(Debug)]
pub struct Deliveries {
    receiver: mpsc::Receiver<Delivery>,
}

/// A MESSAGE on its way to a subscription. It counts against the outbox until it is dropped.
#[derive(Debug)]
pub struct Delivery {
    /// The subscription.
    pub slot: Slot,
    /// The frame, shared by all subscriptions with the same address.
    pub encoded: Arc<Encoded>,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    bytes: AtomicUsize,
    max_bytes: usize,
    cut: OnceLock<CloseReason>,
    cut_raised: Notify,
    metrics: Arc<GatewayMetrics>,
}

impl Outbox {
    /// Queues a MESSAGE, or cuts the connection as too slow. Never blocks.
    ///
    /// After a cut it queues nothing: a later MESSAGE behind one that was dropped would hide the
    /// hole from a client that comes back with `after` the last one it saw.
    pub fn push(&self, slot: Slot, encoded: Arc<Encoded>) {
        if self.state.cut.get().is_some() {
            return;
        }
        let delivery = Delivery::new(slot, encoded, Arc::clone(&self.state));
        let over = self.state.bytes.load(Ordering::Relaxed) > self.state.max_bytes;
        if over
            || matches!(
                self.sender.try_send(delivery),
                Err(mpsc::error::TrySendError::Full(_))
            )
        {
            self.cut(CloseReason::SlowConsumer);
        }
    }

    /// Whether more waits than a quarter of what there is room for, and somebody may still read it.
    pub(crate) fn is_crowded(&self) -> bool {
        let has_many = self.state.bytes.load(Ordering::Relaxed) > self.state.max_bytes / 4
            || self.sender.capacity() < MAX_MESSAGES * 3 / 4;
        has_many && self.state.cut.get().is_none()
    }

    /// Ends the connection; the first reason stays.
    pub fn cut(&self, reason: CloseReason) {
        if self.state.cut.set(reason).is_ok() {
            self.state.cut_raised.notify_one();
        }
    }

    /// Resolves when the connection is to end. Safe to cancel.
    pub async fn until_cut(&self) -> CloseReason {
        loop {
            if let Some(reason) = self.state.cut.get() {
                return *reason;
            }
            self.state.cut_raised.notified().await;
        }
    }

    /// Whether both ends belong together.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }
}

impl Deliveries {
    /// The next MESSAGE. Safe to cancel.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.receiver.recv().await
    }

    /// The next MESSAGE where one waits.
    pub fn try_next(&mut self) -> Option<Delivery> {
        self.receiver.try_recv().ok()
    }
}

impl Delivery {
    fn new(slot: Slot, encoded: Arc<Encoded>, state: Arc<State>) -> Self {
        let size = encoded.frame.len() + OVERHEAD;
        state.bytes.fetch_add(size, Ordering::Relaxed);
        state.metrics.outbox_bytes.add(size as i64);
        Self {
            slot,
            encoded,
            state,
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let size = self.encoded.frame.len() + OVERHEAD;
        self.state.bytes.fetch_sub(size, Ordering::Relaxed);
        self.state.metrics.outbox_bytes.sub(size as i64);
    }
}
