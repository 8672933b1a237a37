//! A gateway's live link: its rooms' channels and its own for stored notices, at every server that
//! has shards.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use prometheus::IntCounter;
use tokio::time::timeout;
use tracing::warn;

use super::link::Links;
use super::registry::Registry;
use super::session::{Listener, Scope};
use super::topology::Topology;
use super::unanswered::Unanswered;
use super::{keys, payload};
use crate::broker::handover::{Handover, MAX_BYTES, handover};
use crate::broker::{BrokerError, Event, Fanout, Shown, Subscriber};
use crate::config::{BrokerSettings, Delivery};
use crate::message::{GatewayId, MessageId, RoomName};
use crate::metrics::BrokerMetrics;

/// Opens a gateway's link and keeps it up until its events are let go of.
///
/// # Errors
/// [`BrokerError`] when it cannot be had within the connect deadline.
pub(super) async fn open(
    topology: &Topology,
    settings: &BrokerSettings,
    metrics: &Arc<BrokerMetrics>,
    reconnects: IntCounter,
    unanswered: &Unanswered,
    gateway: GatewayId,
) -> Result<Fanout, BrokerError> {
    let (handover, events) = handover(MAX_BYTES, Arc::clone(metrics));
    let shown = Shown::new();
    let registry = Registry::new(settings.shards);
    let sharded = topology.is_cluster() && settings.delivery == Delivery::AtLeastOnce;
    let links = Links {
        topology: topology.clone(),
        scope: if sharded {
            Scope::ShardedRooms(gateway)
        } else {
            Scope::Rooms(gateway)
        },
        registry: Arc::clone(&registry),
        listener: Arc::new(Receiver {
            handover: handover.clone(),
            shown: shown.clone(),
            unanswered: unanswered.clone(),
        }),
        settings: settings.clone(),
        reconnects,
    };
    let links = links.start(async move { handover.closed().await }).await?;
    // They end with the events.
    links.detach();
    let subscriber = RedisSubscriber {
        registry,
        timeout: settings.publish_timeout,
    };
    Ok(Fanout {
        subscriber: Arc::new(subscriber),
        events,
        shown,
    })
}

struct RedisSubscriber {
    registry: Arc<Registry>,
    timeout: Duration,
}

impl Subscriber for RedisSubscriber {
    fn subscribe(&self, room: RoomName) -> BoxFuture<'_, Result<(), BrokerError>> {
        let confirmed = self.registry.want(room);
        async move {
            let Some(confirmed) = confirmed else {
                return Ok(());
            };
            match timeout(self.timeout, confirmed).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) => Err(BrokerError::Unavailable(
                    "the room was dropped again".into(),
                )),
                Err(_) => Err(BrokerError::Unavailable(
                    "Redis has not confirmed a subscription".into(),
                )),
            }
        }
        .boxed()
    }

    fn unsubscribe(&self, room: &RoomName) {
        self.registry.forget(room);
    }
}

struct Receiver {
    handover: Handover,
    shown: Shown,
    unanswered: Unanswered,
}

impl Listener for Receiver {
    fn heard(&self, channel: &[u8], octets: &[u8]) {
        let event = match keys::channel_shard(channel) {
            Some(shard) if payload::id(shard, octets).is_some_and(|id| self.shown.take(id)) => {
                return;
            }
            Some(shard) => match payload::heard(shard, &Bytes::copy_from_slice(octets)) {
                Ok((message, _)) => Event::Message(Arc::new(message)),
                Err(reason) => {
                    let channel = String::from_utf8_lossy(channel);
                    warn!(%channel, %reason, "what was published in a room is no message");
                    Event::Gap
                }
            },
            None => match ids(octets) {
                Some(ids) => Event::Stored(ids),
                None => {
                    warn!("a notice of stored messages cannot be read");
                    return;
                }
            },
        };
        self.handover.offer(event);
    }

    fn interrupted(&self) {
        self.handover.offer(Event::Gap);
    }

    /// Who waits for an answer may show the message by it, and then its copy need not be read.
    fn hesitates(&self) -> bool {
        self.unanswered.any()
    }
}

/// Reads a notice: message ids with spaces between them.
fn ids(notice: &[u8]) -> Option<Vec<MessageId>> {
    let text = std::str::from_utf8(notice).ok()?;
    text.split_ascii_whitespace()
        .map(|id| id.parse().ok())
        .collect()
}
