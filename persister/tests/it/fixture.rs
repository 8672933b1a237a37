//! A system to store messages in, and a persister that does.

use std::sync::Arc;
use std::time::Duration;

use harness::until::DEADLINE;
use harness::{Mongo, until};
use persister::Settings;
use shared::admin::Readiness;
use shared::broker::{self, Broker, BrokerError};
use shared::config::{BrokerSettings, BrokerUrl, Delivery, Retention, StoreSettings, StoreUrl};
use shared::message::{Draft, Message, MessageId, RoomName, Series, Span, UserName};
use shared::metrics::Metrics;
use shared::store::{self, Store};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) async fn open_broker(url: BrokerUrl, delivery: Delivery) -> Arc<dyn Broker> {
    let settings = BrokerSettings {
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
        without: shared::config::Without::NOTHING,
    };
    broker::open(
        &settings,
        &Metrics::new(),
        shared::broker::Earlier::default(),
    )
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
        Self::start_with(broker, store, DEADLINE)
    }

    pub(crate) fn start_with(
        broker: &Arc<dyn Broker>,
        store: &Arc<dyn Store>,
        drain_timeout: Duration,
    ) -> Self {
        let metrics = Metrics::new();
        let readiness = Readiness::new();
        let stop = CancellationToken::new();
        let settings = Settings {
            batch_max: 10,
            linger: Duration::from_millis(5),
            drain_timeout,
        };
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
