//! What Redis alone can do to us: connections that break or freeze, servers that die, data that
//! others wrote or removed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use redis::cmd;
use shared::broker::{Broker, Entry, Event, PublishError};
use shared::config::BrokerUrl;
use shared::message::{GatewayId, MessageId, Span};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{
    Backend, Kind, PATIENCE, accept, draft, entries, event, gap, ids, keyed, message, room,
    settled, until,
};

async fn one_shard() -> Backend {
    Backend::start_with(Kind::Redis, |settings| settings.shards = 1).await
}

fn bodies(entries: &[Entry]) -> Vec<String> {
    let body = |entry: &Entry| {
        let message = entry.content.as_ref().unwrap();
        String::from_utf8(message.body.to_vec()).unwrap()
    };
    entries.iter().map(body).collect()
}

#[tokio::test]
async fn a_killed_link_comes_back_and_reports_a_gap() {
    let mut backend = Backend::start(Kind::Redis).await;
    let broker = backend.broker().await;
    let mut fanout = broker.open_fanout(GatewayId::random()).await.unwrap();
    for n in 0..1200 {
        fanout
            .subscriber
            .subscribe(room(&format!("room{n}")))
            .await
            .unwrap();
    }
    let before = accept(&broker, draft("room7", "before")).await;
    assert_eq!(message(&mut fanout.events).await.id, before);

    let mut raw = backend.redis().connection().await;
    let killed: u64 = cmd("CLIENT")
        .arg("KILL")
        .arg("TYPE")
        .arg("pubsub")
        .query_async(&mut raw)
        .await
        .unwrap();
    assert_eq!(killed, 1);
    let missed = accept(&broker, draft("room7", "perhaps missed")).await;
    gap(&mut fanout.events).await;
    let after = accept(&broker, draft("room7", "after")).await;
    let heard = message(&mut fanout.events).await;
    // The gap overtakes what came while the subscriptions were renewed.
    let heard = if heard.id == missed {
        message(&mut fanout.events).await
    } else {
        heard
    };
    assert_eq!((heard.id, heard.prev), (after, Some(missed)));
    let recent = broker
        .recent(&room("room7"), Span::After(before), 10)
        .await
        .unwrap();
    assert!(recent.complete);
    assert_eq!(
        recent.messages.iter().map(|m| m.id).collect::<Vec<_>>(),
        [missed, after]
    );
    assert_eq!(backend.reconnects("fanout"), 1);
}

#[tokio::test]
async fn a_subscription_that_is_wished_for_during_an_outage_is_there_after_it() {
    let mut backend = Backend::start_with(Kind::Redis, |settings| {
        settings.publish_timeout = Duration::from_millis(500);
    })
    .await;
    let broker = backend.broker().await;
    let mut fanout = broker.open_fanout(GatewayId::random()).await.unwrap();
    fanout.subscriber.subscribe(room("a")).await.unwrap();
    backend.redis().kill();
    assert!(fanout.subscriber.subscribe(room("b")).await.is_err());
    fanout.subscriber.unsubscribe(&room("a"));
    backend.redis().restart().await;
    gap(&mut fanout.events).await;
    accept(&broker, draft("a", 1)).await;
    let id = accept(&broker, draft("b", 1)).await;
    assert_eq!(message(&mut fanout.events).await.id, id);
}

#[tokio::test]
async fn a_killed_server_loses_nothing_that_was_accepted() {
    let mut backend = one_shard().await;
    let broker = backend.broker().await;
    let mut fanout = broker.open_fanout(GatewayId::random()).await.unwrap();
    fanout.subscriber.subscribe(room("a")).await.unwrap();
    let mut feed = broker.open_feed("one").await.unwrap();
    let mut accepted = Vec::new();
    for n in 0..100 {
        accepted.push(accept(&broker, draft("a", n)).await);
    }
    backend.redis().kill();
    backend.redis().restart().await;
    gap(&mut fanout.events).await;
    let after = accept(&broker, draft("a", "after")).await;
    until("the new message arrives", async || {
        message(&mut fanout.events).await.id == after
    })
    .await;
    accepted.push(after);
    assert_eq!(ids(&entries(&mut feed, 101).await), accepted);
    let recent = broker
        .recent(&room("a"), Span::After(accepted[0]), 200)
        .await
        .unwrap();
    assert_eq!(recent.messages.len(), 100);
}

#[tokio::test]
async fn a_frozen_link_is_noticed_and_replaced() {
    let mut backend = Backend::start(Kind::Redis).await;
    let broker = backend.broker().await;
    let mut fanout = broker.open_fanout(GatewayId::random()).await.unwrap();
    fanout.subscriber.subscribe(room("a")).await.unwrap();
    backend.redis().pause();
    until("the link is given up", async || {
        backend.reconnects("fanout") > 0
    })
    .await;
    backend.redis().resume();
    gap(&mut fanout.events).await;
    let id = accept(&broker, draft("a", 1)).await;
    assert_eq!(message(&mut fanout.events).await.id, id);
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
    let accepted = timeout(PATIENCE, publisher).await.unwrap().unwrap();
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
    backend.settings.url = BrokerUrl::Redis(format!("redis://127.0.0.1:{}", lossy.port));
    let broker = backend.broker().await;
    accept(&broker, draft("a", "before")).await;
    for (n, draft) in [draft("a", "plain"), keyed("a", "key")]
        .into_iter()
        .enumerate()
    {
        lossy.lose.store(true, Ordering::Relaxed);
        let accepted = broker.publish(draft).await.unwrap();
        assert!(!accepted.repeated, "it was this publish that was accepted");
        assert!(!lossy.lose.load(Ordering::Relaxed), "an answer was lost");
        assert_eq!(direct.backlog().await.unwrap(), 2 + n as u64);
    }
    assert!(broker.publish(keyed("a", "key")).await.unwrap().repeated);
}

/// Stands before a server and, when told to, swallows its next answer and hangs up.
struct Lossy {
    port: u16,
    lose: Arc<AtomicBool>,
}

impl Lossy {
    async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let lose = Arc::new(AtomicBool::new(false));
        let switch = Arc::clone(&lose);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let switch = Arc::clone(&switch);
                tokio::spawn(async move {
                    let (mut asks, mut hears) = client.into_split();
                    let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                    let (mut answers, mut told) = server.into_split();
                    let asking = tokio::spawn(async move { copy(&mut asks, &mut told).await });
                    let mut answer = vec![0; 65_536];
                    while let Ok(length @ 1..) = answers.read(&mut answer).await {
                        if switch.swap(false, Ordering::Relaxed) {
                            break;
                        }
                        if hears.write_all(&answer[..length]).await.is_err() {
                            break;
                        }
                    }
                    asking.abort();
                });
            }
        });
        Self { port, lose }
    }
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
    let answer = timeout(PATIENCE, broker.publish(draft("a", 1)))
        .await
        .unwrap();
    assert_eq!(answer, Err(PublishError::Unavailable));
    assert!(timeout(PATIENCE, broker.ping()).await.unwrap().is_err());
    assert!(timeout(PATIENCE, broker.backlog()).await.unwrap().is_err());
    let name = room("a");
    let reading = broker.recent(&name, Span::Newest, 1);
    assert!(timeout(PATIENCE, reading).await.unwrap().is_err());
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
async fn what_is_no_message_comes_out_of_the_feed_as_it_is() {
    let mut backend = one_shard().await;
    let broker = backend.broker().await;
    let mut raw = backend.redis().connection().await;
    let before = accept(&broker, draft("a", "before")).await;
    let journal = "rc:{0}:journal";
    let garbage = b"\x00 no bson \xff".to_vec();
    for fields in [
        vec![("room", &b"a"[..]), ("payload", &garbage)],
        vec![("foo", &b"bar"[..])],
    ] {
        let mut add = cmd("XADD");
        add.arg(journal).arg("*");
        for (name, value) in fields {
            add.arg(name).arg(value);
        }
        add.exec_async(&mut raw).await.unwrap();
    }
    let after = accept(&broker, draft("a", "after")).await;

    let recent = broker
        .recent(&room("a"), Span::After(MessageId::MIN), 10)
        .await
        .unwrap();
    assert_eq!(
        recent.messages.len(),
        2,
        "what is no message is no part of the past"
    );
    let mut feed = broker.open_feed("one").await.unwrap();
    let read = entries(&mut feed, 4).await;
    assert_eq!((read[0].id, read[3].id), (before, after));
    let undecodable: Vec<_> = read[1..3]
        .iter()
        .map(|entry| entry.content.as_ref().unwrap_err().raw.clone())
        .collect();
    assert_eq!(undecodable, [garbage, b"foo=bar\n".to_vec()]);
    feed.settle(settled(&read)).await.unwrap();
    assert_eq!(broker.backlog().await.unwrap(), 0);
}

#[tokio::test]
async fn a_live_message_that_cannot_be_read_is_a_gap() {
    let mut backend = one_shard().await;
    let broker = backend.broker().await;
    let mut fanout = broker.open_fanout(GatewayId::random()).await.unwrap();
    fanout.subscriber.subscribe(room("a")).await.unwrap();
    let mut raw = backend.redis().connection().await;
    cmd("PUBLISH")
        .arg("rc:{0}:room:a")
        .arg("1-1  garbage")
        .exec_async(&mut raw)
        .await
        .unwrap();
    assert!(matches!(event(&mut fanout.events).await, Event::Gap));
    let id = accept(&broker, draft("a", 1)).await;
    assert_eq!(message(&mut fanout.events).await.id, id);
}

#[tokio::test]
async fn lost_data_are_survived() {
    let mut backend = one_shard().await;
    let broker = backend.broker().await;
    let mut feed = broker.open_feed("one").await.unwrap();
    let mut raw = backend.redis().connection().await;
    let mut newest = accept(&broker, draft("a", 0)).await;
    assert_eq!(entries(&mut feed, 1).await[0].id, newest);
    for lost in [
        "DEL rc:{0}:journal",
        "DEL rc:{0}:recent:a",
        "FLUSHALL",
        "SCRIPT FLUSH",
    ] {
        let mut words = lost.split(' ');
        let mut command = cmd(words.next().unwrap());
        for word in words {
            command.arg(word);
        }
        command.exec_async(&mut raw).await.unwrap();
        for n in 0..3 {
            let mut draft = draft("a", n);
            draft.newer_than = Some(newest);
            let id = accept(&broker, draft).await;
            assert!(id > newest, "after {lost}");
            newest = id;
        }
        let read = entries(&mut feed, 3).await;
        assert_eq!(read[2].id, newest, "after {lost}");
        feed.settle(settled(&read)).await.unwrap();
    }
}

#[tokio::test]
async fn a_window_ahead_of_its_journal_keeps_the_order() {
    let mut backend = one_shard().await;
    let broker = backend.broker().await;
    let mut ahead = draft("a", 0);
    let first = accept(&broker, ahead.clone()).await;
    let mut stamp = first.stamp();
    stamp.ms += 3_600_000;
    ahead.newer_than = Some(MessageId::new(stamp, 0));
    let newest = accept(&broker, ahead).await;
    let mut raw = backend.redis().connection().await;
    cmd("DEL")
        .arg("rc:{0}:journal")
        .exec_async(&mut raw)
        .await
        .unwrap();
    // The journal begins anew at the clock's time, with another room's message.
    let other = accept(&broker, draft("b", 0)).await;
    assert!(other < newest);
    let next = accept(&broker, draft("a", 1)).await;
    assert!(next > newest);
    assert!(accept(&broker, draft("b", 1)).await > other);
    let recent = broker
        .recent(&room("a"), Span::After(first), 10)
        .await
        .unwrap();
    assert_eq!(
        recent.messages.iter().map(|m| m.id).collect::<Vec<_>>(),
        [newest, next]
    );
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
async fn a_persister_that_is_long_gone_is_forgotten() {
    let mut backend = Backend::start_with(Kind::Redis, |settings| {
        settings.shards = 1;
        settings.takeover_after = Duration::from_millis(100);
    })
    .await;
    let broker: Arc<dyn Broker> = backend.broker().await;
    let mut gone = broker.open_feed("gone").await.unwrap();
    accept(&broker, draft("a", 1)).await;
    let held = entries(&mut gone, 1).await;
    drop(gone);
    let mut stays = broker.open_feed("stays").await.unwrap();
    // What it held is taken over first, so that nothing is lost with it.
    assert_eq!(ids(&entries(&mut stays, 1).await), ids(&held));
    let mut raw = backend.redis().connection().await;
    let only_one = async || {
        assert!(
            stays
                .next(1, Duration::ZERO)
                .await
                .unwrap_or_default()
                .len()
                <= 1
        );
        let consumers: Vec<redis::Value> = cmd("XINFO")
            .arg("CONSUMERS")
            .arg("rc:{0}:journal")
            .arg("persisters")
            .query_async(&mut raw)
            .await
            .unwrap();
        consumers.len() == 1
    };
    until("one consumer is left", only_one).await;
}

#[tokio::test]
async fn a_feed_goes_on_after_a_restart() {
    let mut backend = one_shard().await;
    let broker = backend.broker().await;
    let mut feed = broker.open_feed("one").await.unwrap();
    let first = accept(&broker, draft("a", 1)).await;
    let read = entries(&mut feed, 1).await;
    assert_eq!(read[0].id, first);
    backend.redis().kill();
    assert!(feed.next(1, Duration::ZERO).await.is_err());
    assert!(feed.settle(settled(&read)).await.is_err());
    backend.redis().restart().await;
    // It may own entries whose delivery was lost: what is unsettled is handed out again.
    assert_eq!(ids(&entries(&mut feed, 1).await), [first]);
    feed.settle(settled(&read)).await.unwrap();
    let second = accept(&broker, draft("a", 2)).await;
    assert_eq!(ids(&entries(&mut feed, 1).await), [second]);
}
