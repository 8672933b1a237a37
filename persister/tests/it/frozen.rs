//! Persisters that stop in the middle: frozen, killed, or told to end, at a point that the test
//! chooses.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use harness::{Mongo, Redis, until};
use persister::Settings;
use shared::config::{BrokerSettings, BrokerUrl, Delivery, Protection, Without};
use shared::message::{Message, MessageId, RoomName, Span, UsedKey, UserName};
use shared::store::{DeadLetter, Inserted, Rights, Store, StoreError};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::fixture::{
    Persister, assert_stored, broker_settings, file_in, mongo_url, on, open_broker,
    open_broker_with, open_store, process, publish, settled, stored, taken,
};

/// A store whose inserts stop before or after the real one, until they are let go.
struct Stopping {
    store: Arc<dyn Store>,
    place: Place,
    /// How many inserts stand there.
    stopped: AtomicUsize,
    /// How many inserts are under way, and how many were at the most.
    under_way: AtomicUsize,
    most: AtomicUsize,
    go: watch::Sender<bool>,
}

enum Place {
    BeforeStoring,
    AfterStoring,
}

impl Stopping {
    fn new(store: &Arc<dyn Store>, place: Place) -> Arc<Self> {
        Arc::new(Self {
            store: Arc::clone(store),
            place,
            stopped: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            go: watch::Sender::new(false),
        })
    }

    async fn stop(&self) {
        self.stopped.fetch_add(1, Ordering::SeqCst);
        let mut go = self.go.subscribe();
        go.wait_for(|go| *go).await.unwrap();
    }

    async fn is_reached(&self) {
        until("an insert has come to its stop", async || {
            self.stopped.load(Ordering::SeqCst) > 0
        })
        .await;
    }
}

impl Store for Stopping {
    fn insert<'a>(
        &'a self,
        batch: &'a [Arc<Message>],
    ) -> BoxFuture<'a, Result<Inserted, StoreError>> {
        async move {
            let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(under_way, Ordering::SeqCst);
            if let Place::BeforeStoring = self.place {
                self.stop().await;
            }
            let inserted = self.store.insert(batch).await;
            if let Place::AfterStoring = self.place {
                self.stop().await;
            }
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            inserted
        }
        .boxed()
    }

    fn bury<'a>(&'a self, letters: &'a [DeadLetter]) -> BoxFuture<'a, Result<(), StoreError>> {
        self.store.bury(letters)
    }

    fn history<'a>(
        &'a self,
        room: &'a RoomName,
        span: Span,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Message>, StoreError>> {
        self.store.history(room, span, limit)
    }

    fn stored<'a>(
        &'a self,
        ids: &'a [MessageId],
    ) -> BoxFuture<'a, Result<Vec<MessageId>, StoreError>> {
        self.store.stored(ids)
    }

    fn newest(&self) -> BoxFuture<'_, Result<Option<MessageId>, StoreError>> {
        self.store.newest()
    }

    fn keys_after(&self, id: MessageId) -> BoxFuture<'_, Result<Vec<UsedKey>, StoreError>> {
        self.store.keys_after(id)
    }

    fn prepare_rights(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.prepare_rights()
    }

    fn rights<'a>(
        &'a self,
        room: &'a RoomName,
        user: &'a UserName,
    ) -> BoxFuture<'a, Result<Rights, StoreError>> {
        self.store.rights(room, user)
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.ping()
    }
}

#[tokio::test]
async fn while_one_batch_is_stored_another_is() {
    let redis = Redis::start().await;
    let store = open_store(mongo_url(Mongo::shared().await)).await;
    let broker = on(&redis, Delivery::AtLeastOnce).await;
    let slow = Stopping::new(&store, Place::BeforeStoring);
    let ids = publish(&broker, 0..60).await;
    let as_store: Arc<dyn Store> = slow.clone();
    let persister = Persister::start(&broker, &as_store);
    until("two inserts are under way", async || {
        slow.most.load(Ordering::SeqCst) == 2
    })
    .await;
    slow.go.send_replace(true);
    settled(&broker).await;
    assert_stored(&store, &ids).await;
    assert_eq!(slow.most.load(Ordering::SeqCst), 2);
    drop(persister);
}

#[tokio::test]
async fn where_members_see_what_is_stored_batches_are_stored_one_after_the_other() {
    let folder = TempDir::new().unwrap();
    let store = open_store(file_in(&folder)).await;
    let broker = open_broker(BrokerUrl::Memory, Delivery::AtLeastOnce).await;
    let slow = Stopping::new(&store, Place::BeforeStoring);
    let ids = publish(&broker, 0..200).await;
    let as_store: Arc<dyn Store> = slow.clone();
    let persister = Persister::start(&broker, &as_store);
    slow.is_reached().await;
    slow.go.send_replace(true);
    settled(&broker).await;
    assert_stored(&store, &ids).await;
    assert_eq!(slow.most.load(Ordering::SeqCst), 1);
    drop(persister);
}

#[tokio::test]
async fn settling_late_drops_nothing_that_another_is_still_storing() {
    let redis = Redis::start().await;
    let store = open_store(mongo_url(Mongo::shared().await)).await;
    let broker = on(&redis, Delivery::AtLeastOnce).await;
    let frozen = Stopping::new(&store, Place::AfterStoring);
    let as_store: Arc<dyn Store> = frozen.clone();
    let late = Persister::start(&broker, &as_store);
    let ids = publish(&broker, 0..10).await;
    frozen.is_reached().await;

    let doomed = Stopping::new(&store, Place::BeforeStoring);
    let as_store: Arc<dyn Store> = doomed.clone();
    let heir = Persister::start(&broker, &as_store);
    doomed.is_reached().await;
    frozen.go.send_replace(true);
    settled(&broker).await;
    heir.task.abort();
    assert!(heir.task.await.unwrap_err().is_cancelled());
    assert_stored(&store, &ids).await;
    drop(late);
}

#[tokio::test]
async fn settled_before_it_is_stored_a_message_would_be_lost_with_its_persister() {
    for (without, lost) in [
        (Without::NOTHING, false),
        (Without::from(&[Protection::StoreFirst][..]), true),
    ] {
        let redis = Redis::start().await;
        let store = open_store(mongo_url(Mongo::shared().await)).await;
        let broker = on(&redis, Delivery::AtLeastOnce).await;
        let stopping = Stopping::new(&store, Place::BeforeStoring);
        let as_store: Arc<dyn Store> = stopping.clone();
        let settings = Settings {
            without,
            ..Persister::settings()
        };
        let doomed = Persister::start_with(&broker, &as_store, settings);
        let ids = publish(&broker, 0..1).await;
        stopping.is_reached().await;
        doomed.task.abort();
        assert!(doomed.task.await.unwrap_err().is_cancelled());

        let _heir = Persister::start(&broker, &store);
        settled(&broker).await;
        assert_eq!(store.stored(&ids).await.unwrap().is_empty(), lost);
    }
}

#[tokio::test]
async fn without_a_takeover_what_a_dead_persister_had_would_stay_in_the_journal() {
    for (without, left) in [
        (Without::NOTHING, false),
        (Without::from(&[Protection::Takeover][..]), true),
    ] {
        let redis = Redis::start().await;
        let store = open_store(mongo_url(Mongo::shared().await)).await;
        let settings = BrokerSettings {
            takeover_after: Duration::from_millis(200),
            without,
            ..broker_settings(BrokerUrl::Redis(redis.url()), Delivery::AtLeastOnce)
        };
        let broker = open_broker_with(settings).await;
        let stopping = Stopping::new(&store, Place::BeforeStoring);
        let as_store: Arc<dyn Store> = stopping.clone();
        let doomed = Persister::start(&broker, &as_store);
        let ids = publish(&broker, 0..1).await;
        stopping.is_reached().await;
        doomed.task.abort();
        assert!(doomed.task.await.unwrap_err().is_cancelled());

        let _heir = Persister::start(&broker, &store);
        until("it is settled, or has been silent for long", async || {
            let left_alone = Duration::from_secs(2);
            taken(&redis).await == 0 || silence(&redis, ids[0]).await >= left_alone
        })
        .await;
        assert_eq!(store.stored(&ids).await.unwrap().is_empty(), left);
    }
}

/// For how long nobody has worked on an entry.
async fn silence(redis: &Redis, id: MessageId) -> Duration {
    let mut pending = redis::cmd("XPENDING");
    let stamp = id.stamp();
    let entry = format!("{}-{}", stamp.ms, stamp.seq);
    pending
        .arg(format!("rc:{{{}}}:journal", id.shard()))
        .arg(&["persisters", &entry, &entry, "1"]);
    let mut connection = redis.connection().await;
    let found: Vec<(String, String, u64, u64)> =
        pending.query_async(&mut connection).await.unwrap();
    Duration::from_millis(found.first().map_or(0, |(_, _, idle, _)| *idle))
}

#[tokio::test]
async fn what_was_stored_and_not_settled_by_a_killed_process_is_stored_once() {
    let redis = Redis::start().await;
    let url = mongo_url(Mongo::shared().await);
    let store = open_store(url.clone()).await;
    let broker = on(&redis, Delivery::AtLeastOnce).await;
    let gate = Gate::before(&redis, b"XDEL").await;
    let mut killed = process(&gate.url, &url).await;
    let ids = publish(&broker, 0..10).await;
    // The store has answered, for the process settles now.
    until("it settles", async || gate.holds()).await;
    killed.kill().await;
    assert!(taken(&redis).await > 0);
    assert!(!stored(&store).await.is_empty());

    let heir = Persister::start(&broker, &store);
    settled(&broker).await;
    assert_stored(&store, &ids).await;
    assert!(heir.counts().1 > 0, "it found some that were stored");
}

#[tokio::test]
async fn a_process_that_is_told_to_end_finishes_the_batch_that_it_has() {
    let redis = Redis::start().await;
    let mongo = Mongo::start().await;
    let url = mongo_url(&mongo);
    let store = open_store(url.clone()).await;
    let broker = on(&redis, Delivery::AtLeastOnce).await;
    let mut told = process(&redis.url(), &url).await;
    mongo.pause().await;
    let ids = publish(&broker, 0..8).await;
    until("it has taken a batch", async || taken(&redis).await > 0).await;
    told.terminate().await;
    told.line(|line| line.contains("a second signal")).await;
    mongo.resume().await;
    let status = told.wait().await;
    assert!(status.success(), "{status}: {}", told.output());
    assert_eq!(taken(&redis).await, 0);

    let _heir = Persister::start(&broker, &store);
    settled(&broker).await;
    assert_stored(&store, &ids).await;
}

#[tokio::test]
async fn a_process_that_was_frozen_for_longer_than_the_takeover_goes_on_without_harm() {
    let redis = Redis::start().await;
    let mongo = Mongo::start().await;
    let url = mongo_url(&mongo);
    let store = open_store(url.clone()).await;
    let broker = on(&redis, Delivery::AtLeastOnce).await;
    let frozen = process(&redis.url(), &url).await;
    mongo.pause().await;
    let mut ids = publish(&broker, 0..20).await;
    until("it has taken a batch", async || taken(&redis).await > 0).await;
    frozen.pause().await;
    mongo.resume().await;
    let mut heir = process(&redis.url(), &url).await;
    settled(&broker).await;
    assert_stored(&store, &ids).await;

    frozen.resume().await;
    ids.extend(publish(&broker, 20..200).await);
    settled(&broker).await;
    heir.kill().await;
    // What the other had taken is its own again, and it works alone.
    ids.extend(publish(&broker, 200..300).await);
    settled(&broker).await;
    assert_stored(&store, &ids).await;
}

#[tokio::test]
async fn a_redis_that_freezes_under_it_is_waited_for() {
    let redis = Redis::start().await;
    let store = open_store(mongo_url(Mongo::shared().await)).await;
    let broker = on(&redis, Delivery::AtLeastOnce).await;
    let persister = Persister::start(&broker, &store);
    let mut ids = publish(&broker, 0..30).await;
    settled(&broker).await;
    redis.pause();
    until("it says that it is not ready", async || {
        !persister.readiness.is_ready()
    })
    .await;
    redis.resume();
    persister.is_ready().await;
    ids.extend(publish(&broker, 30..60).await);
    settled(&broker).await;
    assert_stored(&store, &ids).await;
}

/// A way to Redis that goes no further from where a client says a certain word.
struct Gate {
    url: String,
    held: watch::Receiver<bool>,
}

impl Gate {
    async fn before(redis: &Redis, word: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let server = ("127.0.0.1", redis.port());
        let (sender, held) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (mut from_client, mut to_client) = near.into_split();
                let far = TcpStream::connect(server).await.unwrap();
                let (mut from_server, mut to_server) = far.into_split();
                tokio::spawn(async move { copy(&mut from_server, &mut to_client).await });
                let sender = sender.clone();
                tokio::spawn(async move {
                    let mut octets = vec![0; 1 << 16];
                    // A command of this size comes in one piece on the loopback.
                    while let Ok(length @ 1..) = from_client.read(&mut octets).await {
                        if octets[..length]
                            .windows(word.len())
                            .any(|part| part == word)
                        {
                            sender.send_replace(true);
                            // The connection stays open, and silent.
                            sender.closed().await;
                        }
                        to_server.write_all(&octets[..length]).await.unwrap();
                    }
                });
            }
        });
        Self { url, held }
    }

    fn holds(&self) -> bool {
        *self.held.borrow()
    }
}
