//! Reading what the broker still holds.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::until;
use shared::broker::{Broker, Recent};
use shared::message::{MessageId, Span};

use super::{Backend, Kind, accept, draft, entries, room, settled};

super::on_every_backend!(
    a_window_that_proves_itself_is_complete,
    what_the_window_no_longer_has_comes_from_the_journal,
    an_expired_window_leaves_the_journal,
    an_unknown_room_is_empty_and_proves_nothing,
    an_accepted_message_is_in_the_broker_or_in_the_store,
);

async fn read(broker: &Arc<dyn Broker>, name: &str, span: Span, limit: usize) -> Recent {
    broker.recent(&room(name), span, limit).await.unwrap()
}

fn ids(recent: &Recent) -> Vec<MessageId> {
    recent.messages.iter().map(|message| message.id).collect()
}

async fn accept_many(broker: &Arc<dyn Broker>, name: &str, count: usize) -> Vec<MessageId> {
    let calls: Vec<_> = (0..count).map(|n| broker.publish(draft(name, n))).collect();
    let mut accepted = Vec::new();
    for call in calls {
        accepted.push(call.await.unwrap().id);
    }
    accepted
}

async fn a_window_that_proves_itself_is_complete(kind: Kind) {
    let backend = Backend::start(kind).await;
    let broker = backend.broker().await;
    let all = accept_many(&broker, "a", 20).await;
    accept_many(&broker, "b", 20).await;
    let expect = [
        (Span::Newest, 5, &all[15..], true),
        (Span::Newest, 20, &all[..], true),
        // The room may have had more before.
        (Span::Newest, 21, &all[..], false),
        (Span::Before(all[10]), 4, &all[6..10], true),
        (Span::Before(all[10]), 11, &all[..10], false),
        (Span::Before(all[0]), 1, &[], false),
        (Span::After(all[12]), 50, &all[13..], true),
        (Span::After(all[12]), 3, &all[13..16], true),
        (Span::After(all[19]), 50, &[], true),
        (Span::After(MessageId::MIN), 50, &all[..], false),
        (Span::After(MessageId::MIN), 7, &all[..7], false),
        (Span::Newest, 0, &[], true),
    ];
    for (span, limit, messages, complete) in expect {
        let recent = read(&broker, "a", span, limit).await;
        assert_eq!(ids(&recent), messages, "{span:?} {limit}");
        assert_eq!(recent.complete, complete, "{span:?} {limit}");
    }
    // What is stored stays in the window.
    let mut feed = broker.open_feed("one").await.unwrap();
    let stored = settled(&entries(&mut feed, 40).await);
    feed.settler().settle(stored).await.unwrap();
    let recent = read(&broker, "a", Span::After(all[3]), 50).await;
    assert_eq!((ids(&recent), recent.complete), (all[4..].to_vec(), true));
}

async fn what_the_window_no_longer_has_comes_from_the_journal(kind: Kind) {
    let backend = Backend::start_with(kind, |settings| {
        settings.recent_max = 10;
        settings.shards = 1;
    })
    .await;
    let broker = backend.broker().await;
    let mut all = Vec::new();
    // Between other rooms' messages, and more than one chunk of a scan.
    for _ in 0..12 {
        all.extend(accept_many(&broker, "a", 100).await);
        accept_many(&broker, "b", 100).await;
    }
    let expect = [
        (Span::After(all[0]), 2000, &all[1..]),
        (Span::After(all[0]), 30, &all[1..31]),
        (Span::After(all[1050]), 2000, &all[1051..]),
        (Span::Newest, 700, &all[500..]),
        (Span::Before(all[900]), 850, &all[50..900]),
        (Span::Before(all[3]), 50, &all[..3]),
    ];
    for (span, limit, messages) in expect {
        let recent = read(&broker, "a", span, limit).await;
        assert_eq!(ids(&recent), messages, "{span:?} {limit}");
        assert!(!recent.complete, "{span:?} {limit}");
    }
    let mut feed = broker.open_feed("one").await.unwrap();
    let first = entries(&mut feed, 200).await;
    feed.settler().settle(settled(&first)).await.unwrap();
    let recent = read(&broker, "a", Span::After(MessageId::MIN), 2000).await;
    assert_eq!(
        ids(&recent),
        all[100..],
        "the store has the first hundred now"
    );
}

async fn an_expired_window_leaves_the_journal(kind: Kind) {
    let brief = Duration::from_millis(50);
    let backend = Backend::start_with(kind, |settings| settings.recent_ttl = brief).await;
    let broker = backend.broker().await;
    let all = accept_many(&broker, "a", 3).await;
    until("the window expires", async || {
        !read(&broker, "a", Span::After(all[2]), 1).await.complete
    })
    .await;
    let recent = read(&broker, "a", Span::Newest, 2).await;
    assert_eq!((ids(&recent), recent.complete), (all[1..].to_vec(), false));
    let next = accept(&broker, draft("a", 4)).await;
    let recent = read(&broker, "a", Span::After(all[2]), 10).await;
    assert_eq!(ids(&recent), [next]);
    assert_eq!(recent.messages[0].prev, None, "nobody knows any more");
}

async fn an_unknown_room_is_empty_and_proves_nothing(kind: Kind) {
    let backend = Backend::start(kind).await;
    let broker = backend.broker().await;
    for span in [Span::Newest, Span::After(MessageId::MIN)] {
        let recent = read(&broker, "nowhere", span, 10).await;
        assert!(recent.messages.is_empty() && !recent.complete);
        assert!(recent.horizon.is_some());
    }
}

async fn an_accepted_message_is_in_the_broker_or_in_the_store(kind: Kind) {
    let backend = Backend::start_with(kind, |settings| {
        settings.recent_max = 1;
        settings.shards = 1;
    })
    .await;
    let broker = backend.broker().await;
    let accepted = Arc::new(Mutex::new(BTreeSet::new()));
    let store = Arc::new(Mutex::new(BTreeSet::new()));
    let publisher = tokio::spawn({
        let (broker, accepted) = (Arc::clone(&broker), Arc::clone(&accepted));
        async move {
            for n in 0..1500 {
                let id = accept(&broker, draft("a", n)).await;
                accepted.lock().unwrap().insert(id);
            }
        }
    });
    let persister = tokio::spawn({
        let (broker, store) = (Arc::clone(&broker), Arc::clone(&store));
        async move {
            let mut feed = broker.open_feed("one").await.unwrap();
            let mut left = 1500;
            while left > 0 {
                let batch = feed
                    .next(left.min(64), Duration::from_millis(1))
                    .await
                    .unwrap();
                left -= batch.len();
                store
                    .lock()
                    .unwrap()
                    .extend(batch.iter().map(|entry| entry.id));
                feed.settler().settle(settled(&batch)).await.unwrap();
            }
        }
    });
    let mut readings = Vec::new();
    while !persister.is_finished() {
        let before = accepted.lock().unwrap().clone();
        let recent = read(&broker, "a", Span::After(MessageId::MIN), usize::MAX >> 1).await;
        let mut seen = store.lock().unwrap().clone();
        seen.extend(ids(&recent));
        let missing: Vec<_> = before.difference(&seen).collect();
        assert!(missing.is_empty(), "{missing:?}");
        if recent.complete {
            assert!(before.is_subset(&ids(&recent).into_iter().collect()));
        } else {
            let horizon = recent.horizon.unwrap();
            assert!(before.iter().all(|id| *id < horizon), "{horizon}");
            readings.push((horizon, seen));
        }
        tokio::task::yield_now().await;
    }
    publisher.await.unwrap();
    persister.await.unwrap();
    // Up to its horizon no reading has a hole, whatever was accepted while it went on.
    let accepted = accepted.lock().unwrap();
    for (horizon, seen) in readings {
        let missing: Vec<_> = accepted
            .range(..horizon)
            .filter(|id| !seen.contains(id))
            .collect();
        assert!(missing.is_empty(), "{missing:?} before {horizon}");
    }
}
