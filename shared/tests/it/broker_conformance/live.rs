//! The live link: what is confirmed misses nothing.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use shared::broker::handover::handover;
use shared::broker::{Event, Settled};
use shared::message::GatewayId;
use shared::metrics::Metrics;

use super::{Backend, Kind, accept, draft, entries, event, message, room, settled};

super::on_every_backend!(
    a_confirmed_subscription_misses_nothing,
    only_subscribed_rooms_are_delivered,
    a_burst_of_subscriptions_is_confirmed,
    every_gateway_hears_a_room,
    the_gateway_that_waits_hears_what_is_stored,
    a_link_that_is_let_go_of_does_no_harm,
);

async fn a_confirmed_subscription_misses_nothing(kind: Kind) {
    let backend = Backend::start(kind).await;
    let (here, there) = (backend.broker().await, backend.broker().await);
    let mut fanout = here.open_fanout(GatewayId::random()).await.unwrap();
    for round in 0..10 {
        let name = format!("room{round}");
        let publisher = tokio::spawn({
            let (there, name) = (Arc::clone(&there), name.clone());
            async move {
                for n in 0..100 {
                    accept(&there, draft(&name, n)).await;
                }
            }
        });
        fanout.subscriber.subscribe(room(&name)).await.unwrap();
        let after = accept(&here, draft(&name, "after")).await;
        publisher.await.unwrap();
        let last = accept(&there, draft(&name, "last")).await;

        let first = message(&mut fanout.events).await;
        assert!(
            first.id <= after,
            "what was accepted after the confirmation is missing"
        );
        let mut newest = first.id;
        while newest < last {
            let next = message(&mut fanout.events).await;
            assert_eq!(next.prev, Some(newest));
            newest = next.id;
        }
        assert_eq!(newest, last);
        fanout.subscriber.unsubscribe(&room(&name));
    }
}

async fn only_subscribed_rooms_are_delivered(kind: Kind) {
    let backend = Backend::start(kind).await;
    let broker = backend.broker().await;
    let mut fanout = broker.open_fanout(GatewayId::random()).await.unwrap();
    fanout.subscriber.unsubscribe(&room("never"));
    for name in ["a", "b", "a", "end"] {
        fanout.subscriber.subscribe(room(name)).await.unwrap();
    }
    fanout.subscriber.unsubscribe(&room("b"));
    fanout.subscriber.unsubscribe(&room("b"));
    // Its confirmation comes after whatever the calls before it asked for.
    fanout.subscriber.subscribe(room("c")).await.unwrap();
    fanout.subscriber.subscribe(room("d")).await.unwrap();
    for name in ["b", "a", "never", "c"] {
        accept(&broker, draft(name, name)).await;
    }
    assert_eq!(message(&mut fanout.events).await.room, room("a"));
    assert_eq!(message(&mut fanout.events).await.room, room("c"));

    let mut feed = broker.open_feed("one").await.unwrap();
    let stored = entries(&mut feed, 4).await;
    feed.settler().settle(settled(&stored)).await.unwrap();
    fanout.subscriber.subscribe(room("b")).await.unwrap();
    let id = accept(&broker, draft("b", 2)).await;
    assert_eq!(message(&mut fanout.events).await.id, id);
}

async fn a_burst_of_subscriptions_is_confirmed(kind: Kind) {
    let backend = Backend::start(kind).await;
    let broker = backend.broker().await;
    let mut fanout = broker.open_fanout(GatewayId::random()).await.unwrap();
    let names: Vec<_> = (0..1200).map(|n| format!("room{n}")).collect();
    let confirmed = join_all(
        names
            .iter()
            .map(|name| fanout.subscriber.subscribe(room(name))),
    );
    assert!(confirmed.await.iter().all(Result::is_ok));
    let published = join_all(names.iter().map(|name| broker.publish(draft(name, 1)))).await;
    let mut expected: HashSet<_> = published
        .into_iter()
        .map(|answer| answer.unwrap().id)
        .collect();
    while !expected.is_empty() {
        assert!(expected.remove(&message(&mut fanout.events).await.id));
    }
}

async fn every_gateway_hears_a_room(kind: Kind) {
    let backend = Backend::start(kind).await;
    let (one, two) = (backend.broker().await, backend.broker().await);
    let mut fanouts = [
        one.open_fanout(GatewayId::random()).await.unwrap(),
        two.open_fanout(GatewayId::random()).await.unwrap(),
    ];
    for fanout in &fanouts {
        fanout.subscriber.subscribe(room("a")).await.unwrap();
    }
    for n in 0..50 {
        let id = accept(if n % 2 == 0 { &one } else { &two }, draft("a", n)).await;
        for fanout in &mut fanouts {
            assert_eq!(message(&mut fanout.events).await.id, id);
        }
    }
}

async fn the_gateway_that_waits_hears_what_is_stored(kind: Kind) {
    let backend = Backend::start(kind).await;
    let broker = backend.broker().await;
    let gateways = [GatewayId::random(), GatewayId::random()];
    let mut fanouts = Vec::new();
    for gateway in gateways {
        fanouts.push(broker.open_fanout(gateway).await.unwrap());
    }
    let mut waiting = Vec::new();
    for n in 0..6 {
        let mut draft = draft("a", n);
        draft.notify = (n < 4).then(|| gateways[n % 2]);
        waiting.push(accept(&broker, draft).await);
    }
    let mut feed = broker.open_feed("one").await.unwrap();
    let entries = entries(&mut feed, 6).await;
    // The fourth went to the dead letters.
    let settled = |entry: &shared::broker::Entry| Settled {
        id: entry.id,
        notify: entry.notify.filter(|_| entry.id != waiting[3]),
    };
    feed.settler()
        .settle(entries.iter().map(settled).collect())
        .await
        .unwrap();

    for (fanout, expected) in fanouts
        .iter_mut()
        .zip([vec![waiting[0], waiting[2]], vec![waiting[1]]])
    {
        match event(&mut fanout.events).await {
            Event::Stored(mut ids) => {
                ids.sort();
                assert_eq!(ids, expected);
            }
            other => panic!("{other:?} instead of a notice"),
        }
    }
}

async fn a_link_that_is_let_go_of_does_no_harm(kind: Kind) {
    let backend = Backend::start(kind).await;
    let broker = backend.broker().await;
    let gone = broker.open_fanout(GatewayId::random()).await.unwrap();
    gone.subscriber.subscribe(room("a")).await.unwrap();
    drop(gone.events);
    let mut stays = broker.open_fanout(GatewayId::random()).await.unwrap();
    stays.subscriber.subscribe(room("a")).await.unwrap();
    let id = accept(&broker, draft("a", 1)).await;
    assert_eq!(message(&mut stays.events).await.id, id);
    gone.subscriber.unsubscribe(&room("a"));
}

#[tokio::test]
async fn what_memory_has_not_stored_comes_with_the_subscription() {
    let backend = Backend::start(Kind::Memory).await;
    let broker = backend.broker().await;
    assert!(broker.guarantees().shows_stored_only());
    let mut accepted = Vec::new();
    for n in 0..5 {
        accepted.push(accept(&broker, draft("a", n)).await);
    }
    let mut feed = broker.open_feed("one").await.unwrap();
    let stored = entries(&mut feed, 2).await;
    feed.settler().settle(settled(&stored)).await.unwrap();
    let mut fanout = broker.open_fanout(GatewayId::random()).await.unwrap();
    fanout.subscriber.subscribe(room("a")).await.unwrap();
    fanout.subscriber.subscribe(room("a")).await.unwrap();
    accepted.push(accept(&broker, draft("a", 5)).await);
    for id in &accepted[2..] {
        assert_eq!(message(&mut fanout.events).await.id, *id);
    }
}

#[tokio::test]
async fn a_long_content_type_counts_as_much_as_a_long_body() {
    let backend = Backend::start(Kind::Memory).await;
    let broker = backend.broker().await;
    let mut fanout = broker.open_fanout(GatewayId::random()).await.unwrap();
    fanout.subscriber.subscribe(room("a")).await.unwrap();
    let mut long = draft("a", "");
    long.content_type = Some("x".repeat(2000).into());
    accept(&broker, long).await;
    let heard = message(&mut fanout.events).await;

    let (link, mut events) = handover(2000, Metrics::new().broker);
    link.offer(Event::Message(heard));
    assert!(matches!(event(&mut events).await, Event::Gap));
}

#[tokio::test]
async fn what_does_not_fit_is_dropped_counted_and_reported_as_a_gap() {
    let backend = Backend::start(Kind::Memory).await;
    let broker = backend.broker().await;
    let mut fanout = broker.open_fanout(GatewayId::random()).await.unwrap();
    fanout.subscriber.subscribe(room("a")).await.unwrap();
    accept(&broker, draft("a", "x".repeat(600))).await;
    let heard = message(&mut fanout.events).await;

    let metrics = Metrics::new();
    let (link, mut events) = handover(2000, Arc::clone(&metrics.broker));
    for _ in 0..5 {
        link.offer(Event::Message(Arc::clone(&heard)));
    }
    assert_eq!(metrics.broker.handover_dropped.get(), 3);
    assert!(matches!(event(&mut events).await, Event::Gap));
    for _ in 0..2 {
        assert_eq!(message(&mut events).await.id, heard.id);
    }
    // What was taken out makes room again.
    link.offer(Event::Message(Arc::clone(&heard)));
    assert_eq!(message(&mut events).await.id, heard.id);
    drop(link);
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn nothing_that_was_offered_after_a_gap_comes_before_it() {
    let (link, mut events) = handover(1 << 20, Metrics::new().broker);
    let taken = Arc::new(AtomicUsize::new(0));
    let rounds = 20_000;
    let offering = {
        let taken = Arc::clone(&taken);
        move || {
            for round in 0..rounds {
                while taken.load(Ordering::Acquire) < round {
                    std::hint::spin_loop();
                }
                // At every moment of the other side's wait.
                for _ in 0..round % 512 {
                    std::hint::spin_loop();
                }
                link.offer(Event::Gap);
                link.offer(Event::Stored(Vec::new()));
            }
        }
    };
    let offering = std::thread::spawn(offering);
    for round in 0..rounds {
        assert!(
            matches!(events.next().await, Some(Event::Gap)),
            "in round {round}"
        );
        assert!(matches!(events.next().await, Some(Event::Stored(_))));
        taken.store(round + 1, Ordering::Release);
    }
    offering.join().unwrap();
}
