//! What the store promises while a replica set loses its primary, in every way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use harness::{Mongo, MongoSet, until};
use shared::config::StoreUrl;
use shared::message::{MessageId, Span};
use shared::store::{Store, StoreError};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::store_conformance::{Place, batch, id, room};

/// What the store is told to take at most for a call, and what a call may take here: a machine
/// that is busy starts a task late, and a call that hangs takes for ever.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(20);

/// How many insert side by side, and how many messages at a time.
const WRITERS: u64 = 3;
const BATCH: u64 = 20;

fn place(set: &MongoSet) -> Place {
    let database = Mongo::database();
    let url = set.url(&database);
    let mut place = Place::at(StoreUrl::Mongo { url, database });
    place.settings.operation_timeout = OPERATION_TIMEOUT;
    place
}

/// Inserts batch after batch, each until the store has answered `Ok`, and reads in between.
struct Load {
    store: Arc<dyn Store>,
    /// How many batches each writer has an answer for.
    answered: Arc<[AtomicU64]>,
    reads: Arc<AtomicU64>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(store: Arc<dyn Store>) -> Self {
        let answered: Arc<[AtomicU64]> = (0..WRITERS).map(|_| AtomicU64::new(0)).collect();
        let reads = Arc::new(AtomicU64::new(0));
        let stop = CancellationToken::new();
        let mut tasks = Vec::new();
        for writer in 0..WRITERS {
            let (store, answered) = (Arc::clone(&store), Arc::clone(&answered));
            let stop = stop.clone();
            tasks.push(tokio::spawn(async move {
                for number in 0.. {
                    let batch = batch(numbers(writer, number));
                    while let Err(error) = bounded(store.insert(&batch)).await {
                        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    answered[writer as usize].fetch_add(1, Ordering::SeqCst);
                    if stop.is_cancelled() {
                        return;
                    }
                }
            }));
        }
        let (reader, counted, until) = (Arc::clone(&store), Arc::clone(&reads), stop.clone());
        tasks.push(tokio::spawn(async move {
            while !until.is_cancelled() {
                let lobby = room("lobby");
                let history = bounded(reader.history(&lobby, Span::Newest, 50)).await;
                let stored = bounded(reader.stored(&[id(0)])).await;
                if history.is_ok() && stored.is_ok() {
                    counted.fetch_add(1, Ordering::SeqCst);
                }
                // It shares two processors with three servers and the writers.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }));
        Self {
            store,
            answered,
            reads,
            stop,
            tasks,
        }
    }

    /// Waits until every writer and the reader had a success that began after this.
    async fn flows(&self) {
        let now = || -> Vec<u64> {
            let counts = self.answered.iter().chain([&*self.reads]);
            counts.map(|count| count.load(Ordering::SeqCst)).collect()
        };
        let before = now();
        until("inserts and reads succeed", async || {
            now()
                .iter()
                .zip(&before)
                .all(|(now, then)| *now >= then + 2)
        })
        .await;
    }

    /// Stops, and holds when everything that had an answer is there once, and nothing else.
    async fn settle(self) {
        self.stop.cancel();
        for task in self.tasks {
            task.await.unwrap();
        }
        let mut expected: Vec<MessageId> = (0..WRITERS)
            .flat_map(|writer| {
                let answered = self.answered[writer as usize].load(Ordering::SeqCst);
                (0..answered).flat_map(move |number| numbers(writer, number).map(id))
            })
            .collect();
        expected.sort();
        let mut found = Vec::new();
        let (lobby, mut span) = (room("lobby"), Span::After(MessageId::MIN));
        loop {
            let page = self.store.history(&lobby, span, 1000).await.unwrap();
            let Some(last) = page.last() else { break };
            span = Span::After(last.id);
            found.extend(page.iter().map(|message| message.id));
        }
        assert!(found == expected, "{} of {}", found.len(), expected.len());
    }
}

/// What a writer puts into its batch of this number.
fn numbers(writer: u64, number: u64) -> impl Iterator<Item = u64> {
    let first = (number * WRITERS + writer) * BATCH;
    first..first + BATCH
}

/// Fails when a call outlasts what it was allowed.
async fn bounded<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let answer = timeout(PATIENCE, call).await;
    answer.expect("every call ends at its deadline")
}

#[tokio::test]
async fn what_was_answered_is_there_once_after_the_primary_was_killed() {
    let mut set = MongoSet::start().await;
    let load = Load::start(place(&set).open().await);
    load.flows().await;
    set.kill_primary().await;
    load.flows().await;
    set.restart_dead().await;
    load.flows().await;
    load.settle().await;
}

#[tokio::test]
async fn what_was_answered_is_there_once_after_the_primary_stepped_down() {
    let mut set = MongoSet::start().await;
    let load = Load::start(place(&set).open().await);
    load.flows().await;
    for _ in 0..2 {
        set.step_down().await;
        load.flows().await;
    }
    load.settle().await;
}

#[tokio::test]
async fn what_was_answered_is_there_once_after_the_primary_was_frozen() {
    let mut set = MongoSet::start().await;
    let load = Load::start(place(&set).open().await);
    load.flows().await;
    set.pause_primary().await;
    load.flows().await;
    set.resume().await;
    load.flows().await;
    load.settle().await;
}

#[tokio::test]
async fn nothing_is_answered_without_a_majority_and_all_goes_on_when_it_is_back() {
    let mut set = MongoSet::start().await;
    let store = place(&set).open().await;
    let load = Load::start(Arc::clone(&store));
    load.flows().await;
    set.kill_majority().await;
    let error = bounded(store.insert(&batch(5_000_000..5_000_001))).await;
    assert!(
        matches!(error, Err(StoreError::Unavailable(_))),
        "{error:?}"
    );
    let error = bounded(store.ping()).await;
    assert!(
        matches!(error, Err(StoreError::Unavailable(_))),
        "{error:?}"
    );
    set.restart_dead().await;
    load.flows().await;
    load.settle().await;
}
