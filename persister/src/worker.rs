//! The loop from the feed to the store and back to the journal.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::BoxFuture;
use shared::admin::Latch;
use shared::backoff::Backoff;
use shared::broker::Feed;
use shared::config::Protection;
use shared::metrics::PersisterMetrics;
use shared::store::{Inserted, Store, StoreError};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::batch::Batch;
use crate::config::Settings;

/// The pauses between attempts.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How often it is said again that the store does not work.
const REMIND_EVERY: Duration = Duration::from_secs(60);

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
        let mut away = false;
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
                    if !away {
                        tracing::warn!(%error, "the journal cannot be read; trying again");
                    }
                    away = true;
                    self.retry("feed", &mut backoff).await;
                    continue;
                }
            };
            if away {
                tracing::info!("the journal can be read again");
            }
            away = false;
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
    ///
    /// It is settled by whoever has stored it, also when another has taken it over meanwhile: the
    /// store has it then, whatever becomes of the other.
    async fn persist(&self, feed: &mut dyn Feed, mut batch: Batch) {
        if self.settings.without.has(Protection::StoreFirst) {
            self.settle(feed, &batch).await;
        }
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
                    tracing::debug!(%error, "the journal keeps what is stored; trying again");
                    self.retry("settle", &mut backoff).await;
                }
            }
        }
        tracing::warn!("the journal keeps what is stored; it comes again, and changes nothing");
    }

    /// Repeats an operation of the store until it succeeds. Nothing is read from the journal
    /// meanwhile, which holds what is accepted.
    async fn until_done<'a, T>(
        &self,
        operation: impl Fn() -> BoxFuture<'a, Result<T, StoreError>>,
    ) -> T {
        let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
        let begun = Instant::now();
        let mut said = None::<Instant>;
        loop {
            let error = match operation().await {
                Ok(done) => {
                    if said.is_some() {
                        tracing::info!(after = ?begun.elapsed(), "the store works again");
                    }
                    self.ready.set(true);
                    return done;
                }
                Err(error) => error,
            };
            if said.is_none_or(|said| said.elapsed() >= REMIND_EVERY) {
                said = Some(Instant::now());
                let since = begun.elapsed();
                match &error {
                    StoreError::Misconfigured(_) => tracing::error!(
                        %error, ?since,
                        "the store refuses until somebody changes that; the journal holds the rest"
                    ),
                    StoreError::Unavailable(_) => tracing::warn!(
                        %error, ?since,
                        "the store is away; trying again, and the journal holds the rest"
                    ),
                }
            }
            self.retry("store", &mut backoff).await;
        }
    }

    async fn retry(&self, operation: &str, backoff: &mut Backoff) {
        self.ready.set(false);
        self.metrics.retries.with_label_values(&[operation]).inc();
        sleep(backoff.next()).await;
    }
}
