//! Which nodes of a Redis Cluster have which slots.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, OnceLock};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::{ConnectionInfo, Value, from_redis_value, pipe};
use tokio::time::Instant;

use super::belief::Belief;
use super::inquiry::{Answers, Inquiry, together};
use super::layout::Home;
use super::{Layout, MOST_ASKED, Source};
use crate::broker::BrokerError;
use crate::broker::redis::check::field;
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
    /// Of each slot.
    beliefs: Mutex<Vec<Belief>>,
}

/// What a node says about who has what.
struct View {
    ranges: Vec<Range>,
    nodes: BTreeSet<Address>,
    /// Those that are held to be down.
    down: BTreeSet<Address>,
    /// How many masters there are.
    size: usize,
}

/// Slots that one master claims.
struct Range {
    first: u16,
    last: u16,
    home: Home,
    /// Grows whenever a slot goes to another master: of two claims the greater is the newer.
    epoch: u64,
}

/// What a node knows of another.
struct Known {
    /// `None` where it is not known.
    address: Option<Address>,
    epoch: u64,
    /// It is heard of, and not held to have failed.
    up: bool,
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
            beliefs: Mutex::default(),
        }
    }

    async fn layout(&self, before: Option<&Layout>) -> Result<Layout, BrokerError> {
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
        let views: Vec<View> = views.into_iter().map(|(_, view)| view).collect();
        *self.learned() = views.iter().flat_map(|view| view.nodes.clone()).collect();
        let homes = self.chosen(slots, &views, before, Instant::now())?;
        let down = views.into_iter().map(|view| view.down);
        let down = down.reduce(|one, other| &one & &other);
        // A node's address in the cluster may be another than the one by which it replicates.
        Layout::new(&self.access, &homes, down.unwrap_or_default(), false)
    }

    /// The master of each slot, by the newest claim of all views.
    fn chosen(
        &self,
        slots: &[u16],
        views: &[View],
        before: Option<&Layout>,
        now: Instant,
    ) -> Result<Vec<Home>, BrokerError> {
        // One alone may have slept through its own replacement.
        let size = views.iter().map(|view| view.size).max().unwrap_or(1);
        let needed = size.min(MOST_ASKED) / 2 + 1;
        if views.len() < needed {
            return Err(BrokerError::Unavailable(format!(
                "{} nodes of the Redis Cluster answer and find it well, {needed} are needed",
                views.len()
            )));
        }
        let mut beliefs = self.beliefs.lock().expect("no one panics while holding it");
        beliefs.resize(slots.len(), Belief::default());
        let known = slots.iter().zip(beliefs.iter_mut()).enumerate();
        let homes = known.map(|(at, (slot, belief))| {
            let known_before = before.and_then(|before| before.homes().nth(at));
            let before = known_before.as_ref().map(|home| &home.address);
            let ranges = views.iter().flat_map(|view| &view.ranges);
            let claims = ranges.filter(|range| (range.first..=range.last).contains(slot));
            // Nodes may call one master by several names: it stays under the one in use. Of its
            // replicas, as many as any node finds up.
            let claims = claims.map(|range| {
                let in_use = Some(&range.home.address) == before;
                (range.epoch, in_use, range.home.replicas.len(), range)
            });
            let newest =
                claims.max_by_key(|(epoch, in_use, replicas, _)| (*epoch, *in_use, *replicas));
            if let Some((epoch, .., newest)) = newest
                && belief.accepts(epoch, now)
            {
                return Ok(newest.home.clone());
            }
            // Nobody has it, or only one who has lost it says so: it is where it was.
            known_before.ok_or_else(|| {
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
        let nodes: String = from_redis_value(next()?).map_err(unread)?;
        if !info.contains("cluster_state:ok") {
            return Err(BrokerError::Unavailable(format!(
                "Redis at {node} says that its cluster is not well (cluster_state is not ok)"
            )));
        }
        let known = known(&nodes);
        let size = field(&info, "cluster_size").and_then(|size| size.parse().ok());
        let mut view = View {
            ranges: Vec::new(),
            nodes: BTreeSet::new(),
            down: (known.values())
                .filter(|node| !node.up)
                .filter_map(|node| node.address.clone())
                .collect(),
            size: size.unwrap_or(1),
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
            // Those that have failed, or have no data yet, are not named.
            let mut replicas = BTreeSet::new();
            for (replica, id) in nodes {
                if known.get(&id[..]).is_some_and(|replica| replica.up) {
                    replicas.insert(replica.clone());
                }
                view.nodes.insert(replica);
            }
            view.ranges.push(Range {
                first: u16::try_from(*first).unwrap_or(u16::MAX),
                last: u16::try_from(*last).unwrap_or_default(),
                home: Home {
                    address: master,
                    replicas,
                },
                epoch: known.get(&id[..]).map_or(0, |master| master.epoch),
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
        self.layout(before).boxed()
    }
}

/// The nodes by their ids, of `CLUSTER NODES`: `id address flags master ping pong epoch link …`.
fn known(nodes: &str) -> HashMap<&str, Known> {
    let nodes = nodes.lines().filter_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let [id, address, flags, _, _, _, epoch, link, ..] = words[..] else {
            return None;
        };
        // `host:port@bus,name`
        let address = address.split('@').next().and_then(|it| it.rsplit_once(':'));
        let known = Known {
            address: address.and_then(|(host, port)| Some(Address::new(host, port.parse().ok()?))),
            epoch: epoch.parse().ok()?,
            up: link == "connected"
                && !flags
                    .split(',')
                    .any(|flag| matches!(flag, "fail" | "fail?")),
        };
        Some((id, known))
    });
    nodes.collect()
}

/// A node as `CLUSTER SLOTS` names it: host, port, id, and what else is known of where it is. No
/// host means that of the one asked; `?` stands for a hostname that it should have and has not.
fn named(node: &Value, asked: &Address) -> Option<(Address, String)> {
    let Value::Array(parts) = node else {
        return None;
    };
    let [host, port, id, others @ ..] = &parts[..] else {
        return None;
    };
    let mut host: Option<String> = from_redis_value(host.clone()).ok()?;
    if host.as_deref() == Some("?") {
        let others: HashMap<String, String> = from_redis_value(others.first()?.clone()).ok()?;
        host = Some(others.get("ip")?.clone());
    }
    let host = host.filter(|host| !host.is_empty());
    let address = Address::new(
        host.unwrap_or_else(|| asked.host.clone()),
        from_redis_value(port.clone()).ok()?,
    );
    Some((address, from_redis_value(id.clone()).ok()?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use redis::IntoConnectionInfo;

    use super::*;

    fn home(master: &str) -> Home {
        Home {
            address: Address::new(master, 6379),
            replicas: BTreeSet::new(),
        }
    }

    fn says(master: &str, epoch: u64) -> View {
        let range = Range {
            first: 5,
            last: 9,
            home: home(master),
            epoch,
        };
        View {
            ranges: vec![range],
            nodes: BTreeSet::new(),
            down: BTreeSet::new(),
            size: 1,
        }
    }

    #[test]
    fn a_master_that_has_lost_its_slots_is_not_believed() {
        let access = "redis://a".into_connection_info().unwrap();
        let cluster = Cluster::new(access.clone(), Vec::new(), 1);
        let start = Instant::now();
        let mut before: Option<Layout> = None;
        for (views, seconds, master) in [
            (vec![says("old", 1)], 0, "old"),
            (vec![says("old", 1), says("new", 7)], 10, "new"),
            (vec![says("new", 7), says("old", 1)], 20, "new"),
            (vec![says("old", 1)], 30, "new"),
            // The cluster was restored from a copy.
            (vec![says("old", 2)], 90, "old"),
        ] {
            let now = start + Duration::from_secs(seconds);
            let homes = cluster
                .chosen(&[5, 9], &views, before.as_ref(), now)
                .unwrap();
            assert_eq!(homes, vec![home(master); 2], "after {seconds} s");
            before = Some(Layout::new(&access, &homes, BTreeSet::new(), false).unwrap());
        }
    }

    #[test]
    fn a_node_without_a_host_is_where_the_one_that_was_asked_is() {
        let word = |text: &str| Value::BulkString(text.into());
        let asked = Address::new("10.0.0.1", 7000);
        for (host, address) in [
            (
                word("redis-1.example"),
                Address::new("redis-1.example", 7001),
            ),
            (word("fd00::1"), Address::new("fd00::1", 7001)),
            (Value::Nil, Address::new("10.0.0.1", 7001)),
            (word(""), Address::new("10.0.0.1", 7001)),
        ] {
            let node = Value::Array(vec![host, Value::Int(7001), word("id")]);
            assert_eq!(named(&node, &asked), Some((address, "id".into())));
        }
        assert_eq!(Address::new("fd00::1", 7001).to_string(), "[fd00::1]:7001");
    }

    #[test]
    fn a_node_that_should_have_a_hostname_and_has_none_is_at_its_ip() {
        let word = |text: &str| Value::BulkString(text.into());
        let asked = Address::new("redis-1.example", 6379);
        let node = |metadata| {
            let parts = vec![word("?"), Value::Int(6379), word("id"), metadata];
            named(&Value::Array(parts), &asked)
        };
        let address = Address::new("10.0.0.2", 6379);
        let told = node(Value::Array(vec![word("ip"), word("10.0.0.2")]));
        assert_eq!(told, Some((address, "id".into())));
        // Taken for the one that was asked, it would be another.
        assert_eq!(node(Value::Array(Vec::new())), None);
    }

    #[test]
    fn a_master_with_two_names_stays_under_the_one_in_use() {
        let access = "redis://a".into_connection_info().unwrap();
        let cluster = Cluster::new(access.clone(), Vec::new(), 1);
        let mut before: Option<Layout> = None;
        for views in [
            [says("here", 3), says("10.0.0.1", 3)],
            [says("10.0.0.1", 3), says("here", 3)],
            [says("here", 3), says("10.0.0.1", 3)],
        ] {
            let homes = cluster.chosen(&[5, 9], &views, before.as_ref(), Instant::now());
            let now = Layout::new(&access, &homes.unwrap(), BTreeSet::new(), false).unwrap();
            assert!(
                before.is_none_or(|before| Layout::agrees(&before, &now)),
                "{now}"
            );
            before = Some(now);
        }
    }

    #[test]
    fn one_node_of_many_is_not_believed() {
        let access = "redis://a".into_connection_info().unwrap();
        let cluster = Cluster::new(access, Vec::new(), 1);
        let view = || View {
            size: 3,
            ..says("a", 1)
        };
        let one = cluster.chosen(&[5], &[view()], None, Instant::now());
        let error = one.unwrap_err().to_string();
        assert!(
            error.contains("1 nodes") && error.contains("2 are needed"),
            "{error}"
        );
        let two = cluster.chosen(&[5], &[view(), view()], None, Instant::now());
        assert_eq!(two.unwrap(), [home("a")]);
    }

    #[test]
    fn a_slot_without_a_master_is_an_error_at_first() {
        let access = "redis://a".into_connection_info().unwrap();
        let cluster = Cluster::new(access, Vec::new(), 1);
        let homes = cluster.chosen(&[5, 4], &[says("a", 1)], None, Instant::now());
        let error = homes.unwrap_err().to_string();
        assert!(error.contains("slot 4"), "{error}");
    }
}
