//! BEGIN, COMMIT and ABORT.

use crate::running::{Running, backend};
use crate::wire::Wire;

const VERSIONS: [&str; 3] = ["1.0", "1.1", "1.2"];

/// A connection that listens to a room and has begun transaction `t`.
async fn begun(gateway: &Running, version: &str, room: &str) -> Wire {
    let mut wire = Wire::connected(gateway, version).await;
    wire.send(&format!(
        "SUBSCRIBE\nid:s\ndestination:/topic/rooms/{room}\nack:client\nreceipt:s\n\n\0"
    ))
    .await;
    wire.expect("RECEIPT\nreceipt-id:s\n\n\0").await;
    wire.send("BEGIN\ntransaction:t\nreceipt:b\n\n\0").await;
    wire.expect("RECEIPT\nreceipt-id:b\n\n\0").await;
    wire
}

async fn send(wire: &mut Wire, room: &str, body: &str, headers: &str) {
    wire.send(&format!(
        "SEND\ndestination:/app/rooms/{room}\n{headers}\n{body}\0"
    ))
    .await;
}

/// Everything up to this RECEIPT: the bodies of MESSAGEs, and the other receipts.
async fn until_receipt(wire: &mut Wire, receipt: &str) -> (Vec<String>, Vec<String>) {
    let (mut bodies, mut receipts) = (Vec::new(), Vec::new());
    loop {
        let text = wire.next().await;
        let (head, body) = text.split_once("\n\n").unwrap();
        if head.starts_with("MESSAGE\n") {
            bodies.push(body.trim_end_matches('\0').to_owned());
            continue;
        }
        let id = head.strip_prefix("RECEIPT\nreceipt-id:").unwrap();
        let id = id.lines().next().unwrap();
        if id == receipt {
            return (bodies, receipts);
        }
        receipts.push(id.to_owned());
    }
}

#[tokio::test]
async fn a_send_in_a_transaction_is_published_at_commit_whose_receipt_covers_it() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&[]).await;
    for version in VERSIONS {
        let room = format!("r{version}");
        let mut wire = begun(&gateway, version, &room).await;
        send(&mut wire, &room, "1", "transaction:t\nreceipt:one\n").await;
        send(&mut wire, &room, "0", "receipt:zero\n").await;
        send(&mut wire, &room, "2", "transaction:t\nreceipt:two\n").await;
        let (before, receipts) = until_receipt(&mut wire, "zero").await;
        assert!(receipts.is_empty(), "{receipts:?}");
        wire.send("COMMIT\ntransaction:t\nreceipt:c\n\n\0").await;
        let (after, receipts) = until_receipt(&mut wire, "c").await;
        assert_eq!(receipts, ["one", "two"]);
        wire.send("BEGIN\ntransaction:u\n\n\0").await;
        send(&mut wire, &room, "3", "receipt:three\n").await;
        let (last, _) = until_receipt(&mut wire, "three").await;
        let mut bodies = [before, after, last].concat();
        if bodies.len() < 4 {
            let text = wire.next().await;
            assert!(text.ends_with("\n\n3\0"), "{text:?}");
            bodies.push("3".to_owned());
        }
        assert_eq!(bodies, ["0", "1", "2", "3"], "{version}");
    }
    storing.abort();
}

#[tokio::test]
async fn abort_drops_what_is_in_the_transaction() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&[]).await;
    for version in VERSIONS {
        let room = format!("r{version}");
        let mut wire = begun(&gateway, version, &room).await;
        send(&mut wire, &room, "dropped", "transaction:t\nreceipt:one\n").await;
        wire.send("ABORT\ntransaction:t\nreceipt:a\n\n\0").await;
        wire.expect("RECEIPT\nreceipt-id:a\n\n\0").await;
        send(&mut wire, &room, "kept", "").await;
        let message = wire.next().await;
        assert!(message.starts_with("MESSAGE\n"), "{message:?}");
        assert!(message.ends_with("\n\nkept\0"), "{message:?}");
    }
    storing.abort();
}

#[tokio::test]
async fn disconnect_drops_what_is_in_the_transaction() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&[]).await;
    for version in VERSIONS {
        let room = format!("r{version}");
        let mut wire = begun(&gateway, version, &room).await;
        send(&mut wire, &room, "dropped", "transaction:t\nreceipt:one\n").await;
        wire.send("DISCONNECT\nreceipt:d\n\n\0").await;
        wire.expect("RECEIPT\nreceipt-id:d\n\n\0").await;
        wire.expect_close(1000).await;
        let mut wire = begun(&gateway, version, &room).await;
        send(&mut wire, &room, "kept", "receipt:k\n").await;
        until_receipt(&mut wire, "k").await;
        wire.send(&format!(
            "SUBSCRIBE\nid:h\ndestination:/topic/rooms/{room}\nhistory:9\nreceipt:h\n\n\0"
        ))
        .await;
        let (bodies, _) = until_receipt(&mut wire, "h").await;
        assert!(!bodies.is_empty());
        assert!(bodies.iter().all(|body| body == "kept"), "{bodies:?}");
    }
    storing.abort();
}

#[tokio::test]
async fn an_acknowledgement_in_a_transaction_counts_at_commit() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&["--max-unacknowledged", "1"]).await;
    for version in VERSIONS {
        let room = format!("r{version}");
        let mut wire = begun(&gateway, version, &room).await;
        send(&mut wire, &room, "1", "").await;
        let first = wire.next().await;
        let header = |name: &str| {
            let mut lines = first.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        };
        let id = header("message-id").unwrap();
        let named = match version {
            "1.0" => format!("message-id:{id}"),
            "1.1" => format!("subscription:s\nmessage-id:{id}"),
            _ => format!("id:{}", header("ack").unwrap()),
        };
        // On this broker the RECEIPT says that the message is stored, and what is stored is shown.
        send(&mut wire, &room, "2", "receipt:two\n").await;
        let (bodies, _) = until_receipt(&mut wire, "two").await;
        assert!(bodies.is_empty(), "{bodies:?}");
        wire.send(&format!("ACK\n{named}\ntransaction:t\nreceipt:a\n\n\0"))
            .await;
        wire.send("BEGIN\ntransaction:u\nreceipt:u\n\n\0").await;
        wire.expect("RECEIPT\nreceipt-id:u\n\n\0").await;
        wire.send("COMMIT\ntransaction:t\nreceipt:c\n\n\0").await;
        let (mut bodies, receipts) = until_receipt(&mut wire, "c").await;
        assert_eq!(receipts, ["a"], "{version}");
        if bodies.is_empty() {
            let text = wire.next().await;
            assert!(text.ends_with("\n\n2\0"), "{text:?}");
            bodies.push("2".to_owned());
        }
        assert_eq!(bodies, ["2"], "{version}");
    }
    storing.abort();
}

#[tokio::test]
async fn unknown_and_duplicate_transactions_are_errors() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let unknown = (
        "unknown-transaction",
        "There is no transaction with this name.",
    );
    for version in VERSIONS {
        for (frame, (code, message)) in [
            ("COMMIT\ntransaction:u\n", unknown),
            ("ABORT\ntransaction:u\n", unknown),
            ("SEND\ndestination:/app/rooms/r\ntransaction:u\n", unknown),
            (
                "BEGIN\ntransaction:t\n",
                (
                    "duplicate-transaction",
                    "There is already a transaction with this name.",
                ),
            ),
        ] {
            let mut wire = begun(&gateway, version, "r").await;
            wire.send(&format!("{frame}receipt:q\n\n\0")).await;
            wire.expect(&format!(
                "ERROR\nmessage:{message}\ncode:{code}\ncontent-type:text/plain\nreceipt-id:q\n\
                 content-length:*\n\n*\0"
            ))
            .await;
            wire.expect_close(1002).await;
        }
    }
}

#[tokio::test]
async fn transactions_and_what_is_in_them_are_bounded() {
    let flags = ["--max-transactions", "1", "--max-transaction-frames", "1"];
    let gateway = backend(&[]).await.gateway(&flags).await;
    for (version, count) in VERSIONS.into_iter().zip(1..) {
        let mut wire = begun(&gateway, version, "r").await;
        wire.send("BEGIN\ntransaction:u\nreceipt:q\n\n\0").await;
        wire.expect(
            "ERROR\nmessage:The connection has as many transactions as it may have.\n\
             code:too-many-transactions\ncontent-type:text/plain\nreceipt-id:q\n\
             content-length:*\n\nBEGIN: at most 1 per connection\0",
        )
        .await;
        wire.expect_close(1008).await;

        let mut wire = begun(&gateway, version, "r").await;
        for _ in 0..2 {
            send(&mut wire, "r", "x", "transaction:t\nreceipt:q\n").await;
        }
        wire.expect(
            "ERROR\nmessage:The transaction is larger than this server allows.\n\
             code:transaction-too-large\ncontent-type:text/plain\nreceipt-id:q\n\
             content-length:*\n\nSEND: at most 1 frames per transaction\0",
        )
        .await;
        wire.expect_close(1009).await;

        for reason in ["too-many-transactions", "transaction-too-large"] {
            let disconnects = &gateway.metrics.gateway.disconnects;
            let counted = disconnects.with_label_values(&[reason]);
            harness::until("the reason to be counted", async || counted.get() == count).await;
        }
    }
}
