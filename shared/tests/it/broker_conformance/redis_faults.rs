//! What Redis alone can do to us: connections that break or freeze, servers that die, data that
//! others wrote or removed.

use std::sync::Arc;
use std::time::Duration;

use harness::until;
use harness::until::DEADLINE;
use redis::cmd;
use shared::broker::{Broker, Event};
use shared::config::{Protection, Without};
use shared::message::{Draft, GatewayId, MessageId, Series, Span};

use super::lossy::Lossy;
use super::{
    Backend, Kind, accept, draft, entries, event, gap, ids, message, one_shard, room, settled,
};

#[tokio::test]
async fn what_follows_a_failed_publish_in_its_series_is_not_accepted_either() {
    let mut backend = Backend::start_with(Kind::Redis, |settings| {
        settings.publish_timeout = Duration::from_secs(3);
    })
    .await;
    let broker = backend.broker().await;
    backend.redis().kill();
    let series = Series::default();
    let of_series = |number: usize| Draft {
        series: series.clone(),
        ..draft("r", number)
    };
    let first = tokio::spawn(broker.publish(of_series(0)));
    let (mut followers, mut others) = (Vec::new(), Vec::new());
    // Those that come last still have time when the first has none left.
    while !first.is_finished() {
        followers.push(broker.publish(of_series(1)));
        others.push(broker.publish(draft("r", "other")));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    backend.redis().restart().await;
    assert!(first.await.unwrap().is_err());
    let last_other = others.pop().unwrap().await;
    assert!(last_other.is_ok(), "Redis is back in time: {last_other:?}");
    for follower in followers {
        assert!(follower.await.is_err());
    }
    let held = broker.recent(&room("r"), Span::Newest, 1000).await.unwrap();
    assert!(held.messages.iter().all(|message| message.body == "other"));
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
    feed.settler().settle(settled(&read)).await.unwrap();
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
        feed.settler().settle(settled(&read)).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_without_memory_is_emptied_by_a_persister_that_starts_then() {
    let mut backend = Backend::start(Kind::Redis).await;
    let broker = backend.broker().await;
    let mut before = broker.open_feed("before").await.unwrap();
    let mut accepted = Vec::new();
    for n in 0..6 {
        accepted.push(accept(&broker, draft("a", n)).await);
    }
    let first = entries(&mut before, 3).await;
    let mut raw = backend.redis().connection().await;
    let without_group = "XGROUP DESTROY rc:{0}:journal persisters";
    for line in ["CONFIG SET maxmemory 1", without_group] {
        let mut words = line.split(' ');
        let mut command = cmd(words.next().unwrap());
        for word in words {
            command.arg(word);
        }
        command.exec_async(&mut raw).await.unwrap();
    }
    before.settler().settle(settled(&first)).await.unwrap();
    assert_eq!(broker.backlog().await.unwrap(), 3);
    let mut after = backend.broker().await.open_feed("after").await.unwrap();
    let rest = entries(&mut after, 3).await;
    after.settler().settle(settled(&rest)).await.unwrap();
    assert_eq!([ids(&first), ids(&rest)].concat(), accepted);
    assert_eq!(broker.backlog().await.unwrap(), 0);
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
    assert!(feed.settler().settle(settled(&read)).await.is_err());
    backend.redis().restart().await;
    // It may own entries whose delivery was lost: what is unsettled is handed out again.
    assert_eq!(ids(&entries(&mut feed, 1).await), [first]);
    feed.settler().settle(settled(&read)).await.unwrap();
    let second = accept(&broker, draft("a", 2)).await;
    assert_eq!(ids(&entries(&mut feed, 1).await), [second]);
}

#[tokio::test]
async fn a_read_whose_answer_is_lost_is_handed_out_again_before_any_takeover() {
    let mut backend = Backend::start_with(Kind::Redis, |settings| {
        settings.shards = 1;
        settings.takeover_after = 10 * DEADLINE;
    })
    .await;
    let direct = backend.broker().await;
    let lossy = Lossy::start(backend.redis().port()).await;
    backend.settings.url = lossy.url();
    let mut feed = backend.broker().await.open_feed("one").await.unwrap();
    let first = accept(&direct, draft("a", 1)).await;
    let read = entries(&mut feed, 1).await;
    assert_eq!(read[0].id, first);
    feed.settler().settle(settled(&read)).await.unwrap();

    let second = accept(&direct, draft("a", 2)).await;
    lossy.lose_next();
    assert_eq!(ids(&entries(&mut feed, 1).await), [second]);
    assert!(lossy.has_lost());

    backend.settings.without = Without::from(&[Protection::Takeover][..]);
    let mut careless = backend.broker().await.open_feed("two").await.unwrap();
    assert!(careless.next(1, Duration::ZERO).await.unwrap().is_empty());
    accept(&direct, draft("a", 3)).await;
    lossy.lose_next();
    assert!(careless.next(1, Duration::ZERO).await.unwrap().is_empty());
    assert!(careless.next(1, Duration::ZERO).await.unwrap().is_empty());
    assert_eq!(direct.backlog().await.unwrap(), 2);
}
