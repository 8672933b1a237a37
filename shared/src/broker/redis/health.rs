//! What is looked at for as long as a Redis is used: whether it evicts, and what a server that has
//! come later is like.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use redis::{ConnectionInfo, from_redis_value, pipe};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, error, warn};

use super::check::{self, Expected};
use super::connect::Address;
use super::topology::{Inquiry, Layout};
use crate::metrics::BrokerMetrics;

/// How often.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Looks after the servers for ever.
pub(super) async fn look_after(
    access: ConnectionInfo,
    layout: watch::Receiver<Arc<Layout>>,
    expected: Expected,
    metrics: Arc<BrokerMetrics>,
) {
    let inquiry = Inquiry::new(access, "Redis");
    let mut inspected: BTreeSet<Address> = addresses(&layout.borrow()).into_iter().collect();
    let mut evicted: BTreeMap<Address, u64> = BTreeMap::new();
    loop {
        sleep(LOOK_EVERY).await;
        let now = Arc::clone(&layout.borrow());
        let servers = addresses(&now);
        inspected.retain(|server| servers.contains(server));
        evicted.retain(|server, _| servers.contains(server));
        for (server, _) in now.servers() {
            if inspected.insert(server.address().clone())
                && let Err(reason) = check::inspect(server, expected).await
            {
                warn!(server = %server.address(), %reason, "a server that has come may not be usable");
            }
        }
        for (server, count) in evictions(&inquiry, &servers).await {
            let before = evicted.insert(server.clone(), count);
            let new = match before {
                // It has been started again, and counts from zero.
                Some(before) if count < before => count,
                Some(before) => count - before,
                None => {
                    if count > 0 {
                        warn!(%server, keys = count, "Redis has evicted keys since it was started");
                    }
                    0
                }
            };
            if new > 0 {
                metrics.evicted_keys.inc_by(new);
                error!(
                    %server, keys = new,
                    "Redis evicts what it should hold: accepted messages may be lost. Set \
                     maxmemory-policy to noeviction, and give it more memory"
                );
            }
        }
    }
}

/// How many keys each server has evicted since it was started.
async fn evictions(inquiry: &Inquiry, servers: &[Address]) -> Vec<(Address, u64)> {
    let mut question = pipe();
    question.cmd("INFO").arg("stats");
    let mut counts = Vec::new();
    for (server, answers) in inquiry.ask_all(servers, &question).await {
        let stats = answers
            .ok()
            .and_then(|answers| answers.into_iter().next()?.ok());
        let stats: Option<String> = stats.and_then(|stats| from_redis_value(stats).ok());
        let count = stats.and_then(|stats| check::field(&stats, "evicted_keys")?.parse().ok());
        match count {
            Some(count) => counts.push((server, count)),
            None => debug!(%server, "Redis does not tell what it has evicted"),
        }
    }
    counts
}

fn addresses(layout: &Layout) -> Vec<Address> {
    let servers = layout.servers();
    servers
        .map(|(server, _)| server.address().clone())
        .collect()
}
