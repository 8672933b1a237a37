//! What the store promises while a replica set loses its primary, in every way.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use harness::{Mongo, MongoSet, until};
use shared::config::{Retention, StoreUrl};
use shared::message::{MessageId, Span};
use shared::store::{self, Store, StoreError};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
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

/// How many connections for calls fall silent at once, and how many the driver has to look at a
/// server, at most.
const SILENCED: usize = 24;
const LOOKING: usize = 3;

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

#[tokio::test]
async fn a_store_is_opened_and_its_retention_set_while_one_node_of_three_is_away() {
    let mut set = MongoSet::start().await;
    let mut place = place(&set);
    place.open().await.insert(&batch(0..50)).await.unwrap();
    set.kill_primary().await;
    // A new index, over messages that are there, which the dead node cannot build.
    place.settings.retention = Retention::For(Duration::from_secs(3600));
    let opened = timeout(PATIENCE, store::open(&place.settings)).await;
    opened.unwrap().unwrap().ping().await.unwrap();
}

#[tokio::test]
async fn connections_that_fell_silent_are_given_up_and_replaced() {
    let mongo = Mongo::start().await;
    let tunnel = Tunnel::to(mongo.port()).await;
    let database = Mongo::database();
    let url = format!("mongodb://127.0.0.1:{}/{database}", tunnel.port);
    let mut place = Place::at(StoreUrl::Mongo {
        url: format!("{url}?directConnection=true"),
        database,
    });
    place.settings.operation_timeout = Duration::from_secs(1);
    let store = place.open().await;
    until("many connections are open", async || {
        let calls = (0..2 * SILENCED).map(|_| async {
            let calm = batch(0..50);
            bounded(store.insert(&calm)).await.is_ok()
        });
        join_all(calls).await;
        tunnel.open.load(Ordering::SeqCst) >= SILENCED + LOOKING
    })
    .await;
    tunnel.silence();
    let mut failures = 0;
    until("the store works over new connections", async || {
        let answer = bounded(store.insert(&batch(0..5))).await;
        failures += usize::from(answer.is_err());
        answer.is_ok()
    })
    .await;
    // All are given up together, and not each by a call that was given it.
    assert!((1..SILENCED).contains(&failures), "{failures}");
    // None of those that were silenced is left among the idle ones.
    let calls = (0..SILENCED).map(|_| bounded(store.ping()));
    for answer in join_all(calls).await {
        answer.unwrap();
    }
}

/// A way to a server whose present connections can be made to swallow everything, as those of a
/// link that was cut without a word.
struct Tunnel {
    port: u16,
    generation: watch::Sender<u64>,
    /// How many connections are open.
    open: Arc<AtomicUsize>,
}

impl Tunnel {
    async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let generation = watch::Sender::new(0);
        let current = generation.clone();
        let open = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&open);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let open = Arc::clone(&counted);
                let mut silenced = current.subscribe();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = silenced.changed() => pending().await,
                    }
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self {
            port,
            generation,
            open,
        }
    }

    fn silence(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }
}
