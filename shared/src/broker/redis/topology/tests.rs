use std::time::Duration;

use harness::until::DEADLINE;
use harness::{Cluster, Redis, Sentinel, until};
use redis::cmd;
use tokio::time::timeout;

use super::*;
use crate::config::{BrokerUrl, Delivery, Without};
use crate::metrics::Metrics;

async fn opened(url: &str, shards: u16) -> Topology {
    let settings = BrokerSettings {
        url: BrokerUrl::Redis(url.into()),
        delivery: Delivery::AtLeastOnce,
        shards,
        journal_max: 1000,
        recent_max: 10,
        recent_ttl: Duration::from_secs(600),
        publish_timeout: Duration::from_secs(10),
        connect_timeout: Duration::from_secs(20),
        takeover_after: Duration::from_secs(30),
        replicas: None,
        without: Without::NOTHING,
    };
    let topology = Topology::open(url, &settings, &Metrics::new().broker).await;
    topology.expect("the servers answer")
}

/// Waits until a shard is at this port.
async fn moved(topology: &Topology, shard: u16, port: u16) {
    let mut layouts = topology.watch();
    let there = layouts.wait_for(|layout| layout.home(shard).address().port == port);
    let there = timeout(DEADLINE, there).await;
    there.expect("the layout moves").expect("it is watched");
}

/// The port of the server that has a shard.
fn home(topology: &Topology, shard: u16) -> u16 {
    topology.layout().home(shard).address().port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_comes_back_is_not_used() {
    let set = Sentinel::start().await;
    let topology = opened(&set.url(), 4).await;
    let first = set.primary().await.port();
    assert_eq!(home(&topology, 3), first);
    set.pause_primary().await;
    set.promoted(first).await;
    let second = set.primary().await.port();
    moved(&topology, 3, second).await;
    let mut layouts = topology.watch();
    layouts.mark_unchanged();
    set.resume();
    // Until it has been made a replica it says that it is a primary.
    set.whole().await;
    topology.suspect();
    set.whole().await;
    assert!(!layouts.has_changed().unwrap());
    assert_eq!(home(&topology, 3), second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_that_were_not_named_are_asked_when_the_named_ones_are_gone() {
    let mut set = Sentinel::start().await;
    let mut dead = Redis::start().await;
    dead.kill();
    let named = set.sentinels()[0].port();
    let hosts = format!("127.0.0.1:{},127.0.0.1:{named}", dead.port());
    let topology = opened(&format!("redis+sentinel://{hosts}/roomcast"), 1).await;
    let first = set.primary().await.port();
    set.sentinels()[0].kill();
    set.kill_primary().await;
    set.promoted(first).await;
    moved(&topology, 0, set.primary().await.port()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_is_noticed_without_a_broken_connection() {
    let set = Sentinel::start().await;
    let topology = opened(&set.url(), 4).await;
    let first = set.primary().await.port();
    set.failover().await;
    let second = set.primary().await.port();
    assert_ne!(first, second);
    moved(&topology, 0, second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_follow_their_slots() {
    let mut cluster = Cluster::start().await;
    // One node is named, and it is the first to die: one of the two knows no other that is in use.
    let first = cluster.master(0).await.port();
    let named = format!("redis+cluster://127.0.0.1:{first}");
    let (topology, narrow) = (opened(&named, 16).await, opened(&named, 1).await);
    let mut homes = Vec::new();
    for shard in 0..16 {
        let port = cluster.master(shard).await.port();
        assert_eq!(home(&topology, shard), port);
        homes.push(port);
    }
    assert_eq!(topology.layout().servers().count(), 3);

    cluster.kill_master(0).await;
    cluster.promoted(0, first).await;
    let second = cluster.master(0).await.port();
    moved(&topology, 0, second).await;
    moved(&narrow, 0, second).await;
    for (shard, port) in (0..).zip(&homes) {
        let now = if *port == first { second } else { *port };
        assert_eq!(home(&topology, shard), now);
    }

    cluster.restart_dead().await;
    cluster.migrate(0).await;
    let third = cluster.master(0).await.port();
    assert_ne!(third, second);
    moved(&topology, 0, third).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_master_that_comes_back_is_not_used() {
    let cluster = Cluster::start().await;
    let topology = opened(&cluster.url(), 16).await;
    let first = cluster.master(5).await.port();
    cluster.pause_master(5).await;
    cluster.promoted(5, first).await;
    let second = cluster.master(5).await.port();
    moved(&topology, 5, second).await;
    let mut layouts = topology.watch();
    layouts.mark_unchanged();
    cluster.resume();
    // It finds itself a master, and its cluster well, until it hears of the other.
    cluster.whole().await;
    topology.suspect();
    cluster.whole().await;
    assert!(!layouts.has_changed().unwrap());
    assert_eq!(home(&topology, 5), second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_asked_when_no_one_uses_it_any_more() {
    let mut set = Sentinel::start().await;
    let topology = opened(&set.url(), 4).await;
    let clients = async |server: &Redis| -> usize {
        let list: String = server.ask(cmd("CLIENT").arg("LIST")).await.unwrap();
        // The connections between Sentinels have names; that of this question has none.
        list.lines().filter(|line| line.contains(" name= ")).count()
    };
    let before = clients(&set.sentinels()[0]).await;
    drop(topology);
    until("the connection to end", async || {
        clients(&set.sentinels()[0]).await < before
    })
    .await;
}
