//! A gateway inside the test's process, on an embedded store and a broker that is embedded or Redis.

use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use gateway::Parts;
use gateway::config::{GatewayArgs, Settings};
use gateway::entrance::Entrance;
use gateway::server::Pages;
use harness::{Mongo, Redis, StompClient, StompOptions};
use shared::admin::Readiness;
use shared::backoff::Backoff;
use shared::broker::{Broker, Earlier, Feed, Settled};
use shared::config::{BrokerSettings, BrokerUrl, CommonArgs, StoreSettings, StoreUrl};
use shared::metrics::Metrics;
use shared::store::Store;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    gateway: GatewayArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// What gateways of one test share.
pub(crate) struct Backend {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) store: Arc<dyn Store>,
    /// What the broker counts.
    pub(crate) metrics: Metrics,
    _dir: tempfile::TempDir,
}

/// A running gateway.
pub(crate) struct Running {
    pub(crate) address: String,
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
    pub(crate) stop: CancellationToken,
    pub(crate) ended: JoinHandle<()>,
}

/// `memory:` with these flags, and SQLite in a folder of its own.
pub(crate) async fn backend(flags: &[&str]) -> Backend {
    open(BrokerUrl::Memory, None, flags).await
}

/// `memory:`, and this store.
pub(crate) async fn backend_on(store: StoreUrl) -> Backend {
    open(BrokerUrl::Memory, Some(store), &[]).await
}

/// Redis with these flags, and SQLite in a folder of its own.
pub(crate) async fn redis_backend(redis: &Redis, flags: &[&str]) -> Backend {
    redis_backend_at(&redis.url(), flags).await
}

/// The same on a Redis at this URL.
pub(crate) async fn redis_backend_at(url: &str, flags: &[&str]) -> Backend {
    open(url.parse().unwrap(), None, flags).await
}

/// Redis with these flags, and a database of its own in MongoDB.
pub(crate) async fn mongo_backend(redis: &Redis, mongo: &Mongo, flags: &[&str]) -> Backend {
    let database = Mongo::database();
    let url = mongo.url(&database);
    let store = StoreUrl::Mongo { url, database };
    open(redis.url().parse().unwrap(), Some(store), flags).await
}

async fn open(broker: BrokerUrl, store: Option<StoreUrl>, flags: &[&str]) -> Backend {
    let dir = tempfile::tempdir().unwrap();
    let flags = Flags::parse_from(["gateway"].iter().chain(flags));
    let file = StoreUrl::Sqlite(dir.path().join("messages.db"));
    let url = Some(store.unwrap_or(file));
    let store: StoreSettings = flags.common.store_settings(url).unwrap();
    let broker: BrokerSettings = flags.common.broker_settings(Some(broker)).unwrap();
    let metrics = Metrics::new();
    Backend {
        broker: shared::broker::open(&broker, &metrics, Earlier::default())
            .await
            .unwrap(),
        store: shared::store::open(&store).await.unwrap(),
        metrics,
        _dir: dir,
    }
}

impl Backend {
    /// Starts a gateway with these flags.
    pub(crate) async fn gateway(&self, flags: &[&str]) -> Running {
        let flags = Flags::parse_from(["gateway"].iter().chain(flags));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (metrics, readiness) = (Metrics::new(), Readiness::new());
        let stop = CancellationToken::new();
        let settings = Settings::from_args(&flags.gateway).unwrap();
        let entrance = Entrance::open(&settings, Arc::clone(&self.store), &metrics)
            .await
            .unwrap();
        let parts = Parts {
            name: "gateway",
            listener,
            settings,
            entrance,
            broker: Arc::clone(&self.broker),
            store: Arc::clone(&self.store),
            pages: Pages::default(),
            metrics: metrics.clone(),
            readiness: readiness.clone(),
            serving: readiness.latch("serving"),
            drain_timeout: flags.common.drain_timeout,
            without: flags.common.without(),
        };
        let run = gateway::run(parts, stop.clone());
        let ended = tokio::spawn(async move { run.await.unwrap() });
        Running {
            address,
            metrics,
            readiness,
            stop,
            ended,
        }
    }

    /// Moves what is accepted into the store, as a persister does.
    pub(crate) async fn storing(&self) -> JoinHandle<()> {
        let feed = self.broker.open_feed("test").await.unwrap();
        tokio::spawn(store_all(feed, Arc::clone(&self.store)))
    }
}

async fn store_all(mut feed: Box<dyn Feed>, store: Arc<dyn Store>) {
    let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(200));
    loop {
        let Ok(entries) = feed.next(50, Duration::from_millis(3)).await else {
            tokio::time::sleep(backoff.next()).await;
            continue;
        };
        backoff.reset();
        let batch: Vec<_> = entries
            .iter()
            .map(|entry| entry.content.clone().unwrap())
            .collect();
        while store.insert(&batch).await.is_err() {
            tokio::time::sleep(backoff.next()).await;
        }
        let settled = entries.iter().map(|entry| Settled {
            id: entry.id,
            notify: entry.notify,
        });
        // What is not settled is handed out again.
        let _ = feed.settler().settle(settled.collect()).await;
    }
}

impl Running {
    pub(crate) fn url(&self) -> String {
        format!("ws://{}/ws", self.address)
    }

    pub(crate) async fn client(&self, user: &str) -> StompClient {
        StompClient::connect(&self.url(), StompOptions::login(user))
            .await
            .unwrap()
    }
}
