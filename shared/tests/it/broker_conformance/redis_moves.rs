//! The live link while shards move from one server to another: by failover of a Sentinel's set or
//! a Cluster, and slot by slot.

use std::sync::Arc;
use std::time::Duration;

use harness::redis::Redis;
use harness::{Cluster, Sentinel, until};
use redis::aio::MultiplexedConnection;
use redis::cmd;
use shared::broker::{Broker, Earlier, Feed, open};
use shared::config::{BrokerSettings, BrokerUrl, Delivery, Protection, Without};
use shared::metrics::Metrics;

use super::flow::Flow;
use super::{draft, ids, settings};

async fn broker(url: String) -> Arc<dyn Broker> {
    broker_with(url, |_| {}).await
}

async fn broker_with(url: String, change: impl FnOnce(&mut BrokerSettings)) -> Arc<dyn Broker> {
    let mut settings = settings(BrokerUrl::Redis(url));
    change(&mut settings);
    let opened = open(&settings, &Metrics::new(), Earlier::default()).await;
    opened.expect("the servers answer")
}

/// How many channels of rooms are subscribed at a server, by gateways.
async fn channels(raw: &mut MultiplexedConnection, command: &str) -> usize {
    let mut question = cmd("PUBSUB");
    question.arg(command).arg("rc:{*}:room:*");
    let channels: Vec<String> = question.query_async(raw).await.unwrap();
    channels.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_link_follows_a_killed_primary_to_the_promoted_one() {
    let mut set = Sentinel::start().await;
    let broker = broker(set.url()).await;
    let mut flow = Flow::start(&broker).await;
    let (before, gaps) = (set.primary().await.port(), flow.gaps());
    set.kill_primary().await;
    // Nobody can confirm it before a replica is promoted.
    flow.join(&["new".into()]).await;
    set.promoted(before).await;
    flow.gap_after(gaps).await;
    flow.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_link_leaves_a_frozen_primary_for_the_promoted_one() {
    let set = Sentinel::start().await;
    let broker = broker(set.url()).await;
    let flow = Flow::start(&broker).await;
    let (before, gaps) = (set.primary().await.port(), flow.gaps());
    set.pause_primary().await;
    set.promoted(before).await;
    flow.gap_after(gaps).await;
    flow.goes_on().await;
    set.resume();
    let old = set.servers().iter().find(|server| server.port() == before);
    let mut old = old.unwrap().connection().await;
    until("the old connection is closed", async || {
        channels(&mut old, "CHANNELS").await == 0
    })
    .await;
    set.whole().await;
    flow.finish().await;
}

/// The control of the test above.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_probe_a_link_stays_with_a_frozen_primary() {
    let set = Sentinel::start().await;
    let probed = broker(set.url()).await;
    let unprobed = broker_with(set.url(), |settings| {
        settings.without = Without::from(&[Protection::LinkProbe][..]);
    })
    .await;
    let (leaves, stays) = (Flow::start(&probed).await, Flow::start(&unprobed).await);
    let before = set.primary().await.port();
    set.pause_primary().await;
    set.promoted(before).await;
    leaves.gap_after(0).await;
    leaves.goes_on().await;
    assert_eq!(stays.gaps(), 0);
}

/// Cut off from its replicas and the Sentinels, a primary goes on answering whom it knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_link_leaves_an_isolated_primary_that_still_answers() {
    let set = Sentinel::start().await;
    let broker = broker(set.url()).await;
    let flow = Flow::start(&broker).await;
    let (before, gaps) = (set.primary().await.port(), flow.gaps());
    let mut old = set.connection().await;
    isolate(set.primary().await, &mut old).await;
    set.promoted(before).await;
    flow.gap_after(gaps).await;
    flow.goes_on().await;
    until("the connection to it is closed", async || {
        channels(&mut old, "CHANNELS").await == 0
    })
    .await;
    flow.finish().await;
}

/// From now on nobody new is let in, and the replicas and Sentinels are sent away.
async fn isolate(primary: &Redis, raw: &mut MultiplexedConnection) {
    let mut password = cmd("CONFIG");
    password.arg("SET").arg("requirepass").arg("nobody-knows");
    password.exec_async(raw).await.unwrap();
    let mut list = cmd("CLIENT");
    let clients: String = list.arg("LIST").query_async(raw).await.unwrap();
    for client in clients.lines() {
        let is_theirs = client.contains(" name=sentinel-") || client.contains(" flags=S");
        if is_theirs {
            let id = client.split(' ').next().unwrap().trim_start_matches("id=");
            let mut kill = cmd("CLIENT");
            kill.arg("KILL").arg("ID").arg(id);
            kill.exec_async(raw).await.unwrap();
        }
    }
    assert!(primary.is_running());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_link_of_a_cluster_follows_its_killed_master() {
    let mut cluster = Cluster::start().await;
    // The promoted one has no replica left for which to wait.
    let broker = broker_with(cluster.url(), |settings| settings.replicas = Some(0)).await;
    let flow = Flow::start(&broker).await;
    let (before, gaps) = (cluster.master(0).await.port(), flow.gaps());
    cluster.kill_master(0).await;
    cluster.promoted(0, before).await;
    flow.gap_after(gaps).await;
    flow.goes_on().await;
    cluster.restart_dead().await;
    flow.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_link_of_a_cluster_leaves_its_frozen_master() {
    let cluster = Cluster::start().await;
    // The promoted one has no replica left for which to wait.
    let broker = broker_with(cluster.url(), |settings| settings.replicas = Some(0)).await;
    let flow = Flow::start(&broker).await;
    let (before, gaps) = (cluster.master(0).await.port(), flow.gaps());
    cluster.pause_master(0).await;
    cluster.promoted(0, before).await;
    flow.gap_after(gaps).await;
    flow.goes_on().await;
    cluster.resume();
    cluster.whole().await;
    flow.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rooms_of_a_slot_that_moves_are_subscribed_at_its_new_home() {
    let cluster = Cluster::start().await;
    let broker = broker(cluster.url()).await;
    let mut flow = Flow::start(&broker).await;
    for (round, shard) in [0, 1, 0, 2].into_iter().enumerate() {
        let (gaps, mut old) = (flow.gaps(), cluster.connection(shard).await);
        // New rooms come all the while, whatever the link takes for the slot's home.
        let more = async {
            for n in 0..20 {
                let names = (0..4).map(|m| format!("new{round}-{n}-{m}"));
                flow.join(&names.collect::<Vec<_>>()).await;
            }
        };
        tokio::join!(cluster.migrate(shard), more);
        flow.gap_after(gaps).await;
        flow.goes_on().await;
        let pattern = format!("rc:{{{shard}}}:*");
        until("nothing is left where the slot was", async || {
            let mut question = cmd("PUBSUB");
            question.arg("SHARDCHANNELS").arg(&pattern);
            let left: Vec<String> = question.query_async(&mut old).await.unwrap();
            left.is_empty()
        })
        .await;
    }
    flow.finish().await;
}

/// The layout looks as it did before: only the server's own word tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_drops_unasked_is_subscribed_again() {
    let cluster = Cluster::start().await;
    let broker = broker(cluster.url()).await;
    let flow = Flow::start(&broker).await;
    let mut master = cluster.connection(0).await;
    let slot: u16 = cmd("CLUSTER")
        .arg("KEYSLOT")
        .arg("rc:{0}:journal")
        .query_async(&mut master)
        .await
        .unwrap();
    let gaps = flow.gaps();
    let mut dropped = redis::pipe();
    for action in ["DELSLOTS", "ADDSLOTS"] {
        dropped.cmd("CLUSTER").arg(action).arg(slot);
    }
    let _: Vec<String> = dropped.query_async(&mut master).await.unwrap();
    flow.gap_after(gaps).await;
    flow.finish().await;
    tokio::time::timeout(Duration::from_secs(60), cluster.whole())
        .await
        .unwrap();
}

fn at_most_once(settings: &mut BrokerSettings) {
    settings.delivery = Delivery::AtMostOnce;
}

/// Sends until something that was accepted meanwhile comes out of the feed.
async fn feeds(broker: &Arc<dyn Broker>, feed: &mut Box<dyn Feed>) {
    until("the feed hands out what was sent", async || {
        let accepted = broker.publish(draft("a", 1)).await;
        let read = feed.next(10, Duration::ZERO).await.unwrap_or_default();
        accepted.is_ok_and(|accepted| ids(&read).contains(&accepted.id))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_without_a_journal_follows_the_primary() {
    let set = Sentinel::start().await;
    let broker = broker_with(set.url(), at_most_once).await;
    let mut feed = broker.open_feed("one").await.unwrap();
    feeds(&broker, &mut feed).await;
    let before = set.primary().await.port();
    set.pause_primary().await;
    set.promoted(before).await;
    feeds(&broker, &mut feed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_without_a_journal_hears_every_master_of_a_cluster() {
    let mut cluster = Cluster::start().await;
    let broker = broker_with(cluster.url(), at_most_once).await;
    let mut feed = broker.open_feed("one").await.unwrap();
    for number in 0..8 {
        // Of every shard.
        let room = format!("room{number}");
        let id = broker.publish(draft(&room, 1)).await.unwrap().id;
        until("it is handed out", async || {
            let read = feed.next(10, Duration::ZERO).await.unwrap_or_default();
            ids(&read).contains(&id)
        })
        .await;
    }
    let before = cluster.master(0).await.port();
    cluster.kill_master(0).await;
    cluster.promoted(0, before).await;
    feeds(&broker, &mut feed).await;
}
