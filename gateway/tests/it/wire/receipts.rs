//! Receipts, ERROR and the close.

use tokio_tungstenite::tungstenite::Message;

use crate::running::backend;
use crate::wire::{VERSIONS, Wire};

#[tokio::test]
async fn the_receipt_of_disconnect_comes_last_before_the_close() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&[]).await;
    for version in VERSIONS {
        let mut wire = Wire::connected(&gateway, version).await;
        let send = "SEND\ndestination:/app/rooms/r\nreceipt:sent\n\nhi\0";
        wire.send(&format!("{send}DISCONNECT\nreceipt:bye\n\n\0{send}"))
            .await;
        wire.expect("RECEIPT\nreceipt-id:sent\nmessage-id:*\ncreated-at:*\n\n\0")
            .await;
        wire.expect("RECEIPT\nreceipt-id:bye\n\n\0").await;
        wire.expect_close(1000).await;
    }
    storing.abort();
}

#[tokio::test]
async fn a_disconnect_does_not_cost_the_receipts_of_what_came_before_it() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for version in VERSIONS {
        let mut wire = Wire::connected(&gateway, version).await;
        wire.send(
            "SUBSCRIBE\nid:0\ndestination:/topic/rooms/r\nhistory:9\nreceipt:past\n\n\0\
             DISCONNECT\nreceipt:bye\n\n\0",
        )
        .await;
        // The past is whole or not: it was being read.
        wire.expect("RECEIPT\nreceipt-id:past\nrecovered:*\n\n\0")
            .await;
        wire.expect("RECEIPT\nreceipt-id:bye\n\n\0").await;
        wire.expect_close(1000).await;
    }
}

#[tokio::test]
async fn a_disconnect_without_receipt_is_a_close() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for version in VERSIONS {
        let mut wire = Wire::connected(&gateway, version).await;
        wire.send("DISCONNECT\n\n\0").await;
        wire.expect_close(1000).await;
    }
    let gone = &gateway.metrics.gateway.disconnects;
    let gone = gone.with_label_values(&["client-disconnected"]);
    harness::until("the metric", async || gone.get() == 3).await;
}

#[tokio::test]
async fn every_frame_but_connect_gets_the_receipt_it_asks_for() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&[]).await;
    for version in VERSIONS {
        let mut wire = Wire::connected(&gateway, version).await;
        for (frame, golden) in [
            (
                "SUBSCRIBE\nid:0\ndestination:/topic/rooms/a\nreceipt:sub\n\n\0",
                "RECEIPT\nreceipt-id:sub\n\n\0",
            ),
            (
                "SEND\ndestination:/app/rooms/b\nreceipt:send\n\nhi\0",
                "RECEIPT\nreceipt-id:send\nmessage-id:*\ncreated-at:*\n\n\0",
            ),
            (
                "BEGIN\ntransaction:t\nreceipt:begin\n\n\0",
                "RECEIPT\nreceipt-id:begin\n\n\0",
            ),
            (
                "ABORT\ntransaction:t\nreceipt:abort\n\n\0",
                "RECEIPT\nreceipt-id:abort\n\n\0",
            ),
            (
                "BEGIN\ntransaction:t\n\n\0COMMIT\ntransaction:t\nreceipt:commit\n\n\0",
                "RECEIPT\nreceipt-id:commit\n\n\0",
            ),
            (
                "UNSUBSCRIBE\nid:0\nreceipt:unsub\n\n\0",
                "RECEIPT\nreceipt-id:unsub\n\n\0",
            ),
            (
                "DISCONNECT\nreceipt:bye\n\n\0",
                "RECEIPT\nreceipt-id:bye\n\n\0",
            ),
        ] {
            wire.send(frame).await;
            wire.expect(golden).await;
        }
        wire.expect_close(1000).await;
    }
    storing.abort();
}

#[tokio::test]
async fn an_error_names_its_reason_and_the_frame_that_it_is_about() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for version in VERSIONS {
        let mut wire = Wire::connected(&gateway, version).await;
        wire.send("UNSUBSCRIBE\nid:7\nreceipt:77\n\n\0").await;
        wire.expect(
            "ERROR\n\
             message:There is no subscription with this id.\n\
             code:unknown-subscription\n\
             content-type:text/plain\n\
             receipt-id:77\n\
             content-length:40\n\n\
             UNSUBSCRIBE: no subscription has this id\0",
        )
        .await;
        wire.expect_close(1002).await;
    }
}

#[tokio::test]
async fn an_error_names_also_a_frame_that_could_not_be_read_to_its_end() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for version in VERSIONS {
        for (rest, code, close) in [
            ("no colon\n\n\0", "malformed-frame", 1002),
            ("content-length:one\n\n\0", "malformed-frame", 1002),
            ("content-length:1\n\nhi\0", "malformed-frame", 1002),
            ("content-length:99999999\n\n", "frame-too-large", 1009),
        ] {
            let mut wire = Wire::connected(&gateway, version).await;
            wire.send(&format!(
                "SEND\ndestination:/app/rooms/r\nreceipt:77\n{rest}"
            ))
            .await;
            let lines = "content-type:text/plain\nreceipt-id:77\ncontent-length:*";
            wire.expect(&format!("ERROR\nmessage:*\ncode:{code}\n{lines}\n\n*\0"))
                .await;
            wire.expect_close(close).await;
        }
    }
}

#[tokio::test]
async fn nothing_follows_an_error_and_it_is_not_lost_to_who_goes_on_sending() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for version in VERSIONS {
        let mut wire = Wire::connected(&gateway, version).await;
        let subscribe = "SUBSCRIBE\nid:0\ndestination:/topic/rooms/r\nreceipt:1\n\n\0";
        wire.send(&format!("HELLO\n\n\0{subscribe}")).await;
        // Unread octets at the close would make the kernel reset the connection.
        for _ in 0..40 {
            wire.send_message(Message::binary(vec![b'x'; 30_000])).await;
        }
        wire.expect_error("malformed-frame", "unknown command: *", 1002)
            .await;
    }
}

#[tokio::test]
async fn a_restart_closes_with_1012() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let mut wire = Wire::connected(&gateway, "1.2").await;
    gateway.stop.cancel();
    wire.expect_close(1012).await;
    let gone = &gateway.metrics.gateway.disconnects;
    assert_eq!(gone.with_label_values(&["restart"]).get(), 1);
}

#[tokio::test]
async fn subscription_ids_are_required_since_1_1_and_unique() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let subscribe = "SUBSCRIBE\ndestination:/topic/rooms/r\nreceipt:1\n\n\0";
    let mut wire = Wire::connected(&gateway, "1.0").await;
    wire.send(subscribe).await;
    wire.expect("RECEIPT\nreceipt-id:1\n\n\0").await;
    wire.send("UNSUBSCRIBE\ndestination:/topic/rooms/r\nreceipt:2\n\n\0")
        .await;
    wire.expect("RECEIPT\nreceipt-id:2\n\n\0").await;
    for version in ["1.1", "1.2"] {
        let mut wire = Wire::connected(&gateway, version).await;
        wire.send(&subscribe.replace("receipt:1\n", "")).await;
        let detail = "SUBSCRIBE: the header `id` is missing";
        wire.expect_error("bad-header", detail, 1002).await;
    }
    for version in VERSIONS {
        let mut wire = Wire::connected(&gateway, version).await;
        wire.send(&"SUBSCRIBE\nid:0\ndestination:/topic/rooms/r\n\n\0".repeat(2))
            .await;
        let detail = "SUBSCRIBE: this id is in use";
        wire.expect_error("duplicate-subscription", detail, 1002)
            .await;
    }
}

#[tokio::test]
async fn a_receipt_is_named_as_it_was_asked_for() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let long = "x".repeat(8_000);
    for version in VERSIONS {
        let mut wire = Wire::connected(&gateway, version).await;
        for receipt in ["", " ", " a ", "a:b", "*", "안녕", "\t", "-0", &long] {
            // What is sent raw comes back with the escapes of its version.
            let written = match version {
                "1.0" => receipt.to_owned(),
                _ => receipt.replace(':', "\\c"),
            };
            wire.send(&format!(
                "BEGIN\ntransaction:{receipt}\nreceipt:{receipt}\n\n\0"
            ))
            .await;
            wire.expect(&format!("RECEIPT\nreceipt-id:{written}\n\n\0"))
                .await;
            wire.send(&format!(
                "ABORT\ntransaction:{receipt}\nreceipt:{receipt}\nreceipt:other\n\n\0"
            ))
            .await;
            wire.expect(&format!("RECEIPT\nreceipt-id:{written}\n\n\0"))
                .await;
        }
    }
}
