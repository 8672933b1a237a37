//! Publishing to a Redis that fails in the midst of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use harness::until;
use harness::until::DEADLINE;
use redis::cmd;
use shared::broker::{Entry, PublishError};
use shared::config::{Protection, Without};
use shared::message::{GatewayId, Span};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::lossy::Lossy;
use super::{Backend, Kind, accept, draft, entries, ids, keyed, message, one_shard, room};

fn bodies(entries: &[Entry]) -> Vec<String> {
    let body = |entry: &Entry| {
        let message = entry.content.as_ref().unwrap();
        String::from_utf8(message.body.to_vec()).unwrap()
    };
    entries.iter().map(body).collect()
}

/// Publishes in one room before, during and after an outage, with many under way all the time.
async fn publish_through(outage: impl AsyncFnOnce(&mut Backend)) {
    let mut backend = one_shard().await;
    let broker = backend.broker().await;
    let over = Arc::new(AtomicBool::new(false));
    let begun = Arc::new(Notify::new());
    let publisher = tokio::spawn({
        let (broker, over, begun) = (Arc::clone(&broker), Arc::clone(&over), Arc::clone(&begun));
        async move {
            let mut under_way = VecDeque::new();
            let mut accepted = Vec::new();
            let mut after = 0;
            while after < 500 {
                after += usize::from(over.load(Ordering::Relaxed));
                let n = accepted.len() + under_way.len();
                under_way.push_back(broker.publish(draft("a", n)));
                if under_way.len() > 200 {
                    accepted.push(under_way.pop_front().unwrap().await.unwrap().id);
                    begun.notify_one();
                }
            }
            for publish in under_way {
                accepted.push(publish.await.unwrap().id);
            }
            accepted
        }
    });
    begun.notified().await;
    outage(&mut backend).await;
    over.store(true, Ordering::Relaxed);
    let accepted = timeout(DEADLINE, publisher).await.unwrap().unwrap();
    assert!(
        backend.reconnects("publish") > 0,
        "the outage has been felt"
    );

    assert!(accepted.is_sorted_by(|one, next| one < next));
    let mut feed = backend.broker().await.open_feed("one").await.unwrap();
    let read = entries(&mut feed, accepted.len()).await;
    assert_eq!(ids(&read), accepted);
    assert_eq!(
        bodies(&read),
        (0..read.len()).map(|n| n.to_string()).collect::<Vec<_>>()
    );
    assert_eq!(broker.backlog().await.unwrap(), read.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishes_pass_through_a_restart_once_and_in_order() {
    publish_through(async |backend: &mut Backend| {
        backend.redis().kill();
        backend.redis().restart().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishes_pass_through_broken_connections_once_and_in_order() {
    publish_through(async |backend: &mut Backend| {
        let mut raw = backend.redis().connection().await;
        let mut killed = 0;
        while killed < 30 {
            let mut kill = cmd("CLIENT");
            kill.arg("KILL")
                .arg("TYPE")
                .arg("normal")
                .arg("SKIPME")
                .arg("yes");
            killed += kill.query_async::<u64>(&mut raw).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_is_lost_on_the_way_doubles_nothing() {
    let mut backend = one_shard().await;
    let direct = backend.broker().await;
    let lossy = Lossy::start(backend.redis().port()).await;
    backend.settings.url = lossy.url();
    let broker = backend.broker().await;
    accept(&broker, draft("a", "before")).await;
    for (n, draft) in [draft("a", "plain"), keyed("a", "key")]
        .into_iter()
        .enumerate()
    {
        lossy.lose_next();
        let accepted = broker.publish(draft).await.unwrap();
        assert!(!accepted.repeated, "it was this publish that was accepted");
        assert!(lossy.has_lost());
        assert_eq!(direct.backlog().await.unwrap(), 2 + n as u64);
    }
    assert!(broker.publish(keyed("a", "key")).await.unwrap().repeated);

    backend.settings.without = Without::from(&[Protection::PublishToken][..]);
    let forgetful = backend.broker().await;
    accept(&forgetful, draft("a", "between")).await;
    lossy.lose_next();
    accept(&forgetful, draft("a", "twice")).await;
    assert_eq!(direct.backlog().await.unwrap(), 6);
}

#[tokio::test]
async fn publishes_pass_through_a_frozen_server_once_and_in_order() {
    let mut backend = Backend::start_with(Kind::Redis, |settings| {
        settings.shards = 1;
        settings.publish_timeout = Duration::from_secs(8);
    })
    .await;
    let broker = backend.broker().await;
    accept(&broker, draft("warm", "up")).await;
    backend.redis().pause();
    let under_way: Vec<_> = (0..300)
        .map(|n| tokio::spawn(broker.publish(draft("a", n))))
        .collect();
    until("the connection is given up", async || {
        backend.reconnects("publish") > 0
    })
    .await;
    backend.redis().resume();
    let mut accepted = Vec::new();
    for publish in under_way {
        accepted.push(publish.await.unwrap().unwrap().id);
    }
    assert!(accepted.is_sorted_by(|one, next| one < next));
    let mut feed = broker.open_feed("one").await.unwrap();
    let read = entries(&mut feed, 301).await;
    assert_eq!(ids(&read)[1..], accepted);
    assert_eq!(broker.backlog().await.unwrap(), 301);
}

#[tokio::test]
async fn publishes_wait_for_a_server_that_may_write() {
    let mut backend = one_shard().await;
    let broker = backend.broker().await;
    accept(&broker, draft("a", "before")).await;
    let mut raw = backend.redis().connection().await;
    // It becomes a replica of a server that is not there.
    cmd("REPLICAOF")
        .arg("127.0.0.1")
        .arg(1)
        .exec_async(&mut raw)
        .await
        .unwrap();
    let under_way: Vec<_> = (0..10)
        .map(|n| tokio::spawn(broker.publish(draft("a", n))))
        .collect();
    let refused = async || {
        let stats: String = cmd("INFO")
            .arg("errorstats")
            .query_async(&mut raw)
            .await
            .unwrap();
        stats.contains("READONLY")
    };
    until("the replica has refused", refused).await;
    cmd("REPLICAOF")
        .arg("NO")
        .arg("ONE")
        .exec_async(&mut raw)
        .await
        .unwrap();
    let mut accepted = Vec::new();
    for publish in under_way {
        accepted.push(publish.await.unwrap().unwrap().id);
    }
    assert!(accepted.is_sorted_by(|one, next| one < next));
    assert_eq!(broker.backlog().await.unwrap(), 11);
}

#[tokio::test]
async fn a_publish_to_a_silent_server_is_answered_by_its_deadline() {
    let mut backend = Backend::start_with(Kind::Redis, |settings| {
        settings.publish_timeout = Duration::from_millis(300);
    })
    .await;
    let broker = backend.broker().await;
    backend.redis().pause();
    let answer = timeout(DEADLINE, broker.publish(draft("a", 1)))
        .await
        .unwrap();
    assert_eq!(answer, Err(PublishError::Unavailable));
    assert!(timeout(DEADLINE, broker.ping()).await.unwrap().is_err());
    assert!(timeout(DEADLINE, broker.backlog()).await.unwrap().is_err());
    let name = room("a");
    let reading = broker.recent(&name, Span::Newest, 1);
    assert!(timeout(DEADLINE, reading).await.unwrap().is_err());
    backend.redis().resume();
    until("Redis answers again", async || broker.ping().await.is_ok()).await;
}

#[tokio::test]
async fn more_than_may_be_in_flight_is_refused_at_once() {
    let mut backend = one_shard().await;
    let broker = backend.broker().await;
    backend.redis().pause();
    let body = "x".repeat(60_000);
    let publishes: Vec<_> = (0..400)
        .map(|_| broker.publish(draft("a", &body)))
        .collect();
    let mut answers = join_all(
        publishes
            .into_iter()
            .map(|publish| async { timeout(Duration::ZERO, publish).await.ok() }),
    )
    .await;
    let last = answers.pop().unwrap();
    assert_eq!(last, Some(Err(PublishError::Overloaded)));
    assert_eq!(answers[0], None, "the first is under way");
    backend.redis().resume();
    // Which of them is first in the lane again: the refused ones left no trace.
    until("there is room again", async || {
        broker.publish(draft("a", 1)).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_server_without_memory_is_full_and_keeps_nothing_half_done() {
    let mut backend = one_shard().await;
    let broker = backend.broker().await;
    let mut fanout = broker.open_fanout(GatewayId::random()).await.unwrap();
    fanout.subscriber.subscribe(room("a")).await.unwrap();
    let first = accept(&broker, draft("a", 1)).await;
    let mut raw = backend.redis().connection().await;
    let mut limit = async |bytes: u64| {
        cmd("CONFIG")
            .arg("SET")
            .arg("maxmemory")
            .arg(bytes)
            .exec_async(&mut raw)
            .await
            .unwrap();
    };
    limit(1).await;
    assert_eq!(
        broker.publish(keyed("a", "k")).await,
        Err(PublishError::Full)
    );
    assert_eq!(broker.backlog().await.unwrap(), 1);
    limit(0).await;
    let second = broker.publish(keyed("a", "k")).await.unwrap();
    assert!(!second.repeated);
    assert_eq!(message(&mut fanout.events).await.id, first);
    let heard = message(&mut fanout.events).await;
    assert_eq!((heard.id, heard.prev), (second.id, Some(first)));
}

#[tokio::test]
async fn what_waits_for_many_shards_is_bounded_together() {
    let backend = Backend::start_with(Kind::Cluster, |settings| settings.shards = 1024).await;
    let broker = backend.broker().await;
    let body = "x".repeat(256 << 10);
    // Nothing leaves before the first answer is awaited.
    let under_way: Vec<_> = (0..300)
        .map(|number| broker.publish(draft(&format!("room{number}"), &body)))
        .collect();
    let (mut accepted, mut refused) = (0, 0);
    for answer in under_way {
        match answer.await {
            Ok(_) => accepted += 1,
            Err(PublishError::Overloaded) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    // 64 MiB in all.
    assert!(
        accepted <= 256 && refused >= 44,
        "{accepted} accepted, {refused} refused"
    );
}
