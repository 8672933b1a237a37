//! `--delivery at-most-once`: what it still does, and what it no longer claims.

use std::collections::BTreeSet;

use shared::broker::{Event, Guarantees, PublishError};
use shared::config::Delivery;
use shared::message::{Draft, GatewayId, Series, Span};

use super::lossy::Lossy;
use super::{Backend, Kind, accept, draft, entries, event, ids, keyed, message, room, settled};

super::on_every_backend!(
    a_message_reaches_members_and_persisters,
    a_stored_notice_reaches_the_gateway,
    nothing_is_kept_and_nothing_is_claimed,
);

async fn start(kind: Kind) -> Backend {
    Backend::start_with(kind, |settings| settings.delivery = Delivery::AtMostOnce).await
}

async fn a_message_reaches_members_and_persisters(kind: Kind) {
    let backend = start(kind).await;
    let broker = backend.broker().await;
    let mut fanout = broker.open_fanout(GatewayId::random()).await.unwrap();
    fanout.subscriber.subscribe(room("a")).await.unwrap();
    let mut feed = backend.broker().await.open_feed("one").await.unwrap();
    let mut accepted = BTreeSet::new();
    for n in 0..100 {
        let id = accept(&broker, draft("a", n)).await;
        let heard = message(&mut fanout.events).await;
        assert_eq!(
            (heard.id, heard.body.to_vec()),
            (id, n.to_string().into_bytes())
        );
        accepted.insert(id);
        accepted.insert(accept(&broker, draft("b", n)).await);
    }
    assert_eq!(accepted.len(), 200);
    let read: BTreeSet<_> = ids(&entries(&mut feed, 200).await).into_iter().collect();
    assert_eq!(read, accepted);
}

async fn a_stored_notice_reaches_the_gateway(kind: Kind) {
    let backend = start(kind).await;
    let broker = backend.broker().await;
    let gateway = GatewayId::random();
    let mut fanout = broker.open_fanout(gateway).await.unwrap();
    let mut feed = broker.open_feed("one").await.unwrap();
    let mut draft = draft("a", 1);
    draft.notify = Some(gateway);
    let id = accept(&broker, draft).await;
    let read = entries(&mut feed, 1).await;
    assert_eq!((read[0].id, read[0].notify), (id, Some(gateway)));
    feed.settler().settle(settled(&read)).await.unwrap();
    match event(&mut fanout.events).await {
        Event::Stored(ids) => assert_eq!(ids, [id]),
        other => panic!("{other:?} instead of a notice"),
    }
}

async fn nothing_is_kept_and_nothing_is_claimed(kind: Kind) {
    let backend = start(kind).await;
    let broker = backend.broker().await;
    let durable = !matches!(kind, Kind::Memory);
    assert_eq!(
        broker.guarantees(),
        Guarantees {
            durable,
            journaled: false
        }
    );
    let first = accept(&broker, keyed("a", "k")).await;
    let again = broker.publish(keyed("a", "k")).await.unwrap();
    assert!(!again.repeated && again.id != first);
    let recent = broker.recent(&room("a"), Span::Newest, 10).await.unwrap();
    assert!(recent.messages.is_empty() && !recent.complete);
    assert_eq!(broker.backlog().await.unwrap(), 0);
    broker.ping().await.unwrap();
}

#[tokio::test]
async fn what_a_slow_persister_cannot_take_is_lost_and_counted() {
    let backend = start(Kind::Memory).await;
    let broker = backend.broker().await;
    let mut feed = broker.open_feed("slow").await.unwrap();
    let big = draft("a", "x".repeat(60_000));
    for _ in 0..1300 {
        accept(&broker, big.clone()).await;
    }
    let lost = backend.metrics.broker.feed_dropped.get() as usize;
    assert!(lost > 0 && lost < 1300, "{lost}");
    assert_eq!(entries(&mut feed, 1300 - lost).await.len(), 1300 - lost);
    // There is room again.
    let id = accept(&broker, big).await;
    assert_eq!(ids(&entries(&mut feed, 1).await), [id]);
}

#[tokio::test]
async fn what_follows_a_publish_whose_answer_is_lost_is_not_accepted_without_a_journal_either() {
    let mut backend = start(Kind::Redis).await;
    let lossy = Lossy::start(backend.redis().port()).await;
    backend.settings.url = lossy.url();
    let broker = backend.broker().await;
    accept(&broker, draft("a", "before")).await;
    let series = Series::default();
    let of_series = |number: usize| Draft {
        series: series.clone(),
        ..draft("a", number)
    };
    lossy.lose_next();
    let lost = broker.publish(of_series(1)).await;
    assert_eq!(lost, Err(PublishError::Unavailable));
    assert!(lossy.has_lost());
    let follower = broker.publish(of_series(2)).await;
    assert_eq!(follower, Err(PublishError::Unavailable));
    accept(&broker, draft("a", "other")).await;
}
