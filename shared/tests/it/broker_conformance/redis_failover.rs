//! Another server takes a primary's place.

use std::time::Duration;

use harness::{Cluster, Sentinel};
use shared::config::{BrokerSettings, BrokerUrl};

use super::settings;
use super::stream::{Outcome, during, rooms_of_all};

fn at(url: String) -> BrokerSettings {
    BrokerSettings {
        publish_timeout: Duration::from_secs(10),
        takeover_after: Duration::from_secs(1),
        ..settings(BrokerUrl::Redis(url))
    }
}

async fn on_sentinel(fault: impl AsyncFnOnce(&mut Sentinel)) -> Outcome {
    let mut set = Sentinel::start().await;
    let settings = at(set.url());
    let outcome = during(&settings, &["a", "b"], async || fault(&mut set).await).await;
    set.resume();
    outcome
}

async fn on_cluster(fault: impl AsyncFnOnce(&mut Cluster)) -> Outcome {
    let mut cluster = Cluster::start().await;
    let settings = at(cluster.url());
    let rooms = rooms_of_all(settings.shards);
    let rooms: Vec<&str> = rooms.iter().map(String::as_str).collect();
    let outcome = during(&settings, &rooms, async || fault(&mut cluster).await).await;
    cluster.resume();
    outcome
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_primary_costs_no_accepted_message() {
    let outcome = on_sentinel(async |set: &mut Sentinel| {
        let before = set.primary().await.port();
        set.kill_primary().await;
        set.promoted(before).await;
        set.restart_dead().await;
    })
    .await;
    outcome.is_paid();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_wakes_after_its_successor_came_adds_nothing() {
    let outcome = on_sentinel(async |set: &mut Sentinel| {
        let before = set.primary().await.port();
        set.pause_primary().await;
        set.promoted(before).await;
        set.resume();
        set.whole().await;
    })
    .await;
    outcome.is_paid();
    assert_eq!(outcome.doubled(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commanded_failovers_cost_no_accepted_message() {
    let outcome = on_sentinel(async |set: &mut Sentinel| {
        for _ in 0..5 {
            set.failover().await;
            set.whole().await;
        }
    })
    .await;
    outcome.is_paid();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_master_of_a_cluster_costs_no_accepted_message() {
    let outcome = on_cluster(async |cluster: &mut Cluster| {
        let before = cluster.master(0).await.port();
        cluster.kill_master(0).await;
        cluster.promoted(0, before).await;
        cluster.restart_dead().await;
    })
    .await;
    outcome.is_paid();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_wakes_after_its_successor_came_adds_nothing() {
    let outcome = on_cluster(async |cluster: &mut Cluster| {
        let before = cluster.master(0).await.port();
        cluster.pause_master(0).await;
        cluster.promoted(0, before).await;
        cluster.resume();
        cluster.whole().await;
    })
    .await;
    outcome.is_paid();
    assert_eq!(outcome.doubled(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_under_publishes_takes_all_of_them_along() {
    let outcome = on_cluster(async |cluster: &mut Cluster| {
        for shard in [0, 1, 0] {
            cluster.migrate(shard).await;
        }
        cluster.failover(2).await;
    })
    .await;
    outcome.is_paid();
}
