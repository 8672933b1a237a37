//! What a broker that forgets is told of the time before it began.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shared::broker::{Accepted, Earlier, IDEMPOTENCY_WINDOW, open};
use shared::config::BrokerUrl;
use shared::message::{MessageId, Stamp, UsedKey};
use shared::metrics::Metrics;

use super::{accept, draft, keyed, settings};

/// An id that was given so long ago.
fn aged(age: Duration) -> MessageId {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() - age;
    MessageId::new(
        Stamp {
            ms: time.as_millis() as u64,
            seq: 0,
        },
        0,
    )
}

fn used(id: MessageId, room: &str, key: &str) -> UsedKey {
    let draft = keyed(room, key);
    UsedKey {
        id,
        room: draft.room,
        sender: draft.sender,
        key: draft.idempotency_key.unwrap(),
    }
}

#[tokio::test]
async fn a_key_that_was_used_before_a_restart_is_still_the_same_message() {
    let (first, too_old) = (aged(Duration::from_secs(60)), aged(IDEMPOTENCY_WINDOW * 2));
    let earlier = Earlier {
        newest: Some(first),
        keys: vec![used(too_old, "r", "old"), used(first, "r", "key")],
    };
    let memory = settings(BrokerUrl::Memory);
    let broker = open(&memory, &Metrics::new(), earlier).await.unwrap();
    let again = broker.publish(keyed("r", "key")).await.unwrap();
    assert_eq!(
        again,
        Accepted {
            id: first,
            repeated: true,
            prev: None
        }
    );
    assert!(!broker.publish(keyed("r", "old")).await.unwrap().repeated);
    assert!(
        !broker
            .publish(keyed("other", "key"))
            .await
            .unwrap()
            .repeated
    );
}

#[tokio::test]
async fn ids_go_on_growing_after_a_restart_although_the_clock_was_set_back() {
    let ahead = MessageId::new(
        Stamp {
            ms: aged(Duration::ZERO).stamp().ms + 3_600_000,
            seq: 7,
        },
        0,
    );
    let earlier = Earlier {
        newest: Some(ahead),
        keys: Vec::new(),
    };
    let memory = settings(BrokerUrl::Memory);
    let broker = open(&memory, &Metrics::new(), earlier).await.unwrap();
    for name in ["a", "b", "c", "d"] {
        assert!(accept(&broker, draft(name, "x")).await.stamp() > ahead.stamp());
    }
}
