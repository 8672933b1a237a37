//! The loop from the feed to the store and back to the journal.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::BoxFuture;
use shared::admin::Latch;
use shared::backoff::Backoff;
use shared::broker::Feed;
use shared::metrics::PersisterMetrics;
use shared::store::{Inserted, Store, StoreError};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::batch::Batch;
use crate::config::Settings;

/// The pauses between attempts.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How often settling is tried before the entries are left to come again.
const SETTLE_ATTEMPTS: u32 = 5;

/// What moves messages from a feed to the store.
pub(crate) struct Worker {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) settings: Settings,
    pub(crate) metrics: Arc<PersisterMetrics>,
    pub(crate) ready: Latch,
    pub(crate) stop: CancellationToken,
    /// When told to stop, go on until the feed has nothing more.
    pub(crate) to_the_end: bool,
}

impl Worker {
    /// Works until it is told to stop. `next` is never cut short: what it has taken would lie with
    /// a consumer that is gone until another takes it over.
    pub(crate) async fn run(self, mut feed: Box<dyn Feed>) {
        self.ready.set(true);
        let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
        loop {
            let stopping = self.stop.is_cancelled();
            if stopping && !self.to_the_end {
                return;
            }
            let linger = if stopping {
                Duration::ZERO
            } else {
                self.settings.linger
            };
            let entries = match feed.next(self.settings.batch_max, linger).await {
                Ok(entries) => entries,
                Err(error) => {
                    tracing::warn!(%error, "the journal cannot be read; trying again");
                    self.retry("feed", &mut backoff).await;
                    continue;
                }
            };
            backoff.reset();
            self.ready.set(true);
            let more = entries.len() >= self.settings.batch_max;
            if !entries.is_empty() {
                self.persist(&mut *feed, Batch::new(entries)).await;
            }
            if stopping && !more {
                return;
            }
        }
    }

    /// Returns when everything in the batch is stored or buried, and settled if that could be.
    async fn persist(&self, feed: &mut dyn Feed, mut batch: Batch) {
        let inserted = self.insert(&batch).await;
        self.metrics.stored.inc_by(inserted.stored as u64);
        self.metrics.duplicates.inc_by(inserted.duplicates as u64);
        batch.refuse(inserted.refused);
        let now = SystemTime::now();
        for message in batch.messages() {
            // The broker's clock may be ahead of this one.
            let lag = now
                .duration_since(message.id.created_at())
                .unwrap_or_default();
            self.metrics.lag_seconds.observe(lag.as_secs_f64());
        }
        self.bury(&batch).await;
        self.settle(feed, &batch).await;
    }

    async fn insert(&self, batch: &Batch) -> Inserted {
        if batch.messages().is_empty() {
            return Inserted::default();
        }
        self.metrics
            .batch_size
            .observe(batch.messages().len() as f64);
        let begun = Instant::now();
        let inserted = self
            .until_done(|| self.store.insert(batch.messages()))
            .await;
        self.metrics
            .store_seconds
            .observe(begun.elapsed().as_secs_f64());
        inserted
    }

    async fn bury(&self, batch: &Batch) {
        let letters = batch.letters();
        if letters.is_empty() {
            return;
        }
        self.until_done(|| self.store.bury(letters)).await;
        self.metrics.dead_letters.inc_by(letters.len() as u64);
        // Reasons may quote a message, so they stay in the store.
        tracing::warn!(
            count = letters.len(),
            first = %letters[0].id,
            "messages cannot be stored; they are kept, with the reasons, in the dead letters"
        );
    }

    async fn settle(&self, feed: &mut dyn Feed, batch: &Batch) {
        let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
        for _ in 0..SETTLE_ATTEMPTS {
            match feed.settle(batch.settled()).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(%error, "the journal keeps what is stored; trying again");
                    self.retry("settle", &mut backoff).await;
                }
            }
        }
        // They come again, and are then found in the store.
    }

    /// Repeats an operation of the store until it succeeds. Nothing is read from the journal
    /// meanwhile, which holds what is accepted.
    async fn until_done<'a, T>(
        &self,
        operation: impl Fn() -> BoxFuture<'a, Result<T, StoreError>>,
    ) -> T {
        let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
        let mut attempts = 1_u64;
        loop {
            match operation().await {
                Ok(done) => {
                    if attempts > 1 {
                        tracing::info!(attempts, "the store works again");
                    }
                    self.ready.set(true);
                    return done;
                }
                Err(StoreError::Misconfigured(reason)) if attempts == 1 => {
                    tracing::error!(
                        reason,
                        "the store refuses; messages wait until that changes"
                    );
                }
                Err(error) if attempts == 1 => {
                    tracing::warn!(%error, "the store is away; messages wait until it is back");
                }
                Err(error) => tracing::debug!(%error, attempts, "the store is still away"),
            }
            attempts += 1;
            self.retry("store", &mut backoff).await;
        }
    }

    async fn retry(&self, operation: &str, backoff: &mut Backoff) {
        self.ready.set(false);
        self.metrics.retries.with_label_values(&[operation]).inc();
        sleep(backoff.next()).await;
    }
}
