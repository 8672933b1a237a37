//! The broker on Redis: see `accept.lua` for what one publish does there.

mod acceptance;
mod announce;
mod check;
mod commands;
mod connect;
mod entries;
mod exchange;
mod fanout;
mod feed;
mod health;
mod keys;
mod lane;
mod lasting;
mod link;
mod live;
mod outcome;
mod packed;
mod payload;
mod publish;
mod reap;
mod recent;
mod registry;
mod resp;
mod session;
mod settle;
mod topology;
mod track;
mod unanswered;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use prometheus::IntCounter;
use redis::{Value, cmd};

use self::commands::Commands;
use self::feed::JournalFeed;
use self::live::LiveFeed;
use self::publish::Publisher;
use self::topology::Topology;
use self::unanswered::Unanswered;
use super::shard::shard_of;
use super::{Accepted, Broker, BrokerError, Fanout, Feed, Guarantees, PublishError, Recent};
use crate::config::{BrokerSettings, Delivery};
use crate::message::{Draft, GatewayId, RoomName, Span};
use crate::metrics::{BrokerMetrics, Metrics};

/// Opens the broker and checks that the server can be used.
///
/// # Errors
/// See [`super::open`].
pub(super) async fn open(
    url: &str,
    settings: &BrokerSettings,
    metrics: &Metrics,
) -> Result<Arc<dyn Broker>, BrokerError> {
    let metrics = Arc::clone(&metrics.broker);
    let topology = Topology::open(url, settings, &metrics).await?;
    let reconnects = metrics.reconnects.with_label_values(&["publish"]);
    let commands = Commands::new(
        topology.clone(),
        settings.publish_timeout,
        reconnects.clone(),
    );
    topology
        .insist(settings.connect_timeout, || {
            check::check(&topology, settings).boxed()
        })
        .await?;
    let unanswered = Unanswered::default();
    Ok(Arc::new(RedisBroker {
        publisher: Publisher::start(&topology, settings, &reconnects, unanswered.clone()),
        unanswered,
        topology,
        commands,
        settings: settings.clone(),
        metrics,
    }))
}

struct RedisBroker {
    topology: Topology,
    /// For everything but publishing, subscribing and feeding.
    commands: Commands,
    publisher: Publisher,
    unanswered: Unanswered,
    settings: BrokerSettings,
    metrics: Arc<BrokerMetrics>,
}

impl RedisBroker {
    fn reconnects(&self, link: &str) -> IntCounter {
        self.metrics.reconnects.with_label_values(&[link])
    }
}

impl Broker for RedisBroker {
    fn publish(&self, draft: Draft) -> BoxFuture<'static, Result<Accepted, PublishError>> {
        self.publisher.publish(draft)
    }

    fn open_fanout(&self, gateway: GatewayId) -> BoxFuture<'_, Result<Fanout, BrokerError>> {
        let reconnects = self.reconnects("fanout");
        fanout::open(
            &self.topology,
            &self.settings,
            &self.metrics,
            reconnects,
            &self.unanswered,
            gateway,
        )
        .boxed()
    }

    fn open_feed(&self, consumer: &str) -> BoxFuture<'_, Result<Box<dyn Feed>, BrokerError>> {
        let consumer = consumer.to_string();
        let reconnects = self.reconnects("feed");
        let (topology, settings) = (&self.topology, &self.settings);
        async move {
            Ok(match settings.delivery {
                Delivery::AtLeastOnce => {
                    Box::new(JournalFeed::open(topology, settings, &reconnects, &consumer).await?)
                        as Box<dyn Feed>
                }
                Delivery::AtMostOnce => {
                    Box::new(LiveFeed::open(topology, settings, &self.metrics, &reconnects).await?)
                }
            })
        }
        .boxed()
    }

    fn recent<'a>(
        &'a self,
        room: &'a RoomName,
        span: Span,
        limit: usize,
    ) -> BoxFuture<'a, Result<Recent, BrokerError>> {
        async move {
            if self.settings.delivery == Delivery::AtMostOnce {
                return Ok(Recent::default());
            }
            let shard = shard_of(room, self.settings.shards);
            let reading = recent::read(&self.topology, &self.commands, shard, room, span, limit);
            let late = || BrokerError::Unavailable("Redis does not answer in time".into());
            tokio::time::timeout(self.settings.publish_timeout, reading)
                .await
                .unwrap_or_else(|_| Err(late()))
        }
        .boxed()
    }

    fn window(&self) -> Duration {
        self.settings.recent_ttl
    }

    fn backlog(&self) -> BoxFuture<'_, Result<u64, BrokerError>> {
        async move {
            let length = |shard| (shard, cmd("XLEN").arg(keys::journal(shard)).take());
            let lengths = (0..self.settings.shards).map(length).collect();
            let mut backlog = 0;
            for answer in self.commands.spread(lengths).await {
                let answer = answer?.extract_error();
                if let Value::Int(length) = answer.map_err(|error| self.topology.explain(&error))? {
                    backlog += u64::try_from(length).unwrap_or_default();
                }
            }
            Ok(backlog)
        }
        .boxed()
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        async move {
            let layout = self.topology.layout();
            let first = |shards: Vec<u16>| Some((*shards.first()?, cmd("PING")));
            let pings = layout.servers().filter_map(|(_, shards)| first(shards));
            let answers = self.commands.spread(pings.collect()).await;
            // Where one server of several is away, the others' rooms are served.
            let mut last = Err(BrokerError::Unavailable("no server has a shard".into()));
            for answer in answers {
                let answer = answer.and_then(|answer| {
                    let answer = answer.extract_error();
                    answer.map_err(|error| self.topology.explain(&error))
                });
                match answer {
                    Ok(_) => return Ok(()),
                    error => last = error.map(drop),
                }
            }
            last
        }
        .boxed()
    }

    fn guarantees(&self) -> Guarantees {
        Guarantees {
            durable: true,
            journaled: self.settings.delivery == Delivery::AtLeastOnce,
        }
    }
}
