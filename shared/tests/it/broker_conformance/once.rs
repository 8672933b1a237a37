//! Once: what is repeated is one message.

use futures_util::future::join_all;
use shared::message::{Draft, UserName};

use super::{Backend, Kind, accept, draft, entries, ids, keyed};

super::on_every_backend!(
    a_repeated_key_is_one_message,
    concurrent_repeats_of_a_key_are_one_message,
    a_key_belongs_to_its_sender_and_room,
);

async fn a_repeated_key_is_one_message(kind: Kind) {
    let backend = Backend::start(kind).await;
    let broker = backend.broker().await;
    let first = broker.publish(keyed("a", "k")).await.unwrap();
    let between = accept(&broker, draft("a", "other")).await;
    let again = backend
        .broker()
        .await
        .publish(keyed("a", "k"))
        .await
        .unwrap();
    assert!(!first.repeated);
    assert_eq!((again.id, again.repeated), (first.id, true));
    let mut feed = broker.open_feed("one").await.unwrap();
    assert_eq!(ids(&entries(&mut feed, 2).await), [first.id, between]);
    assert_eq!(broker.backlog().await.unwrap(), 2);
}

async fn concurrent_repeats_of_a_key_are_one_message(kind: Kind) {
    let backend = Backend::start(kind).await;
    let brokers = [backend.broker().await, backend.broker().await];
    let repeats = (0..200).map(|n| {
        let publish = brokers[n % 2].publish(keyed("a", &format!("k{}", n / 20)));
        tokio::spawn(publish)
    });
    let answers: Vec<_> = join_all(repeats)
        .await
        .into_iter()
        .map(|answer| answer.unwrap().unwrap())
        .collect();
    for same_key in answers.chunks(20) {
        assert_eq!(same_key.iter().filter(|answer| !answer.repeated).count(), 1);
        assert!(same_key.iter().all(|answer| answer.id == same_key[0].id));
    }
    assert_eq!(brokers[0].backlog().await.unwrap(), 10);
}

async fn a_key_belongs_to_its_sender_and_room(kind: Kind) {
    let backend = Backend::start(kind).await;
    let broker = backend.broker().await;
    let from = |sender, draft| Draft {
        sender: UserName::parse(sender).unwrap(),
        ..draft
    };
    let drafts = [
        keyed("a", "k"),
        keyed("b", "k"),
        keyed("a", "k2"),
        from("bob", keyed("a", "k")),
        // Names that run into one another when they are only put side by side.
        from("x:y", keyed("a", "z")),
        from("x", keyed("a", "y:z")),
        from("y", keyed("a:x", "z")),
        from("x%3Ay", keyed("a", "z")),
    ];
    for draft in &drafts {
        assert!(
            !broker.publish(draft.clone()).await.unwrap().repeated,
            "{draft:?}"
        );
    }
    for draft in &drafts {
        assert!(
            broker.publish(draft.clone()).await.unwrap().repeated,
            "{draft:?}"
        );
    }
}
