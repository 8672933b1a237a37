//! Accepting: in order, with the right name, and only while there is room.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::join_all;
use shared::broker::PublishError;
use shared::broker::shard::shard_of;
use shared::message::{Draft, GatewayId, MessageId, Span, Stamp, UserName};

use super::{Backend, Kind, accept, draft, entries, keyed, message, room, settled};

super::on_every_backend!(
    drafts_are_accepted_in_the_order_of_the_calls,
    each_message_names_the_one_before_it_in_its_room,
    an_id_is_greater_than_what_the_publisher_has_seen,
    a_full_journal_refuses_until_something_is_stored,
    an_id_tells_its_shard_and_time,
    a_message_arrives_octet_for_octet,
);

async fn drafts_are_accepted_in_the_order_of_the_calls(kind: Kind) {
    let backend = Backend::start(kind).await;
    let broker = backend.broker().await;
    let rooms = ["a", "b", "c"];
    let calls: Vec<_> = (0..900)
        .map(|n| broker.publish(draft(rooms[n % 3], n)))
        .collect();
    // Polled last to first: only the order of the calls may count.
    let answers = join_all(calls.into_iter().rev()).await;
    let accepted: Vec<MessageId> = answers
        .into_iter()
        .rev()
        .map(|answer| answer.unwrap().id)
        .collect();

    let mut feed = broker.open_feed("one").await.unwrap();
    let read = entries(&mut feed, 900).await;
    for (which, name) in rooms.into_iter().enumerate() {
        let of_room: Vec<MessageId> = accepted.iter().skip(which).step_by(3).copied().collect();
        assert!(
            of_room.is_sorted_by(|one, next| one < next),
            "{name}: {of_room:?}"
        );
        let journaled: Vec<MessageId> = read
            .iter()
            .filter(|entry| entry.content.as_ref().unwrap().room == room(name))
            .map(|entry| entry.id)
            .collect();
        assert_eq!(journaled, of_room);
    }
}

async fn each_message_names_the_one_before_it_in_its_room(kind: Kind) {
    let backend = Backend::start(kind).await;
    let broker = backend.broker().await;
    let mut fanout = broker.open_fanout(GatewayId::random()).await.unwrap();
    fanout.subscriber.subscribe(room("a")).await.unwrap();
    let other = backend.broker().await;
    let mut before = None;
    for n in 0..20 {
        accept(&other, draft("b", n)).await;
        let publisher = if n % 2 == 0 { &broker } else { &other };
        let accepted = publisher.publish(draft("a", n)).await.unwrap();
        let heard = message(&mut fanout.events).await;
        assert_eq!((heard.id, heard.prev), (accepted.id, before));
        assert_eq!(accepted.prev, before);
        before = Some(accepted.id);
    }
}

async fn an_id_is_greater_than_what_the_publisher_has_seen(kind: Kind) {
    let backend = Backend::start_with(kind, |settings| settings.shards = 1).await;
    let broker = backend.broker().await;
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let ahead = (now + Duration::from_secs(3600)).as_millis() as u64;
    let mut newest = accept(&broker, draft("a", 0)).await;
    // An hour ahead; ahead with a sequence; far into one millisecond; and back to normal.
    for seen in [(ahead, 0), (ahead, 77), (ahead + 1, (1 << 57) + 5)] {
        let seen = MessageId::new(
            Stamp {
                ms: seen.0,
                seq: seen.1,
            },
            0,
        );
        let mut next = draft("a", 1);
        next.newer_than = Some(seen);
        let id = accept(&broker, next).await;
        assert!(id > seen && id > newest, "{id} after {seen}");
        newest = id;
        for n in 0..3 {
            let id = accept(&broker, draft("a", n)).await;
            assert!(id > newest, "{id} after {newest}");
            newest = id;
        }
    }
    // Another room of the same shard is not in the way, nor out of order with itself.
    let one = accept(&broker, draft("b", 1)).await;
    let two = accept(&broker, draft("b", 2)).await;
    assert!(one < two);
    assert!(accept(&broker, draft("a", 9)).await > newest);
}

async fn a_full_journal_refuses_until_something_is_stored(kind: Kind) {
    let change = |settings: &mut shared::config::BrokerSettings| {
        settings.shards = 1;
        settings.journal_max = 5;
    };
    let backend = Backend::start_with(kind, change).await;
    let broker = backend.broker().await;
    let first = accept(&broker, keyed("a", "first")).await;
    for n in 1..5 {
        accept(&broker, draft("a", n)).await;
    }
    assert_eq!(broker.publish(draft("a", 5)).await, Err(PublishError::Full));
    assert_eq!(broker.backlog().await.unwrap(), 5);
    let repeat = broker.publish(keyed("a", "first")).await.unwrap();
    assert_eq!((repeat.id, repeat.repeated), (first, true));

    let mut feed = broker.open_feed("one").await.unwrap();
    let read = entries(&mut feed, 5).await;
    feed.settler().settle(settled(&read[..1])).await.unwrap();
    accept(&broker, draft("a", 6)).await;
    assert_eq!(broker.publish(draft("a", 7)).await, Err(PublishError::Full));
}

async fn an_id_tells_its_shard_and_time(kind: Kind) {
    let backend = Backend::start(kind).await;
    let broker = backend.broker().await;
    let before = SystemTime::now() - Duration::from_secs(1);
    for name in ["a", "b", "c", "d", "e:f@g"] {
        let id = accept(&broker, draft(name, 1)).await;
        assert_eq!(id.shard(), shard_of(&room(name), backend.settings.shards));
        assert!(id.created_at() > before);
        assert!(id.created_at() < SystemTime::now() + Duration::from_secs(1));
    }
}

async fn a_message_arrives_octet_for_octet(kind: Kind) {
    let backend = Backend::start(kind).await;
    let broker = backend.broker().await;
    let mut fanout = broker.open_fanout(GatewayId::random()).await.unwrap();
    let name = room("a.b_c~d:e@f-0");
    fanout.subscriber.subscribe(name.clone()).await.unwrap();
    let sent = Draft {
        room: name.clone(),
        sender: UserName::parse("김: 50% {x}").unwrap(),
        content_type: Some("text/plain;charset=utf-8".into()),
        headers: vec![
            ("x".into(), "1".into()),
            ("".into(), "".into()),
            ("x".into(), "2".into()),
        ],
        body: Bytes::from_iter((0..=255u8).cycle().take(70_000)),
        notify: Some(GatewayId::random()),
        ..keyed("a", "ключ %:1")
    };
    let id = accept(&broker, sent.clone()).await;
    let heard = message(&mut fanout.events).await;
    let mut feed = broker.open_feed("one").await.unwrap();
    let entry = entries(&mut feed, 1).await.remove(0);
    let recent = broker
        .recent(&name, Span::Newest, 1)
        .await
        .unwrap()
        .messages
        .remove(0);

    assert_eq!((entry.id, entry.notify), (id, sent.notify));
    assert_eq!(*heard, *entry.content.unwrap());
    assert_eq!(*heard, *recent);
    assert_eq!(heard.id, id);
    assert_eq!(heard.room, sent.room);
    assert_eq!(heard.sender, sent.sender);
    assert_eq!(heard.content_type, sent.content_type);
    assert_eq!(heard.headers, sent.headers);
    assert_eq!(heard.body, sent.body);
    assert_eq!(heard.idempotency_key, sent.idempotency_key);
}

#[tokio::test]
async fn the_journal_in_memory_is_bounded_in_octets_too() {
    let backend = Backend::start(Kind::Memory).await;
    let broker = backend.broker().await;
    let big = || draft("a", "x".repeat(60_000));
    let mut accepted = 0;
    while broker.publish(big()).await.is_ok() {
        accepted += 1;
        assert!(accepted < 10_000, "600 MB and no end");
    }
    assert_eq!(broker.publish(big()).await, Err(PublishError::Full));
    let mut feed = broker.open_feed("one").await.unwrap();
    let read = entries(&mut feed, 10).await;
    feed.settler().settle(settled(&read)).await.unwrap();
    accept(&broker, big()).await;
}
