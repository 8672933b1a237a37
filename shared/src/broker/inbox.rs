//! The queue of a feed that hears messages instead of reading them from a journal: bounded, and
//! what does not fit is lost and counted. That is the price of `--delivery at-most-once`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

use super::handover::weight;
use super::{Entry, IDLE_ANSWER};
use crate::metrics::BrokerMetrics;

/// The most octets of messages that wait.
const MAX_BYTES: usize = 64 << 20;

/// Takes entries without blocking and gives them out in batches.
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    metrics: Arc<BrokerMetrics>,
}

#[derive(Default)]
struct Waiting {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Inbox {
    pub(super) fn new(metrics: Arc<BrokerMetrics>) -> Self {
        Self {
            waiting: Mutex::default(),
            arrived: Notify::new(),
            metrics,
        }
    }

    /// Adds an entry, or drops and counts it.
    pub(super) fn offer(&self, entry: Entry) {
        let size = size(&entry);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.bytes + size > MAX_BYTES {
            self.metrics.feed_dropped.inc();
            return;
        }
        waiting.bytes += size;
        waiting.entries.push_back(entry);
        drop(waiting);
        self.arrived.notify_one();
    }

    /// The next entries, as [`super::Feed::next`] says. Safe to cancel.
    pub(super) async fn next(&self, max: usize, linger: Duration) -> Vec<Entry> {
        let idle = Instant::now() + IDLE_ANSWER;
        while self.len() == 0 {
            if timeout_at(idle, self.arrived.notified()).await.is_err() {
                return Vec::new();
            }
        }
        let until = Instant::now() + linger;
        while self.len() < max && Instant::now() < until {
            sleep((linger / 4).max(Duration::from_millis(1))).await;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = max.min(waiting.entries.len());
        let batch: Vec<Entry> = waiting.entries.drain(..count).collect();
        waiting.bytes -= batch.iter().map(size).sum::<usize>();
        batch
    }

    fn len(&self) -> usize {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entries
            .len()
    }
}

fn size(entry: &Entry) -> usize {
    match &entry.content {
        Ok(message) => weight(message),
        Err(undecodable) => undecodable.raw.len(),
    }
}
