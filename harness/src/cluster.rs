//! A Redis Cluster of a test's own: three masters with a replica each.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{Value, cmd};

use crate::redis::Redis;
use crate::until::until;

/// The masters, each with a third of the slots.
const MASTERS: usize = 3;

/// How many slots every cluster has.
const SLOTS: usize = 16_384;

/// A master that is silent for two seconds is replaced; replicas are there soon.
const OPTIONS: [&str; 8] = [
    "--cluster-node-timeout",
    "2000",
    "--cluster-allow-replica-migration",
    "no",
    "--repl-diskless-sync-delay",
    "0",
    "--repl-ping-replica-period",
    "1",
];

/// Three masters and three replicas. Dropping it ends them.
pub struct Cluster {
    nodes: Vec<Redis>,
}

/// What a node says of itself.
struct Itself {
    id: String,
    master: bool,
    epoch: u64,
    slots: Vec<(usize, usize)>,
}

impl Cluster {
    /// Starts a cluster, and returns when it is whole: all nodes agree that it is, and every master
    /// has its replica in sync.
    ///
    /// # Panics
    /// When `redis-server` is missing or does not start, or the cluster does not become whole.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a cluster of servers with further options: `--requirepass p --masterauth p`.
    ///
    /// # Panics
    /// As [`Cluster::start`].
    pub async fn start_with(options: &[&str]) -> Self {
        let options = [&OPTIONS, options].concat();
        let nodes = join_all((0..2 * MASTERS).map(|_| Redis::start_node(&options))).await;
        let cluster = Self { nodes };
        let mut ids = Vec::new();
        for (at, node) in cluster.nodes.iter().enumerate() {
            ids.push(
                node.ask::<String>(cmd("CLUSTER").arg("MYID"))
                    .await
                    .expect("it answers"),
            );
            told(node, cmd("CLUSTER").arg("SET-CONFIG-EPOCH").arg(at + 1)).await;
            if at < MASTERS {
                let range = cluster_slots(at);
                told(
                    node,
                    cmd("CLUSTER")
                        .arg("ADDSLOTSRANGE")
                        .arg(range.0)
                        .arg(range.1),
                )
                .await;
            }
        }
        for node in &cluster.nodes {
            for other in &cluster.nodes {
                let mut meet = cmd("CLUSTER");
                meet.arg("MEET").arg("127.0.0.1").arg(other.port());
                told(node, meet.arg(other.bus_port())).await;
            }
        }
        for (replica, master) in cluster.nodes[MASTERS..].iter().zip(&ids) {
            let mut replicate = cmd("CLUSTER");
            replicate.arg("REPLICATE").arg(master);
            until("a node to know its master", async || {
                replica.ask::<()>(&replicate).await.is_ok()
            })
            .await;
        }
        cluster.whole().await;
        cluster
    }

    /// The URL that names all nodes.
    pub fn url(&self) -> String {
        let hosts = self
            .nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port()));
        format!("redis+cluster://{}", hosts.collect::<Vec<_>>().join(","))
    }

    /// The nodes: three masters and their replicas, in the beginning.
    pub fn nodes(&mut self) -> &mut [Redis] {
        &mut self.nodes
    }

    /// The master that has a shard.
    ///
    /// # Panics
    /// When none says that it has.
    pub async fn master(&self, shard: u16) -> &Redis {
        &self.nodes[self.home(shard).await]
    }

    /// The masters.
    pub async fn masters(&self) -> Vec<&Redis> {
        let mut masters = Vec::new();
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            if itself(node).await.is_some_and(|says| says.master) {
                masters.push(node);
            }
        }
        masters
    }

    /// A connection to the master that has a shard, for the test's own commands.
    ///
    /// # Panics
    /// When there is none, or it does not answer.
    pub async fn connection(&self, shard: u16) -> MultiplexedConnection {
        self.master(shard).await.connection().await
    }

    /// Kills the master that has a shard with SIGKILL. Its data stay.
    pub async fn kill_master(&mut self, shard: u16) {
        let home = self.home(shard).await;
        self.nodes[home].kill();
    }

    /// Freezes the master that has a shard with SIGSTOP.
    pub async fn pause_master(&self, shard: u16) {
        self.master(shard).await.pause();
    }

    /// Lets whatever is frozen go on.
    pub fn resume(&self) {
        let alive = self.nodes.iter().filter(|node| !node.is_killed());
        alive.for_each(Redis::resume);
    }

    /// Starts what was killed again, with its data, and returns when the cluster is whole.
    ///
    /// # Panics
    /// When a node does not start or does not become a replica in sync.
    pub async fn restart_dead(&mut self) {
        join_all(self.nodes.iter_mut().map(async |node| {
            if node.is_killed() {
                node.restart().await;
            }
        }))
        .await;
        self.whole().await;
    }

    /// Has the replica take over from the living master of a shard, and returns when it has.
    ///
    /// # Panics
    /// When it does not.
    pub async fn failover(&self, shard: u16) {
        let master = self.home(shard).await;
        let id = itself(&self.nodes[master])
            .await
            .expect("a master answers")
            .id;
        let mut replica = None;
        for node in &self.nodes {
            let nodes: String = node
                .ask(cmd("CLUSTER").arg("NODES"))
                .await
                .unwrap_or_default();
            if nodes
                .lines()
                .any(|line| line.contains("myself,slave") && line.contains(&id))
            {
                replica = Some(node);
            }
        }
        let replica = replica.expect("every master has a replica");
        until("the replica to take over", async || {
            if self.home(shard).await != master {
                return true;
            }
            // It is refused while one goes on.
            let _: redis::RedisResult<()> = replica.ask(cmd("CLUSTER").arg("FAILOVER")).await;
            false
        })
        .await;
    }

    /// Waits until another node than `before` has a shard.
    ///
    /// # Panics
    /// When that does not happen.
    pub async fn promoted(&self, shard: u16, before: u16) {
        until("the replica to take over", async || {
            match self.owner(shard).await {
                Some(now) => self.nodes[now].port() != before,
                None => false,
            }
        })
        .await;
    }

    /// Moves a shard's slot with its keys to another master, while it is used.
    ///
    /// # Panics
    /// When a node refuses a step.
    pub async fn migrate(&self, shard: u16) {
        let slot = self.slot(shard).await;
        let from = &self.nodes[self.home(shard).await];
        let source = itself(from).await.expect("a master answers").id;
        let mut masters = Vec::new();
        for master in self.masters().await {
            let says = itself(master).await.expect("a master answers");
            masters.push((master, says.id));
        }
        masters.sort_by(|(_, one), (_, other)| one.cmp(other));
        let at = masters.iter().position(|(_, id)| *id == source);
        let next = (at.expect("the source is a master") + 1) % masters.len();
        let (to, target) = &masters[next];
        let setslot = |action: &str, id: &str| {
            let mut setslot = cmd("CLUSTER");
            setslot.arg("SETSLOT").arg(slot).arg(action).arg(id);
            setslot
        };
        told(to, &setslot("IMPORTING", &source)).await;
        told(from, &setslot("MIGRATING", target)).await;
        loop {
            let mut question = cmd("CLUSTER");
            question.arg("GETKEYSINSLOT").arg(slot).arg(100);
            let keys: Vec<Vec<u8>> = from.ask(&question).await.expect("a master answers");
            if keys.is_empty() {
                break;
            }
            let mut migrate = cmd("MIGRATE");
            migrate
                .arg("127.0.0.1")
                .arg(to.port())
                .arg("")
                .arg(0)
                .arg(5000);
            if let Some(password) = to.password() {
                migrate.arg("AUTH").arg(password);
            }
            told(from, migrate.arg("KEYS").arg(&keys)).await;
        }
        // The one that has it first: else, for a moment, nobody has.
        told(to, &setslot("NODE", target)).await;
        told(from, &setslot("NODE", target)).await;
        for (master, _) in &masters {
            told(master, &setslot("NODE", target)).await;
        }
    }

    /// Waits until all nodes agree that the cluster is well and every master has a replica in sync.
    ///
    /// # Panics
    /// When that does not happen.
    pub async fn whole(&self) {
        until(
            "three masters with a replica each, of one mind",
            async || {
                let views = join_all(self.nodes.iter().map(view)).await;
                views.iter().all(|view| view.is_some() && *view == views[0])
            },
        )
        .await;
    }

    async fn home(&self, shard: u16) -> usize {
        let home = self.owner(shard).await;
        home.expect("a node has the shard")
    }

    /// The node that says that it has the shard; after a failover two may, then the newer one.
    async fn owner(&self, shard: u16) -> Option<usize> {
        let slot = self.slot(shard).await;
        let mut best = None;
        for (at, node) in self.nodes.iter().enumerate() {
            if !node.is_running() {
                continue;
            }
            let Some(says) = itself(node).await.filter(|says| says.master) else {
                continue;
            };
            if says
                .slots
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&slot))
            {
                best = best.max(Some((says.epoch, at)));
            }
        }
        best.map(|(_, at)| at)
    }

    async fn slot(&self, shard: u16) -> usize {
        let mut question = cmd("CLUSTER");
        question
            .arg("KEYSLOT")
            .arg(format!("rc:{{{shard}}}:journal"));
        let running = self.nodes.iter().find(|node| node.is_running());
        let slot = running.expect("a node runs").ask(&question).await;
        slot.expect("a node that runs answers")
    }
}

fn cluster_slots(master: usize) -> (usize, usize) {
    (master * SLOTS / MASTERS, (master + 1) * SLOTS / MASTERS - 1)
}

async fn told(node: &Redis, command: &redis::Cmd) {
    let answer: redis::RedisResult<()> = node.ask(command).await;
    answer.unwrap_or_else(|error| panic!("a node refuses {command:?}: {error}"));
}

/// What a node says of itself in `CLUSTER NODES`.
async fn itself(node: &Redis) -> Option<Itself> {
    let nodes: String = node.ask(cmd("CLUSTER").arg("NODES")).await.ok()?;
    let line = nodes.lines().find(|line| line.contains("myself"))?;
    // id address flags master ping pong epoch link slots…
    let words: Vec<&str> = line.split(' ').collect();
    let slots = words.get(8..)?.iter().filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some((first.parse().ok()?, last.parse().ok()?))
    });
    Some(Itself {
        id: words[0].into(),
        master: words[2].contains("master"),
        epoch: words[6].parse().ok()?,
        slots: slots.collect(),
    })
}

/// Who has which slots, as a node sees it that finds everything well.
async fn view(node: &Redis) -> Option<BTreeMap<String, Vec<String>>> {
    let role: Vec<Value> = node.ask(&cmd("ROLE")).await.ok()?;
    match &role[..] {
        [_, _, Value::Array(replicas)] if replicas.len() == 1 => {}
        [_, _, _, Value::BulkString(state), _] if state == b"connected" => {}
        _ => return None,
    }
    let info: String = node.ask(cmd("CLUSTER").arg("INFO")).await.ok()?;
    if !info.contains("cluster_state:ok") {
        return None;
    }
    let nodes: String = node.ask(cmd("CLUSTER").arg("NODES")).await.ok()?;
    let mut masters = BTreeMap::new();
    for line in nodes.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (flags, link) = (words[2], words[7]);
        if flags.contains("fail") || flags.contains("handshake") || link != "connected" {
            return None;
        }
        if flags.contains("master") {
            let slots = words[8..].iter().map(ToString::to_string);
            masters.insert(words[0].to_string(), slots.collect::<Vec<_>>());
        }
    }
    let all = nodes.lines().count() == 2 * MASTERS && masters.len() == MASTERS;
    // A slot that is being moved is named by its two ends alone.
    let moving = masters.values().flatten().any(|slots| slots.contains('['));
    (all && !moving).then_some(masters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_killed_master_is_replaced_and_comes_back_as_a_replica() {
        let mut cluster = Cluster::start().await;
        let before = cluster.master(0).await.port();
        cluster.kill_master(0).await;
        cluster.promoted(0, before).await;
        cluster.restart_dead().await;
        assert_ne!(cluster.master(0).await.port(), before);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_slot_moves_with_its_keys_and_a_living_master_gives_way() {
        let cluster = Cluster::start().await;
        let before = cluster.master(1).await.port();
        let mut write = cmd("XADD");
        write.arg("rc:{1}:journal").arg("*").arg("a").arg("b");
        cluster.master(1).await.ask::<String>(&write).await.unwrap();
        cluster.migrate(1).await;
        cluster.whole().await;
        let moved = cluster.master(1).await.port();
        assert_ne!(moved, before);
        cluster.failover(1).await;
        assert_ne!(cluster.master(1).await.port(), moved);
        let mut length = cmd("XLEN");
        length.arg("rc:{1}:journal");
        assert_eq!(
            cluster.master(1).await.ask::<u64>(&length).await.unwrap(),
            1
        );
        cluster.whole().await;
    }
}
