//! What `shared::broker` promises, on every backend.

mod accept;
mod earlier;
mod ephemeral;
mod feed;
mod flow;
mod live;
mod lossy;
mod once;
mod recent;
mod redis_failover;
mod redis_faults;
mod redis_feed;
mod redis_link;
mod redis_moves;
mod redis_publish;
mod redis_replicas;
mod redis_setup;
mod redis_topology;
mod servers;
mod stream;
mod unjournaled;
mod valve;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use harness::redis::Redis;
use harness::until::DEADLINE;
use shared::broker::{Broker, Entry, Event, Events, Feed, Settled};
use shared::config::{BrokerSettings, BrokerUrl, Delivery};
use shared::message::{Draft, IdempotencyKey, Message, MessageId, RoomName, Series, UserName};
use shared::metrics::Metrics;
use tokio::time::timeout;

use self::servers::Server;

/// Runs each function once per backend.
macro_rules! on_every_backend {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::broker_conformance::Kind::Memory).await;
            })*
        }
        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::broker_conformance::Kind::Redis).await;
            })*
        }
        mod sentinel {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::broker_conformance::Kind::Sentinel).await;
            })*
        }
        mod cluster {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::broker_conformance::Kind::Cluster).await;
            })*
        }
    };
}
use on_every_backend;

/// Which backend a test runs on.
#[derive(Clone, Copy)]
enum Kind {
    Memory,
    Redis,
    Sentinel,
    Cluster,
}

/// A backend of a test's own.
struct Backend {
    settings: BrokerSettings,
    metrics: Metrics,
    /// The broker inside this process is one and the same for all.
    memory: Option<Arc<dyn Broker>>,
    server: Server,
}

impl Backend {
    async fn start(kind: Kind) -> Self {
        Self::start_with(kind, |_| {}).await
    }

    async fn start_with(kind: Kind, change: impl FnOnce(&mut BrokerSettings)) -> Self {
        let server = Server::start(kind).await;
        let url = match &server {
            Server::None => BrokerUrl::Memory,
            Server::Redis(redis) => BrokerUrl::Redis(redis.url()),
            Server::Sentinel(set) => BrokerUrl::Redis(set.url()),
            Server::Cluster(cluster) => BrokerUrl::Redis(cluster.url()),
        };
        let mut settings = settings(url);
        change(&mut settings);
        let metrics = Metrics::new();
        let memory = match kind {
            Kind::Memory => Some(
                shared::broker::open(&settings, &metrics, shared::broker::Earlier::default())
                    .await
                    .expect("it opens"),
            ),
            Kind::Redis | Kind::Sentinel | Kind::Cluster => None,
        };
        Self {
            settings,
            metrics,
            memory,
            server,
        }
    }

    /// A broker as another process would open it.
    async fn broker(&self) -> Arc<dyn Broker> {
        match &self.memory {
            Some(memory) => Arc::clone(memory),
            None => {
                let opened = shared::broker::open(
                    &self.settings,
                    &self.metrics,
                    shared::broker::Earlier::default(),
                )
                .await;
                opened.expect("the server answers")
            }
        }
    }

    fn redis(&mut self) -> &mut Redis {
        match &mut self.server {
            Server::Redis(redis) => redis,
            _ => panic!("this backend is not a single Redis"),
        }
    }

    fn reconnects(&self, link: &str) -> u64 {
        self.metrics
            .broker
            .reconnects
            .with_label_values(&[link])
            .get()
    }
}

/// A Redis on which all rooms share one journal.
async fn one_shard() -> Backend {
    Backend::start_with(Kind::Redis, |settings| settings.shards = 1).await
}

fn settings(url: BrokerUrl) -> BrokerSettings {
    BrokerSettings {
        url,
        delivery: Delivery::AtLeastOnce,
        shards: 4,
        journal_max: 100_000,
        recent_max: 200,
        recent_ttl: Duration::from_secs(600),
        publish_timeout: Duration::from_secs(20),
        connect_timeout: Duration::from_secs(20),
        takeover_after: Duration::from_secs(30),
        replicas: None,
        without: shared::config::Without::NOTHING,
    }
}

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

fn draft(room_name: &str, body: impl ToString) -> Draft {
    Draft {
        room: room(room_name),
        sender: UserName::parse("ann").unwrap(),
        content_type: None,
        headers: Vec::new(),
        body: Bytes::from(body.to_string()),
        idempotency_key: None,
        newer_than: None,
        notify: None,
        series: Series::default(),
        ephemeral: false,
    }
}

fn keyed(room_name: &str, key: &str) -> Draft {
    Draft {
        idempotency_key: Some(IdempotencyKey::parse(key).unwrap()),
        ..draft(room_name, key)
    }
}

async fn accept(broker: &Arc<dyn Broker>, draft: Draft) -> MessageId {
    broker.publish(draft).await.expect("it is accepted").id
}

async fn event(events: &mut Events) -> Event {
    let next = timeout(DEADLINE, events.next()).await;
    next.expect("something arrives in time")
        .expect("the link stays open")
}

async fn message(events: &mut Events) -> Arc<Message> {
    match event(events).await {
        Event::Message(message) => message,
        other => panic!("{other:?} instead of a message"),
    }
}

/// Takes events until a gap.
async fn gap(events: &mut Events) {
    while !matches!(event(events).await, Event::Gap) {}
}

/// Reads a feed until it has handed out `count` entries.
async fn entries(feed: &mut Box<dyn Feed>, count: usize) -> Vec<Entry> {
    let mut read = Vec::new();
    let reading = async {
        while read.len() < count {
            // An error is an outage that the test has made: the caller calls again.
            read.extend(
                feed.next(count - read.len(), Duration::ZERO)
                    .await
                    .unwrap_or_default(),
            );
        }
    };
    let done = timeout(DEADLINE, reading).await;
    done.unwrap_or_else(|_| panic!("{} of {count} entries were handed out", read.len()));
    read
}

fn ids(entries: &[Entry]) -> Vec<MessageId> {
    entries.iter().map(|entry| entry.id).collect()
}

fn settled(entries: &[Entry]) -> Vec<Settled> {
    entries
        .iter()
        .map(|entry| Settled {
            id: entry.id,
            notify: entry.notify,
        })
        .collect()
}
