//! The live link's own bad days: what it says, and when, after it was interrupted.

use std::sync::Arc;

use futures_util::future::join_all;
use harness::until;
use redis::aio::MultiplexedConnection;
use redis::cmd;
use shared::broker::Event;
use shared::message::{GatewayId, MessageId, Stamp};

use super::valve::Valve;
use super::{Backend, Kind, accept, draft, event, gap, message, one_shard, room};

/// Has the server close every connection with subscriptions.
async fn kill_links(raw: &mut MultiplexedConnection) {
    cmd("CLIENT")
        .arg("KILL")
        .arg("TYPE")
        .arg("pubsub")
        .exec_async(raw)
        .await
        .unwrap();
}

/// How often the server has been sent a command.
async fn calls(raw: &mut MultiplexedConnection, command: &str) -> u64 {
    let info: String = cmd("INFO")
        .arg("commandstats")
        .query_async(raw)
        .await
        .unwrap();
    let prefix = format!("cmdstat_{command}:calls=");
    let line = info.lines().find_map(|line| line.strip_prefix(&prefix));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_copy_of_what_was_shown_is_not_handed_out() {
    let backend = one_shard().await;
    let broker = backend.broker().await;
    let mut fanout = broker.open_fanout(GatewayId::random()).await.unwrap();
    fanout.subscriber.subscribe(room("a")).await.unwrap();
    // Behind an id that is ahead of the clock comes the next one: it can be noted in time.
    let first = accept(&broker, draft("a", 1)).await;
    let Stamp { ms, .. } = first.stamp();
    let id = |seq| {
        let ms = ms + 3_600_000;
        MessageId::new(Stamp { ms, seq }, first.shard())
    };
    fanout.shown.note(id(6));
    let mut second = draft("a", 2);
    second.newer_than = Some(id(5));
    assert_eq!(accept(&broker, second).await, id(6));
    let third = accept(&broker, draft("a", 3)).await;
    assert_eq!(message(&mut fanout.events).await.id, first);
    let next = message(&mut fanout.events).await;
    assert_eq!((next.id, next.prev), (third, Some(id(6))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_never_comes_before_the_gap_that_it_follows() {
    let mut backend = one_shard().await;
    let direct = backend.broker().await;
    let valve = Valve::start(backend.redis().port()).await;
    backend.settings.url = valve.url();
    let broker = backend.broker().await;
    let gateway = GatewayId::random();
    let mut fanout = broker.open_fanout(gateway).await.unwrap();
    let names: Vec<_> = (0..700).map(|n| format!("room{n}")).collect();
    let confirmed = names
        .iter()
        .map(|name| fanout.subscriber.subscribe(room(name)));
    assert!(join_all(confirmed).await.iter().all(Result::is_ok));

    // The link comes back with its own channel and the first 500 rooms, and waits for the others.
    valve.shut_after_subscribes(2);
    let mut raw = backend.redis().connection().await;
    kill_links(&mut raw).await;
    until("the first rooms are subscribed again", async || {
        let channels: Vec<String> = cmd("PUBSUB")
            .arg("CHANNELS")
            .arg("rc:{0}:room:*")
            .query_async(&mut raw)
            .await
            .unwrap();
        channels.len() == 500
    })
    .await;
    let early = join_all(names.iter().map(|name| accept(&direct, draft(name, 1)))).await;
    // It comes behind them on the same connection.
    cmd("PUBLISH")
        .arg(format!("rc:gateway:{gateway}"))
        .arg(early[0].to_string())
        .exec_async(&mut raw)
        .await
        .unwrap();
    match event(&mut fanout.events).await {
        Event::Stored(ids) => assert_eq!(ids, [early[0]]),
        other => panic!("{other:?} came first"),
    }
    valve.open();
    assert!(matches!(event(&mut fanout.events).await, Event::Gap));
    for name in ["room0", "room699"] {
        let id = accept(&direct, draft(name, 2)).await;
        assert_eq!(message(&mut fanout.events).await.id, id);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_redis_cuts_off_for_being_slow_reports_a_gap() {
    let mut backend = one_shard().await;
    let direct = backend.broker().await;
    let valve = Valve::start(backend.redis().port()).await;
    backend.settings.url = valve.url();
    let broker = backend.broker().await;
    let mut fanout = broker.open_fanout(GatewayId::random()).await.unwrap();
    fanout.subscriber.subscribe(room("a")).await.unwrap();
    let mut raw = backend.redis().connection().await;
    cmd("CONFIG")
        .arg("SET")
        .arg("client-output-buffer-limit")
        .arg("pubsub 1mb 1mb 1")
        .exec_async(&mut raw)
        .await
        .unwrap();
    let id: u64 = client_ids(&mut raw).await[0];

    valve.shut_answers();
    let big = "x".repeat(100_000);
    let mut accepted = Vec::new();
    until("Redis cuts the link off", async || {
        accepted.push(accept(&direct, draft("a", &big)).await);
        !client_ids(&mut raw).await.contains(&id)
    })
    .await;
    valve.open();
    let mut heard = 0;
    loop {
        match event(&mut fanout.events).await {
            Event::Message(_) => heard += 1,
            Event::Gap => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(heard < accepted.len(), "the rest was thrown away");
    let after = accept(&direct, draft("a", "after")).await;
    // The gap overtakes what was heard before it.
    until("the new message arrives", async || {
        message(&mut fanout.events).await.id == after
    })
    .await;
}

/// The connections that have subscriptions.
async fn client_ids(raw: &mut MultiplexedConnection) -> Vec<u64> {
    let list: String = cmd("CLIENT")
        .arg("LIST")
        .arg("TYPE")
        .arg("pubsub")
        .query_async(raw)
        .await
        .unwrap();
    let ids = list
        .lines()
        .filter_map(|line| line.strip_prefix("id=")?.split(' ').next()?.parse().ok());
    ids.collect()
}

#[tokio::test]
async fn many_rooms_are_subscribed_by_few_commands() {
    let mut backend = Backend::start(Kind::Redis).await;
    let broker = backend.broker().await;
    let mut fanout = broker.open_fanout(GatewayId::random()).await.unwrap();
    let mut raw = backend.redis().connection().await;
    let before = calls(&mut raw, "subscribe").await;
    // Two clients in each of 5,000 rooms come back at once: before the link has its turn, for this
    // test has one thread.
    let subscriber = Arc::clone(&fanout.subscriber);
    let rooms = (0..10_000).map(|n| room(&format!("room{}", n / 2)));
    let confirmed = join_all(rooms.map(|room| subscriber.subscribe(room))).await;
    assert!(confirmed.iter().all(Result::is_ok));
    let at_once = calls(&mut raw, "subscribe").await - before;
    assert!((10..100).contains(&at_once), "{at_once} commands");

    kill_links(&mut raw).await;
    gap(&mut fanout.events).await;
    let again = calls(&mut raw, "subscribe").await - before - at_once;
    // Its own channel, and 500 rooms at a time: no command holds up the server for long.
    assert!((11..25).contains(&again), "{again} commands");
}

#[tokio::test]
async fn the_end_of_a_fanout_ends_its_links() {
    let mut backend = Backend::start(Kind::Redis).await;
    let broker = backend.broker().await;
    let fanout = broker.open_fanout(GatewayId::random()).await.unwrap();
    fanout.subscriber.subscribe(room("a")).await.unwrap();
    let mut raw = backend.redis().connection().await;
    assert_eq!(client_ids(&mut raw).await.len(), 1);
    drop(fanout.events);
    until("the connection is closed", async || {
        client_ids(&mut raw).await.is_empty()
    })
    .await;
}
