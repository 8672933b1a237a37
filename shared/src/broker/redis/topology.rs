//! Which server has which shard, and where that changes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use redis::RedisError;
use tokio::sync::watch;

use super::connect::Connector;
use crate::broker::BrokerError;

/// The servers of one Redis: a single one, whichever a Sentinel names, or those of a cluster.
#[derive(Clone)]
pub(super) struct Topology {
    layout: watch::Sender<Arc<Layout>>,
}

/// Who has what at one time.
pub(super) struct Layout {
    /// The primaries that have shards, each once.
    servers: Vec<Connector>,
    /// By shard, the place of its primary among them.
    homes: Vec<usize>,
}

impl Topology {
    /// The topology behind a URL.
    ///
    /// # Errors
    /// [`BrokerError::Misconfigured`] when the URL cannot be used.
    pub(super) fn new(url: &str, shards: u16) -> Result<Self, BrokerError> {
        let layout = Layout {
            servers: vec![Connector::new(url)?],
            homes: vec![0; usize::from(shards)],
        };
        Ok(Self {
            layout: watch::Sender::new(Arc::new(layout)),
        })
    }

    /// Who has what, as far as is known.
    pub(super) fn layout(&self) -> Arc<Layout> {
        Arc::clone(&self.layout.borrow())
    }

    /// The layouts, from the present one on.
    pub(super) fn watch(&self) -> watch::Receiver<Arc<Layout>> {
        self.layout.subscribe()
    }

    /// Asks for the layout at once: something shows that it may have changed.
    pub(super) fn suspect(&self) {}

    /// Whether several servers share the shards, so that channels are sharded.
    pub(super) fn is_cluster(&self) -> bool {
        false
    }

    /// Says what an error means, naming the server and no password.
    pub(super) fn explain(&self, error: &RedisError) -> BrokerError {
        self.layout().home(0).explain(error)
    }

    /// Repeats an attempt until it succeeds, is hopeless, or the time is over.
    pub(super) async fn insist<'a, T>(
        &self,
        timeout: Duration,
        attempt: impl Fn() -> BoxFuture<'a, Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        self.layout().home(0).insist(timeout, attempt).await
    }
}

impl Layout {
    /// The server that has a shard.
    pub(super) fn home(&self, shard: u16) -> &Connector {
        &self.servers[self.homes[usize::from(shard)]]
    }

    /// The servers, each with its shards.
    pub(super) fn servers(&self) -> impl Iterator<Item = (&Connector, Vec<u16>)> {
        self.servers.iter().enumerate().map(|(at, server)| {
            let shards = (0..).zip(&self.homes);
            let shards = shards.filter(|(_, home)| **home == at);
            (server, shards.map(|(shard, _)| shard).collect())
        })
    }
}
