//! ACK modes, ACK and NACK.

use crate::running::{Running, backend};
use crate::wire::Wire;

const VERSIONS: [&str; 3] = ["1.0", "1.1", "1.2"];

/// A connection with subscription `s` in this mode, and behind it `all` without acknowledgements,
/// which shows what the room had by then.
async fn subscribed(gateway: &Running, version: &str, room: &str, mode: &str) -> Wire {
    let mut wire = Wire::connected(gateway, version).await;
    for (id, mode) in [("s", mode), ("all", "auto")] {
        wire.send(&format!(
            "SUBSCRIBE\nid:{id}\ndestination:/topic/rooms/{room}\nack:{mode}\nreceipt:{id}\n\n\0"
        ))
        .await;
        wire.expect(&format!("RECEIPT\nreceipt-id:{id}\n\n\0"))
            .await;
    }
    wire
}

/// The next MESSAGE must be this one in this subscription.
async fn message(wire: &mut Wire, subscription: &str, body: &str) -> String {
    let text = wire.next().await;
    assert!(
        text.starts_with(&format!("MESSAGE\nsubscription:{subscription}\n"))
            && text.ends_with(&format!("\n\n{body}\0")),
        "{body:?} in {subscription:?} was expected, not {text:?}"
    );
    text
}

async fn send(wire: &mut Wire, room: &str, body: &str) {
    wire.send(&format!("SEND\ndestination:/app/rooms/{room}\n\n{body}\0"))
        .await;
}

fn header<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .take_while(|line| !line.is_empty())
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

/// How this version names a MESSAGE.
fn named(version: &str, message: &str) -> String {
    let id = header(message, "message-id").unwrap();
    match version {
        "1.0" => format!("message-id:{id}"),
        "1.1" => format!("subscription:s\nmessage-id:{id}"),
        _ => format!("id:{}", header(message, "ack").unwrap()),
    }
}

#[tokio::test]
async fn only_a_1_2_message_to_be_acknowledged_carries_ack() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&[]).await;
    for version in VERSIONS {
        let room = format!("r{version}");
        let mut wire = subscribed(&gateway, version, &room, "client").await;
        send(&mut wire, &room, "hi").await;
        let ack = if version == "1.2" { "ack:*/s\n" } else { "" };
        wire.expect(&format!(
            "MESSAGE\nsubscription:s\nmessage-id:*\ndestination:/topic/rooms/{room}\nsender:kim\n\
             created-at:*\n{ack}content-length:2\n\nhi\0"
        ))
        .await;
        wire.expect(&format!(
            "MESSAGE\nsubscription:all\nmessage-id:*\ndestination:/topic/rooms/{room}\nsender:kim\n\
             created-at:*\ncontent-length:2\n\nhi\0"
        ))
        .await;
    }
    storing.abort();
}

#[tokio::test]
async fn what_is_unacknowledged_bounds_how_far_a_subscriber_runs_ahead() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&["--max-unacknowledged", "1"]).await;
    for version in VERSIONS {
        for command in ["ACK", "NACK"] {
            for mode in ["client", "client-individual"] {
                let room = format!("{version}.{command}.{mode}");
                let mut wire = subscribed(&gateway, version, &room, mode).await;
                for body in ["1", "2"] {
                    send(&mut wire, &room, body).await;
                }
                let first = message(&mut wire, "s", "1").await;
                message(&mut wire, "all", "1").await;
                message(&mut wire, "all", "2").await;
                let named = named(version, &first);
                wire.send(&format!("{command}\n{named}\nreceipt:a\n\n\0"))
                    .await;
                wire.expect("RECEIPT\nreceipt-id:a\n\n\0").await;
                message(&mut wire, "s", "2").await;
            }
        }
    }
    storing.abort();
}

#[tokio::test]
async fn client_covers_what_came_before_and_client_individual_does_not() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&["--max-unacknowledged", "2"]).await;
    for version in VERSIONS {
        for (mode, released) in [("client", 2), ("client-individual", 1)] {
            let room = format!("{version}.{mode}");
            let mut wire = subscribed(&gateway, version, &room, mode).await;
            for body in ["1", "2", "3", "4"] {
                send(&mut wire, &room, body).await;
            }
            message(&mut wire, "s", "1").await;
            message(&mut wire, "all", "1").await;
            let second = message(&mut wire, "s", "2").await;
            for body in ["2", "3", "4"] {
                message(&mut wire, "all", body).await;
            }
            let named = named(version, &second);
            wire.send(&format!("ACK\n{named}\n\n\0")).await;
            wire.send("DISCONNECT\nreceipt:d\n\n\0").await;
            for body in ["3", "4"].into_iter().take(released) {
                message(&mut wire, "s", body).await;
            }
            wire.expect("RECEIPT\nreceipt-id:d\n\n\0").await;
            wire.expect_close(1000).await;
        }
    }
    storing.abort();
}

#[tokio::test]
async fn an_acknowledgement_in_mode_auto_changes_nothing() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&[]).await;
    for version in VERSIONS {
        for command in ["ACK", "NACK"] {
            let room = format!("{version}.{command}");
            let mut wire = subscribed(&gateway, version, &room, "auto").await;
            send(&mut wire, &room, "1").await;
            let first = message(&mut wire, "s", "1").await;
            message(&mut wire, "all", "1").await;
            let id = header(&first, "message-id").unwrap();
            let named = match version {
                "1.0" => format!("message-id:{id}"),
                "1.1" => format!("subscription:s\nmessage-id:{id}"),
                _ => format!("id:{id}/s"),
            };
            wire.send(&format!("{command}\n{named}\nreceipt:a\n\n\0"))
                .await;
            wire.expect("RECEIPT\nreceipt-id:a\n\n\0").await;
        }
    }
    storing.abort();
}

#[tokio::test]
async fn an_acknowledgement_of_what_was_never_delivered_is_an_error() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for (version, named) in [
        ("1.0", "message-id:x"),
        ("1.1", "subscription:s\nmessage-id:x"),
        ("1.2", "id:x/s"),
    ] {
        for command in ["ACK", "NACK"] {
            let mut wire = subscribed(&gateway, version, "r", "client").await;
            wire.send(&format!("{command}\n{named}\nreceipt:q\n\n\0"))
                .await;
            wire.expect(
                "ERROR\nmessage:There is no delivered message with this id.\n\
                 code:unknown-message\ncontent-type:text/plain\nreceipt-id:q\n\
                 content-length:*\n\n*\0",
            )
            .await;
            wire.expect_close(1002).await;
        }
    }
}

#[tokio::test]
async fn after_on_the_next_subscribe_is_the_redelivery() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&[]).await;
    for version in VERSIONS {
        let room = format!("r{version}");
        let mut wire = subscribed(&gateway, version, &room, "client-individual").await;
        for body in ["1", "2"] {
            send(&mut wire, &room, body).await;
            message(&mut wire, "s", body).await;
            message(&mut wire, "all", body).await;
        }
        wire.send("UNSUBSCRIBE\nid:s\n\n\0").await;
        wire.send(&format!(
            "SUBSCRIBE\nid:s\ndestination:/topic/rooms/{room}\nack:client\nhistory:2\n\n\0"
        ))
        .await;
        let first = message(&mut wire, "s", "1").await;
        message(&mut wire, "s", "2").await;
        let after = header(&first, "message-id").unwrap();
        wire.send("UNSUBSCRIBE\nid:s\n\n\0").await;
        wire.send(&format!(
            "SUBSCRIBE\nid:s\ndestination:/topic/rooms/{room}\nack:client\nafter:{after}\n\n\0"
        ))
        .await;
        message(&mut wire, "s", "2").await;
    }
    storing.abort();
}

#[tokio::test]
async fn who_never_acknowledges_is_a_slow_consumer_and_the_others_miss_nothing() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let flags = [
        "--max-unacknowledged",
        "1",
        "--max-frame-bytes",
        "4KiB",
        "--max-outbox-bytes",
        "8KiB",
    ];
    let gateway = backend.gateway(&flags).await;
    for version in VERSIONS {
        let room = format!("r{version}");
        let mut mute = subscribed(&gateway, version, &room, "client").await;
        let mut reader = Wire::connected(&gateway, version).await;
        reader
            .send(&format!(
                "SUBSCRIBE\nid:r\ndestination:/topic/rooms/{room}\nreceipt:r\n\n\0"
            ))
            .await;
        reader.expect("RECEIPT\nreceipt-id:r\n\n\0").await;
        for number in 0..9 {
            let body = format!("{number}{}", "x".repeat(2_000));
            send(&mut reader, &room, &body).await;
            message(&mut reader, "r", &body).await;
        }
        let error = loop {
            let text = mute.next().await;
            if !text.starts_with("MESSAGE\n") {
                break text;
            }
        };
        assert!(error.contains("\ncode:slow-consumer\n"), "{error:?}");
        mute.expect_close(1013).await;
    }
    storing.abort();
}
