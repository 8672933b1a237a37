//! Receipts that wait until a message is stored.
//!
//! The persister's notice releases them. A notice that is lost is made up for by asking the store
//! about what has waited too long. What the store does not have by the deadline is withheld.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use shared::message::MessageId;
use shared::metrics::GatewayMetrics;
use shared::store::Store;

/// How long a notice may take before the store is asked.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many notices are remembered that came before their receipt was waited for: a persister can
/// be faster than the broker's answer.
const EARLY: usize = 16_384;

/// The most ids that one question to the store names.
const QUESTION: usize = 1_000;

/// The receipts of one gateway that wait for the store.
pub(crate) struct Receipts {
    waiting: Mutex<Waiting>,
    deadline: Duration,
    metrics: Arc<GatewayMetrics>,
}

#[derive(Default)]
struct Waiting {
    by_id: HashMap<MessageId, Waiters>,
    early: HashSet<MessageId>,
    early_order: VecDeque<MessageId>,
}

struct Waiters {
    since: Instant,
    senders: Vec<oneshot::Sender<()>>,
}

impl Receipts {
    /// No receipts yet; each is waited for until `deadline`.
    pub(crate) fn new(deadline: Duration, metrics: Arc<GatewayMetrics>) -> Self {
        Self {
            waiting: Mutex::default(),
            deadline,
            metrics,
        }
    }

    /// Waits until the message is stored: `false` when the deadline has passed before the store
    /// has said so.
    pub(crate) async fn wait(&self, id: MessageId) -> bool {
        let Some(stored) = self.enter(id) else {
            return true;
        };
        let released = timeout(self.deadline, stored)
            .await
            .is_ok_and(|answer| answer.is_ok());
        if !released {
            self.metrics.receipts_withheld.inc();
        }
        released
    }

    /// These messages are stored.
    pub(crate) fn release(&self, ids: &[MessageId]) {
        let mut waiting = self.lock();
        for id in ids {
            match waiting.by_id.remove(id) {
                // A receiver that is gone has met its deadline.
                Some(waiters) => waiters
                    .senders
                    .into_iter()
                    .for_each(|sender| _ = sender.send(())),
                None => waiting.remember(*id),
            }
        }
    }

    /// Asks the store about what has waited too long, until `stop`.
    pub(crate) async fn repair(&self, store: Arc<dyn Store>, stop: CancellationToken) {
        let mut ticks = interval(PATIENCE / 2);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            for question in self.overdue().chunks(QUESTION) {
                match store.stored(question).await {
                    Ok(stored) => self.release(&stored),
                    Err(error) => {
                        tracing::debug!(%error, "the store cannot be asked about receipts");
                        break;
                    }
                }
            }
        }
    }

    fn enter(&self, id: MessageId) -> Option<oneshot::Receiver<()>> {
        let mut waiting = self.lock();
        if waiting.early.contains(&id) {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        let fresh = || Waiters {
            since: Instant::now(),
            senders: Vec::new(),
        };
        waiting
            .by_id
            .entry(id)
            .or_insert_with(fresh)
            .senders
            .push(sender);
        Some(receiver)
    }

    /// What the store is to be asked about. What nobody waits for any more, because the deadline has
    /// passed or the client has gone, is forgotten.
    fn overdue(&self) -> Vec<MessageId> {
        let now = Instant::now();
        let mut waiting = self.lock();
        waiting.by_id.retain(|_, waiters| {
            waiters.senders.retain(|sender| !sender.is_closed());
            !waiters.senders.is_empty()
        });
        let late = |waiters: &Waiters| now.duration_since(waiters.since) >= PATIENCE;
        waiting
            .by_id
            .iter()
            .filter(|(_, waiters)| late(waiters))
            .map(|(id, _)| *id)
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn remember(&mut self, id: MessageId) {
        if self.early.insert(id) {
            self.early_order.push_back(id);
        }
        if self.early_order.len() > EARLY
            && let Some(oldest) = self.early_order.pop_front()
        {
            self.early.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;
    use shared::message::Stamp;
    use shared::metrics::Metrics;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_receipt_whose_client_has_gone_is_forgotten() {
        let receipts = Receipts::new(Duration::from_secs(60), Metrics::new().gateway);
        let id = |ms| MessageId::new(Stamp { ms, seq: 0 }, 0);
        let mut staying = Box::pin(receipts.wait(id(1)));
        let mut leaving = Box::pin(receipts.wait(id(2)));
        assert!(poll!(&mut staying).is_pending() && poll!(&mut leaving).is_pending());
        tokio::time::advance(PATIENCE).await;
        drop(leaving);
        assert_eq!(receipts.overdue(), [id(1)]);
        receipts.release(&[id(1)]);
        assert!(staying.await);
    }
}
