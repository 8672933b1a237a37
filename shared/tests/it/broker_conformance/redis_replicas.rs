//! What is accepted when replicas have it, and what is not accepted when it is too late or out of
//! turn.

use std::sync::Arc;
use std::time::Duration;

use harness::{Redis, Sentinel, until};
use redis::cmd;
use shared::broker::{Broker, Earlier, PublishError, open};
use shared::config::{BrokerSettings, BrokerUrl, Protection, Without};
use shared::message::{Draft, GatewayId, MessageId, Series, Span};
use shared::metrics::Metrics;

use super::stream::broker;
use super::valve::Valve;
use super::{
    Backend, Kind, accept, draft, entries, ids, keyed, message, one_shard, room, settings, settled,
};

/// A server whose answers wait for a replica.
async fn with_a_replica() -> Backend {
    Backend::start_with(Kind::Redis, |settings| {
        settings.shards = 1;
        settings.replicas = Some(1);
    })
    .await
}

/// A broker with settings of its own on the same server.
async fn broker_with(
    backend: &Backend,
    change: impl FnOnce(&mut BrokerSettings),
) -> Arc<dyn Broker> {
    let mut settings = backend.settings.clone();
    change(&mut settings);
    let opened = open(&settings, &backend.metrics, Earlier::default()).await;
    opened.expect("the server answers")
}

async fn replica_of(primary: &Redis) -> Redis {
    let of = format!("127.0.0.1 {}", primary.port());
    Redis::start_with(&["--replicaof", &of, "--repl-diskless-sync-delay", "0"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_waits_for_its_replica_and_is_one_message() {
    let mut backend = with_a_replica().await;
    let mut replica = replica_of(backend.redis()).await;
    let broker = backend.broker().await;
    accept(&broker, draft("a", "before")).await;
    replica.kill();
    let waits = tokio::spawn(broker.publish(keyed("a", "k")));
    let mut raw = backend.redis().connection().await;
    // Attempt after attempt finds that it was accepted, and that no replica has it.
    until("it is sent again", async || {
        let stats: String = cmd("INFO")
            .arg("commandstats")
            .query_async(&mut raw)
            .await
            .unwrap();
        stats.contains("cmdstat_pexpireat:")
    })
    .await;
    assert!(!waits.is_finished());
    assert_eq!(broker.backlog().await.unwrap(), 2);
    replica.restart().await;
    let accepted = waits.await.unwrap().unwrap();
    assert!(!accepted.repeated);
    assert_eq!(broker.backlog().await.unwrap(), 2);

    backend.settings.without = Without::from(&[Protection::ReplicaWait][..]);
    replica.kill();
    let careless = backend.broker().await;
    accept(&careless, draft("a", "only here")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_without_replicas_is_unavailable_at_its_deadline() {
    let mut backend = with_a_replica().await;
    backend.settings.publish_timeout = Duration::from_secs(1);
    let broker = backend.broker().await;
    let answer = broker.publish(draft("a", 1)).await;
    assert_eq!(answer, Err(PublishError::Unavailable));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_replicas_do_not_have_is_heard_by_nobody() {
    let mut backend = with_a_replica().await;
    let broker = backend.broker().await;
    let mut fanout = broker.open_fanout(GatewayId::random()).await.unwrap();
    for name in ["a", "b"] {
        fanout.subscriber.subscribe(room(name)).await.unwrap();
    }
    let waits = tokio::spawn(broker.publish(draft("a", 1)));
    until("it lies in the journal", async || {
        broker.backlog().await.unwrap() == 1
    })
    .await;
    let hasty = broker_with(&backend, |settings| settings.replicas = Some(0)).await;
    accept(&hasty, draft("b", 2)).await;
    assert_eq!(message(&mut fanout.events).await.room, room("b"));
    let _replica = replica_of(backend.redis()).await;
    let id = waits.await.unwrap().unwrap().id;
    assert_eq!(message(&mut fanout.events).await.id, id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_has_not_shown_yet_is_heard_before_ones_own() {
    let mut backend = with_a_replica().await;
    let broker = backend.broker().await;
    let mut fanout = broker.open_fanout(GatewayId::random()).await.unwrap();
    fanout.subscriber.subscribe(room("a")).await.unwrap();
    let late = broker_with(&backend, |settings| {
        settings.publish_timeout = Duration::from_millis(500);
    })
    .await;
    let answer = late.publish(draft("a", 1)).await;
    assert_eq!(answer, Err(PublishError::Unavailable));
    let _replica = replica_of(backend.redis()).await;
    let own = accept(&broker, draft("a", 2)).await;
    let first = message(&mut fanout.events).await;
    assert!(first.id < own);
    let next = message(&mut fanout.events).await;
    assert_eq!((next.id, next.prev), (own, Some(first.id)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_gateway_could_not_show_before_it_died_is_heard_when_it_is_stored() {
    let mut backend = with_a_replica().await;
    let listening = backend.broker().await;
    let mut fanout = listening.open_fanout(GatewayId::random()).await.unwrap();
    fanout.subscriber.subscribe(room("a")).await.unwrap();
    let dying = broker_with(&backend, |settings| {
        settings.publish_timeout = Duration::from_millis(500);
    })
    .await;
    let answer = dying.publish(draft("a", 1)).await;
    assert_eq!(answer, Err(PublishError::Unavailable));
    drop(dying);
    let _replica = replica_of(backend.redis()).await;
    let mut feed = listening.open_feed("one").await.unwrap();
    let read = ids(&entries(&mut feed, 1).await);
    assert_eq!([message(&mut fanout.events).await.id][..], read);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_lets_a_persister_store_what_was_not_shown() {
    let mut backend = with_a_replica().await;
    let listening = backend.broker().await;
    let mut fanout = listening.open_fanout(GatewayId::random()).await.unwrap();
    fanout.subscriber.subscribe(room("a")).await.unwrap();
    let mut feed = listening.open_feed("one").await.unwrap();
    let dying = broker_with(&backend, |settings| {
        settings.publish_timeout = Duration::from_millis(500);
    })
    .await;
    let answer = dying.publish(draft("a", 1)).await;
    assert_eq!(answer, Err(PublishError::Unavailable));
    drop(dying);
    let _replica = replica_of(backend.redis()).await;
    let mut raw = backend.redis().connection().await;
    let full = cmd("CONFIG").arg("SET").arg("maxmemory").arg("1").take();
    full.exec_async(&mut raw).await.unwrap();
    let refused = cmd("SET").arg("x").arg("y").exec_async(&mut raw).await;
    assert_eq!(refused.unwrap_err().code(), Some("OOM"));
    let read = ids(&entries(&mut feed, 1).await);
    assert_eq!([message(&mut fanout.events).await.id][..], read);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_read_a_message_reads_no_other_when_its_server_is_gone() {
    let mut backend = with_a_replica().await;
    let broker = backend.broker().await;
    let waits = tokio::spawn(broker.publish(draft("a", 1)));
    let name = room("a");
    let newest = async || {
        let recent = broker.recent(&name, Span::Newest, 1).await.unwrap();
        recent.messages.first().map(|message| message.id)
    };
    until("it can be read", async || newest().await.is_some()).await;
    let id = newest().await.unwrap();
    // As on a promoted replica that had not got it.
    let mut raw = backend.redis().connection().await;
    cmd("FLUSHALL").exec_async(&mut raw).await.unwrap();
    let _replica = replica_of(backend.redis()).await;
    assert_eq!(waits.await.unwrap().unwrap().id, id);
    let mut feed = broker.open_feed("one").await.unwrap();
    assert_eq!(ids(&entries(&mut feed, 1).await), [id]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_too_late_is_not_accepted() {
    let redis = Redis::start().await;
    let mut raw = redis.connection().await;
    // Who may not end the connection that was given up has only the time in what was sent.
    let mut user = cmd("ACL");
    user.arg("SETUSER")
        .arg("meek")
        .arg("on")
        .arg(">p")
        .arg("~*");
    user.arg("&*").arg("+@all").arg("-client|kill");
    user.exec_async(&mut raw).await.unwrap();
    let valve = Valve::start(redis.port()).await;
    let BrokerUrl::Redis(url) = valve.url() else {
        panic!("a valve stands before Redis");
    };
    let mut through = settings(BrokerUrl::Redis(url.replace("://", "://meek:p@")));
    through.publish_timeout = Duration::from_secs(1);
    let late = broker(&through).await;
    accept(&late, draft("a", "before")).await;
    valve.shut_asks();
    let answer = late.publish(draft("a", "late")).await;
    assert_eq!(answer, Err(PublishError::Unavailable));
    valve.open();
    until("it has come", async || {
        let stats: String = cmd("INFO")
            .arg("commandstats")
            .query_async(&mut raw)
            .await
            .unwrap();
        stats.contains("cmdstat_evalsha:calls=2")
    })
    .await;
    assert_eq!(late.backlog().await.unwrap(), 1);
    accept(&late, draft("a", "after")).await;
}

#[tokio::test]
async fn what_is_sent_behind_a_refused_draft_of_its_series_is_refused() {
    let mut backend = one_shard().await;
    let broker = backend.broker().await;
    let mut raw = backend.redis().connection().await;
    cmd("SET")
        .arg("rc:{0}:recent:bad")
        .arg("no stream")
        .exec_async(&mut raw)
        .await
        .unwrap();
    let series = Series::default();
    let of_series = |room: &str| Draft {
        series: series.clone(),
        ..draft(room, 1)
    };
    // They leave together: the lane runs when this waits.
    let first = broker.publish(of_series("good"));
    let refused = broker.publish(of_series("bad"));
    let behind = broker.publish(of_series("good"));
    let other = broker.publish(draft("good", 2));
    assert!(refused.await.is_err());
    assert!(behind.await.is_err());
    let (first, other) = (first.await.unwrap().id, other.await.unwrap().id);
    assert_eq!(broker.backlog().await.unwrap(), 2);
    let mut feed = broker.open_feed("one").await.unwrap();
    assert_eq!(ids(&entries(&mut feed, 2).await), [first, other]);
}

#[tokio::test]
async fn what_a_server_that_is_no_primary_settles_does_not_count() {
    let mut backend = one_shard().await;
    backend.settings.publish_timeout = Duration::from_secs(1);
    let broker = backend.broker().await;
    accept(&broker, draft("a", 1)).await;
    let mut feed = broker.open_feed("one").await.unwrap();
    let read = entries(&mut feed, 1).await;
    let mut raw = backend.redis().connection().await;
    let mut follow = async |host: &str, port: &str| {
        let mut follow = cmd("REPLICAOF");
        follow.arg(host).arg(port);
        follow.exec_async(&mut raw).await.unwrap();
    };
    follow("127.0.0.1", "1").await;
    assert!(feed.settler().settle(settled(&read)).await.is_err());
    follow("NO", "ONE").await;
    assert_eq!(broker.backlog().await.unwrap(), 1);
    feed.settler().settle(settled(&read)).await.unwrap();
    assert_eq!(broker.backlog().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_replica_with_older_data_goes_on_above_what_is_known() {
    let mut set = Sentinel::start().await;
    let mut careless = settings(BrokerUrl::Redis(set.url()));
    careless.replicas = Some(0);
    careless.shards = 1;
    let opened = open(&careless, &Metrics::new(), Earlier::default()).await;
    let broker = opened.unwrap();
    let mut feed = broker.open_feed("one").await.unwrap();
    let kept = accept(&broker, draft("a", "kept")).await;
    let mut primary = set.connection().await;
    let mut wait = cmd("WAIT");
    wait.arg(2)
        .arg(10_000)
        .exec_async(&mut primary)
        .await
        .unwrap();
    let before = set.primary().await.port();
    let replicas = set.servers().iter().filter(|one| one.port() != before);
    replicas.clone().for_each(Redis::pause);
    // What is on its way to them would reach them when they go on.
    let mut kill = cmd("CLIENT");
    kill.arg("KILL").arg("TYPE").arg("replica");
    kill.exec_async(&mut primary).await.unwrap();
    // By a clock that is far ahead of its successor's.
    let mut lost = draft("a", "lost");
    let mut ahead = kept.stamp();
    ahead.ms += 3_600_000;
    lost.newer_than = Some(MessageId::new(ahead, 0));
    let mut newest = accept(&broker, lost).await;
    assert!(newest.stamp().ms >= ahead.ms);
    set.kill_primary().await;
    set.resume();
    set.promoted(before).await;
    for n in 0..3 {
        let mut next = draft("a", n);
        next.newer_than = Some(newest);
        let id = accept(&broker, next).await;
        assert!(id > newest);
        newest = id;
    }
    let read = entries(&mut feed, 4).await;
    assert_eq!((read[0].id, read[3].id), (kept, newest));
    feed.settler().settle(settled(&read)).await.unwrap();
    assert_eq!(broker.backlog().await.unwrap(), 0);
}
