//! The servers behind a backend. A single Redis is a test's own; a set with Sentinels and a cluster
//! take seconds to start, so that the tests of one process take turns at one of each.

use harness::{Cluster, Redis, Sentinel};
use redis::cmd;
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use super::Kind;

/// What a test has of servers.
pub(super) enum Server {
    None,
    Redis(Redis),
    Sentinel(MappedMutexGuard<'static, Sentinel>),
    Cluster(MappedMutexGuard<'static, Cluster>),
}

static SENTINEL: Mutex<Option<Sentinel>> = Mutex::const_new(None);
static CLUSTER: Mutex<Option<Cluster>> = Mutex::const_new(None);

impl Server {
    /// Starts or waits for them; there is nothing on them.
    pub(super) async fn start(kind: Kind) -> Self {
        match kind {
            Kind::Memory => Self::None,
            Kind::Redis => Self::Redis(Redis::start().await),
            Kind::Sentinel => {
                let mut shared = SENTINEL.lock().await;
                if shared.is_none() {
                    *shared = Some(Sentinel::start().await);
                }
                let set = MutexGuard::map(shared, |set| set.as_mut().expect("it was just started"));
                flush(set.primary().await).await;
                Self::Sentinel(set)
            }
            Kind::Cluster => {
                let mut shared = CLUSTER.lock().await;
                if shared.is_none() {
                    *shared = Some(Cluster::start().await);
                }
                let cluster = MutexGuard::map(shared, |cluster| {
                    cluster.as_mut().expect("it was just started")
                });
                for master in cluster.masters().await {
                    flush(master).await;
                }
                Self::Cluster(cluster)
            }
        }
    }
}

async fn flush(primary: &Redis) {
    let flushed: redis::RedisResult<()> = primary.ask(&cmd("FLUSHALL")).await;
    flushed.expect("a primary that runs forgets everything");
}
