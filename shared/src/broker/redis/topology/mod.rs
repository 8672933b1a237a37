//! Which server has which shard, and where that changes.

mod belief;
mod cluster;
mod inquiry;
mod layout;
mod sentinel;
mod single;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use redis::RedisError;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, info};

use self::cluster::Cluster;
pub(super) use self::inquiry::Inquiry;
pub(super) use self::layout::Layout;
use self::sentinel::Sentinels;
use self::single::Single;
use super::check::Expected;
use super::connect::{Address, explain};
use super::health::look_after;
use crate::backoff::Backoff;
use crate::broker::BrokerError;
use crate::config::BrokerSettings;
use crate::config::servers::{Arrangement, Servers};
use crate::metrics::BrokerMetrics;

/// How often the servers are asked who has what, at the least and at the most.
const ASK_EVERY: std::ops::Range<u64> = 1000..2000;

/// The pause between two askings, however often a change is suspected.
const PAUSE: Duration = Duration::from_millis(100);

/// How long after a change it is asked as often as that: replicas come and go with it, and a
/// message that one more replica should have does not wait for it until it is known.
const UNSETTLED: Duration = Duration::from_secs(15);

/// The most Sentinels, or nodes of a cluster, that are asked at a time.
const MOST_ASKED: usize = 16;

/// The servers of one Redis: a single one, whichever a Sentinel names, or those of a cluster. It
/// is asked again and again who has what, until the last clone is dropped.
#[derive(Clone)]
pub(super) struct Topology(Arc<Watched>);

struct Watched {
    cluster: bool,
    successors: bool,
    layout: watch::Sender<Arc<Layout>>,
    /// When the last asking began that has been answered.
    confirmed: watch::Sender<Instant>,
    /// When the last asking began that is over, answered or not.
    asked: watch::Sender<Instant>,
    suspected: Arc<Notify>,
    watching: AbortHandle,
}

/// Finds out who has what.
trait Source: Send + Sync + 'static {
    /// Asks. `before` is what was known so far.
    fn look<'a>(&'a self, before: Option<&'a Layout>)
    -> BoxFuture<'a, Result<Layout, BrokerError>>;
}

impl Topology {
    /// The topology behind a URL, as soon as it is known who has what.
    ///
    /// # Errors
    /// [`BrokerError::Misconfigured`] when the URL, or what it names, cannot be used;
    /// [`BrokerError::Unavailable`] when that is not known within the connect deadline.
    pub(super) async fn open(
        url: &str,
        settings: &BrokerSettings,
        metrics: &Arc<BrokerMetrics>,
    ) -> Result<Self, BrokerError> {
        let servers: Servers = url
            .parse()
            .map_err(|error| BrokerError::Misconfigured(format!("{error}")))?;
        let source = source(&servers, settings.shards);
        let whom = Servers::redacted(url);
        let confirmed = watch::Sender::new(Instant::now());
        let asked = watch::Sender::new(Instant::now());
        let first = insist(settings.connect_timeout, &whom, || source.look(None)).await?;
        let layout = watch::Sender::new(Arc::new(first));
        let suspected = Arc::new(Notify::new());
        let cluster = servers.arrangement == Arrangement::Cluster;
        let health = look_after(
            servers.access,
            layout.subscribe(),
            Expected::new(cluster, settings),
            Arc::clone(metrics),
        );
        let watching = watch(
            source,
            layout.clone(),
            confirmed.clone(),
            asked.clone(),
            Arc::clone(&suspected),
        );
        let both = async move { tokio::join!(watching, health) };
        Ok(Self(Arc::new(Watched {
            cluster,
            successors: servers.arrangement != Arrangement::Single,
            layout,
            confirmed,
            asked,
            suspected,
            watching: tokio::spawn(both).abort_handle(),
        })))
    }

    /// Who has what, as far as is known.
    pub(super) fn layout(&self) -> Arc<Layout> {
        Arc::clone(&self.0.layout.borrow())
    }

    /// The layouts, from the present one on.
    pub(super) fn watch(&self) -> watch::Receiver<Arc<Layout>> {
        self.0.layout.subscribe()
    }

    /// Asks who has what at once: something shows that it may have changed.
    pub(super) fn suspect(&self) {
        self.0.suspected.notify_one();
    }

    /// Asks at once, and returns when what is known is not older than this call, or the time is
    /// over.
    pub(super) async fn confirm(&self, within: Duration) -> bool {
        self.asks(self.0.confirmed.subscribe(), within).await
    }

    /// Asks at once, and returns when that is answered or has failed, or the time is over.
    pub(super) async fn ask(&self, within: Duration) {
        self.asks(self.0.asked.subscribe(), within).await;
    }

    async fn asks(&self, mut done: watch::Receiver<Instant>, within: Duration) -> bool {
        let now = Instant::now();
        self.suspect();
        let newer = done.wait_for(|began| *began >= now);
        timeout(within, newer)
            .await
            .is_ok_and(|newer| newer.is_ok())
    }

    /// How long ago it was last asked, and answered, who has what.
    pub(super) fn age(&self) -> Duration {
        self.0.confirmed.borrow().elapsed()
    }

    /// Whether it is a Redis Cluster.
    pub(super) fn is_cluster(&self) -> bool {
        self.0.cluster
    }

    /// Whether another server takes a primary's place when it is gone.
    pub(super) fn has_successors(&self) -> bool {
        self.0.successors
    }

    /// Says what an error means, naming no password; a [`Connector`](super::connect::Connector)
    /// names the server too.
    pub(super) fn explain(&self, error: &RedisError) -> BrokerError {
        let layout = self.layout();
        match layout.only() {
            Some(server) => server.explain(error),
            None => explain("Redis Cluster", error),
        }
    }

    /// Repeats an attempt until it succeeds, is hopeless, or the time is over.
    pub(super) async fn insist<'a, T>(
        &self,
        timeout: Duration,
        attempt: impl Fn() -> BoxFuture<'a, Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let whom = format!("Redis at {}", self.layout());
        insist(timeout, &whom, attempt).await
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

fn source(servers: &Servers, shards: u16) -> Box<dyn Source> {
    let seeds = servers.hosts.iter().cloned();
    let seeds: Vec<_> = seeds.map(|(host, port)| Address::new(host, port)).collect();
    let access = servers.access.clone();
    match &servers.arrangement {
        Arrangement::Single => Box::new(Single {
            access,
            server: seeds[0].clone(),
            shards,
        }),
        Arrangement::Sentinel(service) => Box::new(Sentinels::new(service, access, seeds, shards)),
        Arrangement::Cluster => Box::new(Cluster::new(access, seeds, shards)),
    }
}

/// Repeats an attempt until it succeeds, is hopeless, or the time is over.
async fn insist<'a, T>(
    timeout: Duration,
    whom: &str,
    attempt: impl Fn() -> BoxFuture<'a, Result<T, BrokerError>>,
) -> Result<T, BrokerError> {
    let deadline = Instant::now() + timeout;
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    let mut reason = format!("{whom} does not answer in time");
    loop {
        match timeout_at(deadline, attempt()).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(BrokerError::Misconfigured(line))) => {
                return Err(BrokerError::Misconfigured(line));
            }
            Ok(Err(BrokerError::Unavailable(line))) => reason = line,
            Err(_) => {}
        }
        if timeout_at(deadline, sleep(backoff.next())).await.is_err() {
            return Err(BrokerError::Unavailable(reason));
        }
    }
}

/// Asks for ever, and tells the layout when it has changed.
async fn watch(
    source: Box<dyn Source>,
    layout: watch::Sender<Arc<Layout>>,
    confirmed: watch::Sender<Instant>,
    asked: watch::Sender<Instant>,
    suspected: Arc<Notify>,
) {
    let mut changed: Option<Instant> = None;
    loop {
        let pause = match changed {
            Some(changed) if changed.elapsed() < UNSETTLED => PAUSE,
            _ => Duration::from_millis(fastrand::u64(ASK_EVERY)),
        };
        let _ = timeout(pause, suspected.notified()).await;
        let before = Arc::clone(&layout.borrow());
        let began = Instant::now();
        match source.look(Some(&before)).await {
            Ok(now) => {
                if !now.homes().eq(before.homes()) {
                    changed = Some(began);
                }
                let moved = !now.agrees(&before);
                if moved {
                    info!(before = %*before, %now, "shards have moved");
                }
                // Who waits for a move does not care for replicas.
                layout.send_if_modified(|known| {
                    *known = Arc::new(now);
                    moved
                });
                confirmed.send_replace(began);
            }
            Err(error) => debug!(%error, "it is not known who has which shard"),
        }
        asked.send_replace(began);
        sleep(PAUSE).await;
    }
}
