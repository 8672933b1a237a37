//! The feed of at-most-once delivery: it subscribes to all rooms, and what it does not hear is
//! lost.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use prometheus::IntCounter;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::commands::Commands;
use super::link::Links;
use super::registry::Registry;
use super::session::{Listener, Scope};
use super::settle::Unjournaled;
use super::topology::Topology;
use super::{keys, payload};
use crate::broker::inbox::Inbox;
use crate::broker::{BrokerError, Entry, Feed, Settler};
use crate::config::BrokerSettings;
use crate::metrics::BrokerMetrics;

/// Hears every room.
pub(super) struct LiveFeed {
    inbox: Arc<Inbox>,
    settler: Arc<dyn Settler>,
    _links: AbortOnDropHandle<()>,
}

impl LiveFeed {
    /// # Errors
    /// [`BrokerError`] when the link cannot be had within the connect deadline.
    pub(super) async fn open(
        topology: &Topology,
        settings: &BrokerSettings,
        metrics: &Arc<BrokerMetrics>,
        reconnects: &IntCounter,
    ) -> Result<Self, BrokerError> {
        let inbox = Arc::new(Inbox::new(Arc::clone(metrics)));
        let links = Links {
            topology: topology.clone(),
            scope: Scope::AllRooms,
            registry: Registry::new(settings.shards),
            listener: Arc::new(Receiver {
                inbox: Arc::clone(&inbox),
            }),
            settings: settings.clone(),
            reconnects: reconnects.clone(),
        };
        let links = links.start(std::future::pending()).await?;
        let commands = Commands::new(
            topology.clone(),
            settings.publish_timeout,
            reconnects.clone(),
        );
        Ok(Self {
            inbox,
            settler: Arc::new(Unjournaled {
                topology: topology.clone(),
                commands,
            }),
            _links: links,
        })
    }
}

impl Feed for LiveFeed {
    fn next(
        &mut self,
        max: usize,
        linger: Duration,
    ) -> BoxFuture<'_, Result<Vec<Entry>, BrokerError>> {
        self.inbox.next(max, linger).map(Ok).boxed()
    }

    fn settler(&self) -> Arc<dyn Settler> {
        Arc::clone(&self.settler)
    }
}

struct Receiver {
    inbox: Arc<Inbox>,
}

impl Listener for Receiver {
    fn heard(&self, channel: &[u8], octets: &[u8]) {
        let Some(shard) = keys::channel_shard(channel) else {
            return;
        };
        match payload::heard(shard, &Bytes::copy_from_slice(octets)) {
            // Whoever listened has heard it, and that is all that it was for.
            Ok((message, _)) if message.ephemeral => {}
            Ok((message, notify)) => {
                let id = message.id;
                self.inbox.offer(Entry {
                    id,
                    content: Ok(Arc::new(message)),
                    notify,
                });
            }
            Err(reason) => warn!(%reason, "what was published in a room is no message"),
        }
    }

    fn interrupted(&self) {
        warn!("messages may have been lost while the link to Redis was down");
    }

    fn hesitates(&self) -> bool {
        false
    }
}
