//! The loop from the feed to the store and back to the journal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::poll_fn;
use shared::admin::Latch;
use shared::backoff::Backoff;
use shared::broker::{Feed, Settled, Settler};
use shared::config::Protection;
use shared::metrics::PersisterMetrics;
use shared::store::{Inserted, Store, StoreError};
use tokio::sync::mpsc;
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
    /// How many batches are stored at the same time.
    pub(crate) at_once: usize,
    /// The operations that have to be tried again, a bit for each.
    pub(crate) failing: AtomicU8,
}

impl Worker {
    /// Works until it is told to stop. While batches are stored the next one is read, and one that is
    /// stored is settled.
    pub(crate) async fn run(self, mut feed: Box<dyn Feed>) {
        let settler = feed.settler();
        let (read, batches) = mpsc::channel(1);
        let (stored, settling) = mpsc::channel(1);
        self.ready.set(true);
        tokio::join!(
            self.read(&mut *feed, read),
            self.store_all(batches, &*settler, stored),
            self.settle_all(&*settler, settling),
        );
    }

    /// Reads ahead what is stored at the same time: where there is so much, one reading serves several
    /// batches. `next` is never cut short: what it has taken would lie with a consumer that is gone
    /// until another takes it over.
    async fn read(&self, feed: &mut dyn Feed, batches: mpsc::Sender<Batch>) {
        let most = self.settings.batch_max * self.at_once;
        let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
        let mut away = false;
        loop {
            let Ok(place) = batches.reserve().await else {
                return;
            };
            let stopping = self.stop.is_cancelled();
            if stopping && !self.to_the_end {
                return;
            }
            let linger = if stopping {
                Duration::ZERO
            } else {
                self.settings.linger
            };
            let mut entries = match feed.next(most, linger).await {
                Ok(entries) => entries,
                Err(error) => {
                    if !away {
                        tracing::warn!(%error, "the journal cannot be read; trying again");
                    }
                    away = true;
                    self.retry(Operation::Feed, &mut backoff).await;
                    continue;
                }
            };
            if away {
                tracing::info!("the journal can be read again");
            }
            away = false;
            backoff.reset();
            self.works(Operation::Feed);
            let more = entries.len() >= most;
            let mut place = Some(place);
            while !entries.is_empty() {
                let rest = entries.split_off(entries.len().min(self.settings.batch_max));
                let batch = Batch::new(std::mem::replace(&mut entries, rest));
                match place.take() {
                    Some(place) => place.send(batch),
                    // Nobody stores any more: another takes over what was read.
                    None => drop(batches.send(batch).await),
                }
            }
            if stopping && !more {
                return;
            }
        }
    }

    /// Stores batches as they come, at most so many at the same time.
    async fn store_all(
        &self,
        mut batches: mpsc::Receiver<Batch>,
        settler: &dyn Settler,
        stored: mpsc::Sender<Vec<Settled>>,
    ) {
        let stored = &stored;
        poll_fn(|context| batches.poll_recv(context))
            .for_each_concurrent(self.at_once, |batch| async move {
                let settled = self.store(batch, settler).await;
                // Without anyone who settles there is nobody who reads either.
                drop(stored.send(settled).await);
            })
            .await;
    }

    /// Stores or buries everything in a batch, and says only then what may be settled.
    ///
    /// It is settled by whoever has stored it, also when another has taken it over meanwhile: the
    /// store has it then, whatever becomes of the other.
    async fn store(&self, mut batch: Batch, settler: &dyn Settler) -> Vec<Settled> {
        if self.settings.without.has(Protection::StoreFirst) {
            self.settle(settler, batch.settled()).await;
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
        batch.settled()
    }

    async fn settle_all(&self, settler: &dyn Settler, mut settling: mpsc::Receiver<Vec<Settled>>) {
        while let Some(settled) = settling.recv().await {
            self.settle(settler, settled).await;
        }
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

    async fn settle(&self, settler: &dyn Settler, settled: Vec<Settled>) {
        let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX);
        for _ in 0..SETTLE_ATTEMPTS {
            match settler.settle(settled.clone()).await {
                Ok(()) => {
                    self.works(Operation::Settle);
                    return;
                }
                Err(error) => {
                    tracing::debug!(%error, "the journal keeps what is stored; trying again");
                    self.retry(Operation::Settle, &mut backoff).await;
                }
            }
        }
        tracing::warn!("the journal keeps what is stored; it comes again, and changes nothing");
    }

    /// Repeats an operation of the store until it succeeds. No more than four batches are read from
    /// the journal meanwhile, which holds what is accepted.
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
                    self.works(Operation::Store);
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
            self.retry(Operation::Store, &mut backoff).await;
        }
    }

    async fn retry(&self, operation: Operation, backoff: &mut Backoff) {
        let failing = 1 << operation as u8;
        self.failing.fetch_or(failing, Ordering::Relaxed);
        self.ready.set(false);
        let name = operation.name();
        self.metrics.retries.with_label_values(&[name]).inc();
        sleep(backoff.next()).await;
    }

    /// An operation has succeeded: this is ready when all of them have.
    fn works(&self, operation: Operation) {
        let failing = 1 << operation as u8;
        let others = self.failing.fetch_and(!failing, Ordering::Relaxed) & !failing;
        self.ready.set(others == 0);
    }
}

/// What may have to be tried again.
#[derive(Clone, Copy)]
enum Operation {
    Feed,
    Store,
    Settle,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Feed => "feed",
            Self::Store => "store",
            Self::Settle => "settle",
        }
    }
}
