//! The feeds of the broker inside one process.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tokio::time::{Instant, sleep, timeout_at};

use super::Shared;
use crate::broker::inbox::Inbox;
use crate::broker::{BrokerError, Entry, Feed, IDLE_ANSWER, Settled, Settler};

/// A consumer of the journal. What it has not settled when it is dropped goes to the others.
pub(super) struct JournalFeed {
    shared: Arc<Shared>,
    consumer: u64,
    /// Taken and not yet handed out, so that a cancelled `next` loses nothing.
    batch: Vec<Entry>,
}

impl JournalFeed {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let consumer = shared.lock().journal.consumer();
        Self {
            shared,
            consumer,
            batch: Vec::new(),
        }
    }

    async fn fill(&mut self, max: usize, linger: Duration) {
        let idle = Instant::now() + IDLE_ANSWER;
        let shared = Arc::clone(&self.shared);
        loop {
            let arrived = shared.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            self.take(max);
            if !self.batch.is_empty() {
                break;
            }
            if timeout_at(idle, arrived).await.is_err() {
                return;
            }
        }
        let until = Instant::now() + linger;
        while self.batch.len() < max && Instant::now() < until {
            sleep((linger / 4).max(Duration::from_millis(1))).await;
            self.take(max);
        }
    }

    fn take(&mut self, max: usize) {
        let room = max.saturating_sub(self.batch.len());
        self.batch
            .extend(self.shared.lock().journal.take(self.consumer, room));
    }
}

impl Feed for JournalFeed {
    fn next(
        &mut self,
        max: usize,
        linger: Duration,
    ) -> BoxFuture<'_, Result<Vec<Entry>, BrokerError>> {
        async move {
            self.fill(max, linger).await;
            Ok(mem::take(&mut self.batch))
        }
        .boxed()
    }

    fn settler(&self) -> Arc<dyn Settler> {
        self.shared.clone()
    }
}

impl Drop for JournalFeed {
    fn drop(&mut self) {
        self.shared.lock().journal.abandon(self.consumer);
        self.shared.arrived.notify_waiters();
    }
}

/// A consumer that hears everything from now on, and shares it with no one.
pub(super) struct LiveFeed {
    pub(super) shared: Arc<Shared>,
    pub(super) inbox: Arc<Inbox>,
}

impl Feed for LiveFeed {
    fn next(
        &mut self,
        max: usize,
        linger: Duration,
    ) -> BoxFuture<'_, Result<Vec<Entry>, BrokerError>> {
        self.inbox.next(max, linger).map(Ok).boxed()
    }

    fn settler(&self) -> Arc<dyn Settler> {
        self.shared.clone()
    }
}

impl Settler for Shared {
    fn settle(&self, settled: Vec<Settled>) -> BoxFuture<'_, Result<(), BrokerError>> {
        self.lock()
            .settle(settled.into_iter().map(|entry| (entry.id, entry.notify)));
        ready(Ok(())).boxed()
    }
}
