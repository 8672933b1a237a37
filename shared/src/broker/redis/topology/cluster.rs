//! Which nodes of a Redis Cluster have which slots.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, OnceLock};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::{ConnectionInfo, Value, from_redis_value, pipe};

use super::inquiry::{Answers, Inquiry, together};
use super::{Layout, MOST_ASKED, Source};
use crate::broker::BrokerError;
use crate::broker::redis::connect::Address;
use crate::broker::redis::keys;

/// `redis+cluster://`.
pub(super) struct Cluster {
    access: ConnectionInfo,
    shards: u16,
    seeds: Vec<Address>,
    /// The nodes that the last answers named, which are asked when the seeds are gone.
    learned: Mutex<BTreeSet<Address>>,
    nodes: Inquiry,
    /// The slot of each shard, and behind them that of the number of shards.
    slots: OnceLock<Vec<u16>>,
}

/// What a node says about who has what.
struct View {
    ranges: Vec<Range>,
    nodes: BTreeSet<Address>,
}

/// Slots that one master claims.
struct Range {
    first: u16,
    last: u16,
    master: Address,
    /// Grows whenever a slot goes to another master: of two claims the greater is the newer.
    epoch: u64,
}

impl Cluster {
    pub(super) fn new(access: ConnectionInfo, seeds: Vec<Address>, shards: u16) -> Self {
        Self {
            nodes: Inquiry::new(access.clone(), "Redis"),
            access,
            shards,
            seeds,
            learned: Mutex::default(),
            slots: OnceLock::new(),
        }
    }

    /// Each shard's master, and that of the number of shards.
    async fn homes(&self, before: Option<&Layout>) -> Result<Vec<Address>, BrokerError> {
        let asked = self.asked(before);
        let mut questions = pipe();
        for question in ["INFO", "SLOTS", "NODES"] {
            questions.cmd("CLUSTER").arg(question);
        }
        let (mut views, mut failures) = (Vec::new(), Vec::new());
        for (node, answers) in self.nodes.ask_all(&asked, &questions).await {
            match answers.and_then(|answers| self.read(&node, answers)) {
                Ok(view) => views.push((node, view)),
                Err(error) => failures.push(error),
            }
        }
        let Some((node, _)) = views.first() else {
            return Err(together(failures));
        };
        let slots = self.slots(node).await?;
        let nodes = views.iter().flat_map(|(_, view)| &view.nodes);
        *self.learned() = nodes.cloned().collect();
        let ranges: Vec<&Range> = views.iter().flat_map(|(_, view)| &view.ranges).collect();
        let homes = slots.iter().enumerate().map(|(shard, slot)| {
            let claims = ranges
                .iter()
                .filter(|range| (range.first..=range.last).contains(slot));
            if let Some(newest) = claims.max_by_key(|range| range.epoch) {
                return Ok(newest.master.clone());
            }
            // Nobody has it: whoever had it says so best.
            let before = before.and_then(|before| before.addresses().nth(shard));
            before.cloned().ok_or_else(|| {
                BrokerError::Unavailable(format!("no node of the Redis Cluster has slot {slot}"))
            })
        });
        homes.collect()
    }

    /// The nodes to ask: those in use first, then any.
    fn asked(&self, before: Option<&Layout>) -> Vec<Address> {
        let mut asked: Vec<Address> = Vec::new();
        if let Some(before) = before {
            asked.extend(before.servers().map(|(server, _)| server.address().clone()));
        }
        let mut others: Vec<Address> = self.learned().iter().cloned().collect();
        others.extend(self.seeds.iter().cloned());
        others.sort();
        others.dedup();
        others.retain(|other| !asked.contains(other));
        fastrand::shuffle(&mut others);
        asked.extend(others);
        asked.truncate(MOST_ASKED);
        asked
    }

    fn read(&self, node: &Address, answers: Answers) -> Result<View, BrokerError> {
        let refused = |error: redis::RedisError| {
            if error.to_string().contains("cluster support disabled") {
                return BrokerError::Misconfigured(format!(
                    "Redis at {node} is not part of a cluster: give redis://{node}"
                ));
            }
            self.nodes.explain(node, &error)
        };
        let mut answers = answers.into_iter();
        let mut next = || match answers.next() {
            Some(answer) => answer.map_err(refused),
            None => Err(BrokerError::Unavailable(
                "Redis gave too few answers".into(),
            )),
        };
        let unread = |_| BrokerError::Unavailable(format!("Redis at {node} answers strangely"));
        let info: String = from_redis_value(next()?).map_err(unread)?;
        let slots: Vec<Vec<Value>> = from_redis_value(next()?).map_err(unread)?;
        let epochs: String = from_redis_value(next()?).map_err(unread)?;
        if !info.contains("cluster_state:ok") {
            return Err(BrokerError::Unavailable(format!(
                "Redis at {node} says that its cluster is not well (cluster_state is not ok)"
            )));
        }
        let epochs = epochs_of(&epochs);
        let mut view = View {
            ranges: Vec::new(),
            nodes: BTreeSet::new(),
        };
        for range in slots {
            let [Value::Int(first), Value::Int(last), nodes @ ..] = &range[..] else {
                continue;
            };
            let mut nodes = nodes.iter().filter_map(|other| named(other, node));
            let Some((master, id)) = nodes.next() else {
                continue;
            };
            view.nodes.insert(master.clone());
            view.nodes.extend(nodes.map(|(replica, _)| replica));
            view.ranges.push(Range {
                first: u16::try_from(*first).unwrap_or(u16::MAX),
                last: u16::try_from(*last).unwrap_or_default(),
                master,
                epoch: epochs.get(&id[..]).copied().unwrap_or_default(),
            });
        }
        Ok(view)
    }

    /// The slots, of which any node knows the same.
    async fn slots(&self, node: &Address) -> Result<&[u16], BrokerError> {
        if let Some(slots) = self.slots.get() {
            return Ok(slots);
        }
        let mut questions = pipe();
        let journals = (0..self.shards).map(keys::journal);
        for key in journals.chain([keys::SHARDS.to_string()]) {
            questions.cmd("CLUSTER").arg("KEYSLOT").arg(key);
        }
        let answers = self.nodes.ask(node, &questions).await?;
        let slots = answers.into_iter().map(|answer| {
            let slot = answer.and_then(|slot| Ok(from_redis_value(slot)?));
            slot.map_err(|error| self.nodes.explain(node, &error))
        });
        let slots: Vec<u16> = slots.collect::<Result<_, _>>()?;
        Ok(self.slots.get_or_init(|| slots))
    }

    fn learned(&self) -> std::sync::MutexGuard<'_, BTreeSet<Address>> {
        let learned = self.learned.lock();
        learned.expect("no one panics while holding the addresses")
    }
}

impl Source for Cluster {
    fn look<'a>(
        &'a self,
        before: Option<&'a Layout>,
    ) -> BoxFuture<'a, Result<Layout, BrokerError>> {
        async move { Layout::new(&self.access, &self.homes(before).await?) }.boxed()
    }
}

/// The configuration epochs by node, of `CLUSTER NODES`: `id address flags master ping pong epoch …`.
fn epochs_of(nodes: &str) -> HashMap<&str, u64> {
    let epochs = nodes.lines().filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.next()?, words.nth(5)?.parse().ok()?))
    });
    epochs.collect()
}

/// A node as `CLUSTER SLOTS` names it: host, port, id. No host means that of the one asked.
fn named(node: &Value, asked: &Address) -> Option<(Address, String)> {
    let Value::Array(parts) = node else {
        return None;
    };
    let [host, port, id, ..] = &parts[..] else {
        return None;
    };
    let host: Option<String> = from_redis_value(host.clone()).ok()?;
    let host = host.filter(|host| !host.is_empty() && host != "?");
    let address = Address::new(
        host.unwrap_or_else(|| asked.host.clone()),
        from_redis_value(port.clone()).ok()?,
    );
    Some((address, from_redis_value(id.clone()).ok()?))
}
