//! A system to store messages in, and a persister that does.

use std::sync::Arc;
use std::time::Duration;

use harness::until::DEADLINE;
use harness::{Mongo, Process, Redis, until};
use persister::Settings;
use shared::admin::Readiness;
use shared::broker::{self, Broker, BrokerError, Earlier};
use shared::config::{
    BrokerSettings, BrokerUrl, Delivery, Retention, StoreSettings, StoreUrl, Without,
};
use shared::message::{Draft, Message, MessageId, RoomName, Series, Span, UserName};
use shared::metrics::Metrics;
use shared::store::{self, Store};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) async fn open_broker(url: BrokerUrl, delivery: Delivery) -> Arc<dyn Broker> {
    open_broker_with(broker_settings(url, delivery)).await
}

pub(crate) fn broker_settings(url: BrokerUrl, delivery: Delivery) -> BrokerSettings {
    BrokerSettings {
        url,
        delivery,
        shards: 4,
        journal_max: 100_000,
        recent_max: 10,
        recent_ttl: Duration::from_secs(60),
        publish_timeout: Duration::from_secs(10),
        connect_timeout: Duration::from_secs(10),
        takeover_after: Duration::from_secs(1),
        replicas: None,
        without: Without::NOTHING,
    }
}

pub(crate) async fn open_broker_with(settings: BrokerSettings) -> Arc<dyn Broker> {
    broker::open(&settings, &Metrics::new(), Earlier::default())
        .await
        .unwrap()
}

pub(crate) fn mongo_url(mongo: &Mongo) -> StoreUrl {
    let database = Mongo::database();
    StoreUrl::Mongo {
        url: mongo.url(&database),
        database,
    }
}

pub(crate) async fn open_store(url: StoreUrl) -> Arc<dyn Store> {
    let settings = StoreSettings {
        url,
        connect_timeout: Duration::from_secs(10),
        operation_timeout: Duration::from_secs(5),
        retention: Retention::Unchanged,
    };
    store::open(&settings).await.unwrap()
}

/// The store in a file of a folder.
pub(crate) fn file_in(folder: &TempDir) -> StoreUrl {
    StoreUrl::Sqlite(folder.path().join("chat.db"))
}

/// Starts the program in small batches.
pub(crate) async fn process(broker: &str, store: &StoreUrl) -> Process {
    let StoreUrl::Mongo { url, .. } = store else {
        panic!("no MongoDB");
    };
    let mut args = vec!["--broker", broker, "--store", url, "--shards", "4"];
    args.extend([
        "--batch-max",
        "20",
        "--takeover-after",
        "1s",
        "--admin-listen",
        "127.0.0.1:0",
    ]);
    let program = env!("CARGO_BIN_EXE_persister");
    let process = Process::run(program, args, [("RUST_LOG", "info")]);
    process
        .line(|line| line.contains("persister is ready"))
        .await;
    process
}

/// The broker on this server.
pub(crate) async fn on(redis: &Redis, delivery: Delivery) -> Arc<dyn Broker> {
    open_broker(BrokerUrl::Redis(redis.url()), delivery).await
}

/// How many entries some consumer has taken and not settled.
pub(crate) async fn taken(redis: &Redis) -> usize {
    let mut connection = redis.connection().await;
    let mut taken = 0;
    for shard in 0..4 {
        let mut pending = redis::cmd("XPENDING");
        pending
            .arg(format!("rc:{{{shard}}}:journal"))
            .arg("persisters");
        let summary: Vec<redis::Value> = pending.query_async(&mut connection).await.unwrap();
        taken += redis::from_redis_value::<usize>(summary[0].clone()).unwrap();
    }
    taken
}

/// A persister in this process.
pub(crate) struct Persister {
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), BrokerError>>,
}

impl Persister {
    /// Starts one that works in batches of ten.
    pub(crate) fn start(broker: &Arc<dyn Broker>, store: &Arc<dyn Store>) -> Self {
        Self::start_with(broker, store, Self::settings())
    }

    /// How [`Persister::start`] works.
    pub(crate) fn settings() -> Settings {
        Settings {
            batch_max: 10,
            linger: Duration::from_millis(5),
            drain_timeout: DEADLINE,
            without: Without::NOTHING,
        }
    }

    pub(crate) fn start_with(
        broker: &Arc<dyn Broker>,
        store: &Arc<dyn Store>,
        settings: Settings,
    ) -> Self {
        let metrics = Metrics::new();
        let readiness = Readiness::new();
        let stop = CancellationToken::new();
        let task = tokio::spawn(persister::run(
            Arc::clone(broker),
            Arc::clone(store),
            settings,
            metrics.clone(),
            readiness.latch("persister"),
            stop.clone(),
        ));
        Self {
            metrics,
            readiness,
            stop,
            task,
        }
    }

    pub(crate) async fn is_ready(&self) {
        until("the persister is ready", async || self.readiness.is_ready()).await;
    }

    /// How many it has stored, found stored, and buried.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let counted = &self.metrics.persister;
        (
            counted.stored.get(),
            counted.duplicates.get(),
            counted.dead_letters.get(),
        )
    }
}

pub(crate) fn room(number: usize) -> RoomName {
    RoomName::parse(&format!("room-{}", number % 5)).unwrap()
}

pub(crate) fn draft(number: usize) -> Draft {
    Draft {
        room: room(number),
        sender: UserName::parse("ann").unwrap(),
        content_type: None,
        headers: Vec::new(),
        body: format!("body {number}").into(),
        idempotency_key: None,
        newer_than: None,
        notify: None,
        series: Series::default(),
        ephemeral: false,
    }
}

/// Publishes to five rooms in turn; the ids are in the order of the numbers.
pub(crate) async fn publish(
    broker: &Arc<dyn Broker>,
    numbers: impl IntoIterator<Item = usize>,
) -> Vec<MessageId> {
    let mut ids = Vec::new();
    for number in numbers {
        ids.push(broker.publish(draft(number)).await.unwrap().id);
    }
    ids
}

/// What the store has, room by room in its order.
pub(crate) async fn stored(store: &Arc<dyn Store>) -> Vec<Message> {
    let mut all = Vec::new();
    for number in 0..5 {
        let read = store.history(&room(number), Span::Newest, 100_000).await;
        all.extend(read.unwrap());
    }
    all
}

/// Waits until the journal is empty.
pub(crate) async fn settled(broker: &Arc<dyn Broker>) {
    until("the journal is empty", async || {
        broker.backlog().await.is_ok_and(|n| n == 0)
    })
    .await;
}

/// Holds when each of these is in the store once, whole, and in its room's order.
pub(crate) async fn assert_stored(store: &Arc<dyn Store>, ids: &[MessageId]) {
    let found = stored(store).await;
    let expected: Vec<_> = (0..5)
        .flat_map(|room| {
            ids.iter()
                .enumerate()
                .filter(move |(number, _)| number % 5 == room)
        })
        .map(|(number, id)| (*id, format!("body {number}")))
        .collect();
    let found: Vec<_> = found
        .into_iter()
        .map(|message| {
            (
                message.id,
                String::from_utf8(message.body.to_vec()).unwrap(),
            )
        })
        .collect();
    assert_eq!(found, expected);
}
