//! What is ephemeral is heard by those who listen, and leaves no trace.

use std::collections::HashSet;
use std::sync::Arc;

use ::redis::cmd;
use harness::until;
use shared::broker::handover::handover;
use shared::broker::{Event, PublishError};
use shared::config::Delivery;
use shared::message::{Draft, GatewayId, MessageId, Series, Span, UserName};
use shared::metrics::Metrics;

use super::lossy::Lossy;
use super::{
    Backend, Kind, accept, draft, entries, event, ids, keyed, message, one_shard, room, settled,
};

super::on_every_backend!(
    an_ephemeral_message_reaches_every_gateway_and_nothing_else,
    drafts_for_one_room_keep_the_order_of_the_calls_ephemeral_ones_too,
    neither_a_full_journal_nor_a_failed_series_nor_a_used_key_stops_what_is_ephemeral,
    a_users_queue_is_heard_and_fed_by_its_name,
);

const DELIVERIES: [Delivery; 2] = [Delivery::AtLeastOnce, Delivery::AtMostOnce];

fn ephemeral(room_name: &str, body: impl ToString) -> Draft {
    Draft {
        ephemeral: true,
        ..draft(room_name, body)
    }
}

async fn an_ephemeral_message_reaches_every_gateway_and_nothing_else(kind: Kind) {
    for delivery in DELIVERIES {
        let backend = Backend::start_with(kind, |settings| settings.delivery = delivery).await;
        let (one, two) = (backend.broker().await, backend.broker().await);
        let mut fanouts = [
            one.open_fanout(GatewayId::random()).await.unwrap(),
            two.open_fanout(GatewayId::random()).await.unwrap(),
        ];
        for fanout in &fanouts {
            fanout.subscriber.subscribe(room("a")).await.unwrap();
        }
        let mut feed = two.open_feed("one").await.unwrap();
        let first = accept(&one, draft("a", 1)).await;
        let passing = accept(&one, ephemeral("a", "typing")).await;
        let second = accept(&one, draft("a", 2)).await;
        assert_eq!(HashSet::from([first, passing, second]).len(), 3);
        let known = [first, passing, second].map(MessageId::is_ephemeral);
        assert_eq!(known, [false, true, false]);

        let journaled = delivery == Delivery::AtLeastOnce;
        for fanout in &mut fanouts {
            let mut heard = Vec::new();
            for _ in 0..3 {
                let message = message(&mut fanout.events).await;
                heard.push((message.id, message.ephemeral, message.prev));
            }
            let prev = journaled.then_some(first);
            let expected = [
                (first, false, None),
                (passing, true, None),
                (second, false, prev),
            ];
            assert_eq!(heard, expected);
        }
        let read = entries(&mut feed, 2).await;
        assert_eq!(ids(&read), [first, second], "{delivery:?}");
        if journaled {
            assert_eq!(one.backlog().await.unwrap(), 2);
            let recent = one.recent(&room("a"), Span::Newest, 10).await.unwrap();
            let recent: Vec<_> = recent.messages.iter().map(|message| message.id).collect();
            assert_eq!(recent, [first, second]);
        }
        feed.settler().settle(settled(&read)).await.unwrap();
        assert_eq!(one.backlog().await.unwrap(), 0);
    }
}

async fn drafts_for_one_room_keep_the_order_of_the_calls_ephemeral_ones_too(kind: Kind) {
    for delivery in DELIVERIES {
        let backend = Backend::start_with(kind, |settings| settings.delivery = delivery).await;
        let broker = backend.broker().await;
        let mut fanout = broker.open_fanout(GatewayId::random()).await.unwrap();
        fanout.subscriber.subscribe(room("a")).await.unwrap();
        let publishes: Vec<_> = (0..500)
            .map(|n| {
                broker.publish(Draft {
                    ephemeral: n % 3 > 0,
                    ..draft("a", n)
                })
            })
            .collect();
        for n in 0..500 {
            assert_eq!(message(&mut fanout.events).await.body, n.to_string());
        }
        for publish in publishes {
            publish.await.unwrap();
        }
    }
}

async fn neither_a_full_journal_nor_a_failed_series_nor_a_used_key_stops_what_is_ephemeral(
    kind: Kind,
) {
    let backend = Backend::start_with(kind, |settings| {
        (settings.shards, settings.journal_max) = (1, 2);
    })
    .await;
    let broker = backend.broker().await;
    let mut fanout = broker.open_fanout(GatewayId::random()).await.unwrap();
    fanout.subscriber.subscribe(room("a")).await.unwrap();
    let series = Series::default();
    let (mut kept, mut heard) = (keyed("a", "k"), Vec::new());
    kept.series = series.clone();
    heard.push(accept(&broker, kept.clone()).await);
    heard.push(accept(&broker, draft("a", 2)).await);
    let refused = broker.publish(Draft {
        series: series.clone(),
        ..draft("a", 3)
    });
    assert_eq!(refused.await, Err(PublishError::Full));
    assert!(series.has_failed());
    for _ in 0..2 {
        let passing = Draft {
            ephemeral: true,
            ..kept.clone()
        };
        let accepted = broker.publish(passing).await.unwrap();
        assert!(!accepted.repeated);
        heard.push(accepted.id);
    }
    for id in heard {
        assert_eq!(message(&mut fanout.events).await.id, id);
    }
}

async fn a_users_queue_is_heard_and_fed_by_its_name(kind: Kind) {
    let backend = Backend::start(kind).await;
    let broker = backend.broker().await;
    let mut fanout = broker.open_fanout(GatewayId::random()).await.unwrap();
    let mut feed = broker.open_feed("one").await.unwrap();
    let longest = "김".repeat(42) + "/%";
    for user in ["a/b", "a%2Fb", "50%:x", "} :room:", &longest] {
        let user = UserName::parse(user).unwrap();
        let queue = shared::message::RoomName::queue(&user, "queue/x").unwrap();
        fanout.subscriber.subscribe(queue.clone()).await.unwrap();
        for ephemeral in [false, true] {
            let key = shared::message::IdempotencyKey::parse("k").unwrap();
            let draft = Draft {
                room: queue.clone(),
                idempotency_key: Some(key),
                ephemeral,
                ..draft("a", "hi")
            };
            let id = accept(&broker, draft).await;
            let heard = message(&mut fanout.events).await;
            assert_eq!((heard.id, &heard.room), (id, &queue));
            if !ephemeral {
                let stored = entries(&mut feed, 1).await;
                assert_eq!(stored[0].content.as_ref().unwrap().room, queue);
                let recent = broker.recent(&queue, Span::Newest, 10).await.unwrap();
                assert_eq!(recent.messages[0].id, id);
            }
        }
    }
}

#[tokio::test]
async fn an_ephemeral_publish_whose_answer_is_lost_fails_and_is_heard_once() {
    let mut backend = one_shard().await;
    let direct = backend.broker().await;
    let mut fanout = direct.open_fanout(GatewayId::random()).await.unwrap();
    fanout.subscriber.subscribe(room("a")).await.unwrap();
    let lossy = Lossy::start(backend.redis().port()).await;
    backend.settings.url = lossy.url();
    let broker = backend.broker().await;
    let before = accept(&broker, draft("a", "before")).await;

    let series = Series::default();
    lossy.lose_next();
    let passing = Draft {
        series: series.clone(),
        ..ephemeral("a", "typing")
    };
    let answer = broker.publish(passing).await;
    assert_eq!(answer, Err(PublishError::Unavailable));
    assert!(lossy.has_lost());
    // Its sender does not send it again, so that nothing has to wait for that.
    assert!(!series.has_failed());
    let after = accept(&broker, draft("a", "after")).await;
    let heard = [
        message(&mut fanout.events).await,
        message(&mut fanout.events).await,
        message(&mut fanout.events).await,
    ];
    assert_eq!((heard[0].id, heard[2].id), (before, after));
    assert_eq!(heard[1].body, "typing");
}

#[tokio::test]
async fn what_is_ephemeral_and_goes_through_costs_no_draft_its_second_attempt() {
    let mut backend = one_shard().await;
    let broker = backend.broker().await;
    accept(&broker, draft("a", "before")).await;
    let mut raw = backend.redis().connection().await;
    let mut replicaof = async |host: &str, port: &str| {
        let mut replicaof = cmd("REPLICAOF");
        replicaof.arg(host).arg(port).exec_async(&mut raw).await
    };
    // A replica of a server that is not there publishes, and takes no writes.
    replicaof("127.0.0.1", "1").await.unwrap();
    let kept = broker.publish(draft("a", "kept"));
    let passing = broker.publish(ephemeral("a", "typing"));
    passing.await.unwrap();
    replicaof("NO", "ONE").await.unwrap();
    kept.await.unwrap();
    assert_eq!(broker.backlog().await.unwrap(), 2);
}

#[tokio::test]
async fn an_ephemeral_message_that_does_not_fit_is_counted_and_is_no_gap() {
    let backend = Backend::start(Kind::Memory).await;
    let broker = backend.broker().await;
    let mut fanout = broker.open_fanout(GatewayId::random()).await.unwrap();
    fanout.subscriber.subscribe(room("a")).await.unwrap();
    accept(&broker, ephemeral("a", "x".repeat(600))).await;
    let heard = message(&mut fanout.events).await;

    let metrics = Metrics::new();
    let (link, mut events) = handover(1000, Arc::clone(&metrics.broker));
    for _ in 0..3 {
        link.offer(Event::Message(Arc::clone(&heard)));
    }
    drop(link);
    assert_eq!(metrics.broker.handover_dropped.get(), 2);
    assert!(matches!(event(&mut events).await, Event::Message(_)));
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn an_ephemeral_publish_waits_for_a_server_that_is_away_and_fails_by_its_deadline() {
    let mut backend = one_shard().await;
    let broker = backend.broker().await;
    accept(&broker, draft("a", "before")).await;
    backend.redis().kill();
    // What was never sent may be sent late: it is heard once.
    until("the lane has noticed", async || {
        let lost = broker.publish(ephemeral("b", 1));
        drop(lost);
        backend.reconnects("publish") > 0
    })
    .await;
    let waits = broker.publish(ephemeral("a", "late"));
    backend.redis().restart().await;
    waits.await.unwrap();
}
