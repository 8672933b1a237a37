//! The feed: consumers share the work, and nothing that is not settled is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::until::DEADLINE;
use tokio::time::timeout;

use super::{Backend, Kind, accept, draft, entries, ids, settled};

super::on_every_backend!(
    a_feed_begins_with_what_was_accepted_before_it,
    consumers_share_the_work,
    what_a_dropped_consumer_left_goes_to_another,
    what_a_silent_consumer_holds_goes_to_another,
    what_is_settled_is_gone,
    a_full_batch_does_not_linger,
    a_feed_with_nothing_says_so,
    a_cancelled_read_loses_nothing,
);

async fn a_feed_begins_with_what_was_accepted_before_it(kind: Kind) {
    let backend = Backend::start_with(kind, |settings| settings.shards = 1).await;
    let broker = backend.broker().await;
    let mut accepted = Vec::new();
    for n in 0..50 {
        accepted.push(accept(&broker, draft(&format!("room{}", n % 5), n)).await);
    }
    let mut feed = broker.open_feed("late").await.unwrap();
    assert_eq!(ids(&entries(&mut feed, 50).await), accepted);
}

async fn consumers_share_the_work(kind: Kind) {
    let backend = Backend::start(kind).await;
    let broker = backend.broker().await;
    let mut accepted = BTreeSet::new();
    for n in 0..400 {
        accepted.insert(accept(&broker, draft(&format!("room{}", n % 20), n)).await);
    }
    let mut one = broker.open_feed("one").await.unwrap();
    let mut two = backend.broker().await.open_feed("two").await.unwrap();
    let (first, second) = tokio::join!(entries(&mut one, 200), entries(&mut two, 200));
    let all: BTreeSet<_> = ids(&first).into_iter().chain(ids(&second)).collect();
    assert_eq!(all, accepted);
}

async fn what_a_dropped_consumer_left_goes_to_another(kind: Kind) {
    let short = Duration::from_millis(300);
    let backend = Backend::start_with(kind, |settings| settings.takeover_after = short).await;
    let broker = backend.broker().await;
    let mut accepted = BTreeSet::new();
    for n in 0..30 {
        accepted.insert(accept(&broker, draft(&format!("room{n}"), n)).await);
    }
    let mut one = broker.open_feed("one").await.unwrap();
    let taken = entries(&mut one, 30).await;
    one.settler().settle(settled(&taken[..10])).await.unwrap();
    for id in ids(&taken[..10]) {
        accepted.remove(&id);
    }
    drop(one);
    let mut two = broker.open_feed("two").await.unwrap();
    let left: BTreeSet<_> = ids(&entries(&mut two, 20).await).into_iter().collect();
    assert_eq!(left, accepted);
}

async fn what_a_silent_consumer_holds_goes_to_another(kind: Kind) {
    let short = Duration::from_millis(300);
    let backend = Backend::start_with(kind, |settings| settings.takeover_after = short).await;
    let broker = backend.broker().await;
    for n in 0..5 {
        accept(&broker, draft("a", n)).await;
    }
    let mut silent = broker.open_feed("silent").await.unwrap();
    let held = entries(&mut silent, 5).await;
    let mut other = broker.open_feed("other").await.unwrap();
    let taken = entries(&mut other, 5).await;
    assert_eq!(ids(&taken), ids(&held));
    // Both may settle: the second time changes nothing.
    other.settler().settle(settled(&taken)).await.unwrap();
    silent.settler().settle(settled(&held)).await.unwrap();
    assert_eq!(broker.backlog().await.unwrap(), 0);
}

async fn what_is_settled_is_gone(kind: Kind) {
    let short = Duration::from_millis(100);
    let backend = Backend::start_with(kind, |settings| settings.takeover_after = short).await;
    let broker = backend.broker().await;
    let mut feed = broker.open_feed("one").await.unwrap();
    for n in 0..100 {
        accept(&broker, draft(&format!("room{n}"), n)).await;
    }
    assert_eq!(broker.backlog().await.unwrap(), 100);
    let read = entries(&mut feed, 100).await;
    assert_eq!(broker.backlog().await.unwrap(), 100);
    feed.settler().settle(settled(&read)).await.unwrap();
    feed.settler().settle(Vec::new()).await.unwrap();
    assert_eq!(broker.backlog().await.unwrap(), 0);
    // Longer than the takeover time, as nothing is there to be handed out.
    assert!(feed.next(100, Duration::ZERO).await.unwrap().is_empty());
    assert!(feed.next(100, Duration::ZERO).await.unwrap().is_empty());
}

async fn a_full_batch_does_not_linger(kind: Kind) {
    let backend = Backend::start(kind).await;
    let broker = backend.broker().await;
    let mut feed = broker.open_feed("one").await.unwrap();
    let mut accepted = Vec::new();
    for n in 0..25 {
        accepted.push(accept(&broker, draft("a", n)).await);
    }
    // All in one shard, and far less than the linger.
    let batch = timeout(DEADLINE, feed.next(20, DEADLINE * 10))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ids(&batch), accepted[..20]);
    let rest = feed.next(20, Duration::from_millis(50)).await.unwrap();
    assert_eq!(ids(&rest), accepted[20..]);
}

async fn a_feed_with_nothing_says_so(kind: Kind) {
    let backend = Backend::start(kind).await;
    let broker = backend.broker().await;
    let mut feed = broker.open_feed("one").await.unwrap();
    let answer = timeout(DEADLINE, feed.next(10, DEADLINE * 10))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.is_empty());
    let id = accept(&broker, draft("a", 1)).await;
    assert_eq!(ids(&entries(&mut feed, 1).await), [id]);
}

async fn a_cancelled_read_loses_nothing(kind: Kind) {
    let backend = Backend::start(kind).await;
    let broker = backend.broker().await;
    let mut feed = broker.open_feed("one").await.unwrap();
    let mut accepted = BTreeSet::new();
    let mut read = BTreeSet::new();
    for n in 0..40 {
        accepted.insert(accept(&broker, draft("a", n)).await);
        let brief = Duration::from_millis(n % 4);
        if let Ok(batch) = timeout(brief, feed.next(10, Duration::from_millis(2))).await {
            read.extend(ids(&batch.unwrap()));
        }
    }
    while read.len() < accepted.len() {
        read.extend(ids(&entries(&mut feed, 1).await));
    }
    assert_eq!(read, accepted);
}
