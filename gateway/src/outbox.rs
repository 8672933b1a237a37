//! The bounded queue of MESSAGEs between the hub and one connection.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use shared::metrics::GatewayMetrics;

use crate::close::CloseReason;
use crate::session::output::{Encoded, Slot};

/// The most MESSAGEs that wait, whatever their size.
const MAX_MESSAGES: usize = 8_192;

/// What a queued MESSAGE costs beside its frame, which it shares with others.
const OVERHEAD: usize = 64;

/// What room for so many MESSAGEs takes is kept when they have gone.
const KEPT: usize = 32;

/// Makes an outbox that holds at most `max_bytes` octets.
pub fn outbox(max_bytes: usize, metrics: Arc<GatewayMetrics>) -> (Outbox, Deliveries) {
    let state = Arc::new(State {
        queue: Mutex::default(),
        bytes: AtomicUsize::new(0),
        max_bytes,
        cut: OnceLock::new(),
        metrics,
    });
    (
        Outbox {
            state: Arc::clone(&state),
        },
        Deliveries { state },
    )
}

/// The hub's end.
#[derive(Clone, Debug)]
pub struct Outbox {
    state: Arc<State>,
}

/// The connection's end.
#[derive(Debug)]
pub struct Deliveries {
    state: Arc<State>,
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
    queue: Mutex<Queue>,
    bytes: AtomicUsize,
    max_bytes: usize,
    cut: OnceLock<CloseReason>,
    metrics: Arc<GatewayMetrics>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(Slot, Arc<Encoded>)>,
    /// The connection's task, as long as it is there.
    waker: Option<Waker>,
    /// It is to be woken: it has looked, and waits. One that runs looks by itself before it does.
    asleep: bool,
    /// Nobody will read any more.
    closed: bool,
}

impl Outbox {
    /// Queues a MESSAGE, or cuts the connection as too slow. Never blocks.
    ///
    /// After a cut it queues nothing: a later MESSAGE behind one that was dropped would hide the
    /// hole from a client that comes back with `after` the last one it saw.
    pub fn push(&self, slot: Slot, encoded: Arc<Encoded>) {
        let state = &*self.state;
        let size = weight(&encoded);
        let mut queue = state.queue();
        if queue.closed || state.cut.get().is_some() {
            return;
        }
        let is_over = state.bytes.load(Ordering::Relaxed) + size > state.max_bytes;
        if is_over || queue.waiting.len() >= MAX_MESSAGES {
            drop(queue);
            return self.cut(CloseReason::SlowConsumer);
        }
        state.bytes.fetch_add(size, Ordering::Relaxed);
        state.metrics.outbox_bytes.add(size as i64);
        queue.waiting.push_back((slot, encoded));
        queue.wake();
    }

    /// Whether more waits than a quarter of what there is room for, and somebody may still read it.
    pub(crate) fn is_crowded(&self) -> bool {
        let has_many = self.state.bytes.load(Ordering::Relaxed) > self.state.max_bytes / 4
            || self.state.queue().waiting.len() > MAX_MESSAGES / 4;
        has_many && self.state.cut.get().is_none()
    }

    /// Ends the connection; the first reason stays.
    pub fn cut(&self, reason: CloseReason) {
        if self.state.cut.set(reason).is_ok() {
            self.state.queue().wake();
        }
    }

    /// Whether both ends belong together.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }
}

impl Deliveries {
    /// The next MESSAGE. Safe to cancel.
    pub async fn next(&mut self) -> Delivery {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next MESSAGE where one waits.
    pub fn try_next(&mut self) -> Option<Delivery> {
        let (slot, encoded) = self.state.queue().pop()?;
        Some(Delivery {
            slot,
            encoded,
            state: Arc::clone(&self.state),
        })
    }

    /// The next MESSAGE; where none waits, the task is woken for the next one, and for a cut.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Delivery> {
        let mut queue = self.state.queue();
        let Some((slot, encoded)) = queue.pop() else {
            queue.sleep(cx);
            return Poll::Pending;
        };
        drop(queue);
        Poll::Ready(Delivery {
            slot,
            encoded,
            state: Arc::clone(&self.state),
        })
    }

    /// Why the connection is to end; until it is, the task is woken for that, and for a MESSAGE.
    pub fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        // Whoever cuts says why first, and wakes then.
        self.state.queue().sleep(cx);
        match self.state.cut.get() {
            Some(reason) => Poll::Ready(*reason),
            None => Poll::Pending,
        }
    }

    /// The task runs, and looks by itself before it waits again: what is queued meanwhile need not
    /// wake it.
    pub(crate) fn awake(&mut self) {
        self.state.queue().asleep = false;
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        let mut queue = self.state.queue();
        queue.closed = true;
        queue.waker = None;
        queue.asleep = false;
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        for (_, encoded) in waiting {
            self.state.forget(&encoded);
        }
    }
}

impl State {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, encoded: &Encoded) {
        let size = weight(encoded);
        self.bytes.fetch_sub(size, Ordering::Relaxed);
        self.metrics.outbox_bytes.sub(size as i64);
    }
}

impl Queue {
    fn pop(&mut self) -> Option<(Slot, Arc<Encoded>)> {
        let next = self.waiting.pop_front();
        if self.waiting.is_empty() && self.waiting.capacity() > KEPT {
            self.waiting = VecDeque::new();
        }
        next
    }

    fn sleep(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.waker = Some(cx.waker().clone()),
        }
        self.asleep = true;
    }

    fn wake(&mut self) {
        if std::mem::take(&mut self.asleep)
            && let Some(waker) = &self.waker
        {
            waker.wake_by_ref();
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.state.forget(&self.encoded);
    }
}

fn weight(encoded: &Encoded) -> usize {
    encoded.frame.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use bytes::Bytes;
    use shared::message::{MessageId, Stamp};
    use shared::metrics::Metrics;

    use super::*;
    use crate::session::output::Outgoing;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Task {
        /// How often it was woken since it was last asked.
        fn woken(&self) -> usize {
            self.0.swap(0, Ordering::Relaxed)
        }
    }

    fn encoded(ms: u64) -> Arc<Encoded> {
        Arc::new(Encoded {
            id: MessageId::new(Stamp { ms, seq: 0 }, 0),
            frame: Outgoing::Text(Bytes::from_static(b"MESSAGE")),
            ephemeral: false,
        })
    }

    #[test]
    fn who_waits_is_woken_once_and_who_runs_is_not_and_neither_misses_anything() {
        let (outbox, mut deliveries) = outbox(1 << 20, Metrics::new().gateway);
        let task = Arc::new(Task::default());
        let waker = Waker::from(Arc::clone(&task));
        let mut cx = Context::from_waker(&waker);
        assert!(deliveries.poll_next(&mut cx).is_pending());
        outbox.push(Slot(0), encoded(1));
        outbox.push(Slot(0), encoded(2));
        assert_eq!(task.woken(), 1);
        for ms in [1, 2] {
            let next = deliveries.poll_next(&mut cx);
            assert!(matches!(next, Poll::Ready(next) if next.encoded == encoded(ms)));
        }
        assert!(deliveries.poll_next(&mut cx).is_pending());
        deliveries.awake();
        outbox.push(Slot(0), encoded(3));
        assert_eq!(task.woken(), 0, "it looks before it waits");
        assert!(deliveries.poll_next(&mut cx).is_ready());
        assert!(deliveries.poll_cut(&mut cx).is_pending());
        outbox.cut(CloseReason::SlowConsumer);
        assert_eq!(task.woken(), 1);
        assert_eq!(
            deliveries.poll_cut(&mut cx),
            Poll::Ready(CloseReason::SlowConsumer)
        );
    }

    #[test]
    fn what_nobody_will_read_is_counted_no_more() {
        let metrics = Metrics::new().gateway;
        let (outbox, deliveries) = outbox(1 << 20, Arc::clone(&metrics));
        outbox.push(Slot(0), encoded(1));
        assert!(metrics.outbox_bytes.get() > 0);
        drop(deliveries);
        outbox.push(Slot(0), encoded(2));
        assert_eq!(metrics.outbox_bytes.get(), 0);
        assert_eq!(outbox.state.bytes.load(Ordering::Relaxed), 0);
    }
}
