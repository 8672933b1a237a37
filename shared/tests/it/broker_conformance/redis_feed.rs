//! What a feed of many shards costs Redis.

use std::time::Duration;

use harness::Redis;
use harness::until::DEADLINE;
use redis::cmd;
use tokio::time::timeout;

use super::servers::Server;
use super::{Backend, Kind, accept, draft, ids};

/// The sum of a number that the servers count, as `INFO` writes it.
async fn counted(servers: &[&Redis], section: &str, before: &str) -> u64 {
    let mut sum = 0;
    for server in servers {
        let info: String = server.ask(cmd("INFO").arg(section)).await.unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix(before));
        let number = line.map_or("0", |line| line.split(',').next().unwrap());
        sum += number.parse::<u64>().unwrap();
    }
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_have_left_is_looked_for_in_all_shards_at_once() {
    let mut backend = Backend::start_with(Kind::Redis, |settings| settings.shards = 1024).await;
    let broker = backend.broker().await;
    let mut feed = broker.open_feed("one").await.unwrap();
    let read = "total_reads_processed:";
    let before = counted(&[backend.redis()], "stats", read).await;
    let sweeps = "cmdstat_xautoclaim:calls=";
    assert_eq!(counted(&[backend.redis()], "commandstats", sweeps).await, 0);
    feed.next(500, Duration::ZERO).await.unwrap();
    assert_eq!(
        counted(&[backend.redis()], "commandstats", sweeps).await,
        1024
    );
    // Some for each thousand commands; one for each command would be as many as shards.
    let reads = counted(&[backend.redis()], "stats", read).await - before;
    assert!(reads < 200, "{reads}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_after_a_pause_goes_at_once_and_what_comes_right_behind_waits_for_others() {
    let mut backend = Backend::start(Kind::Redis).await;
    let broker = backend.broker().await;
    let mut feed = broker.open_feed("one").await.unwrap();
    let lone = accept(&broker, draft("a", 0)).await;
    let batch = timeout(DEADLINE, feed.next(20, DEADLINE * 10)).await;
    assert_eq!(ids(&batch.unwrap().unwrap()), [lone]);

    let looks = "cmdstat_xreadgroup:calls=";
    let before = counted(&[backend.redis()], "commandstats", looks).await;
    let behind = async {
        let mut accepted = Vec::new();
        for n in 1..5 {
            accepted.push(accept(&broker, draft("a", n)).await);
        }
        accepted
    };
    let (batch, accepted) = tokio::join!(feed.next(20, DEADLINE / 20), behind);
    assert_eq!(ids(&batch.unwrap()), accepted);
    let looks = counted(&[backend.redis()], "commandstats", looks).await - before;
    assert!(looks <= 5, "{looks}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_feed_of_a_cluster_looks_less_often_where_there_are_many_shards() {
    let backend = Backend::start_with(Kind::Cluster, |settings| settings.shards = 1024).await;
    let broker = backend.broker().await;
    let mut feed = broker.open_feed("one").await.unwrap();
    let Server::Cluster(cluster) = &backend.server else {
        panic!("this backend is not a cluster");
    };
    let masters = cluster.masters().await;
    let looks = "cmdstat_xreadgroup:calls=";
    let before = counted(&masters, "commandstats", looks).await;
    // It says that there is nothing after about a second.
    feed.next(500, Duration::ZERO).await.unwrap();
    let looks = counted(&masters, "commandstats", looks).await - before;
    assert!((1024..=5 * 1024).contains(&looks), "{looks}");
}
