//! Who sends a lot of what costs the sender nothing.

use crate::strange::Watched;
use crate::wire::Wire;
use crate::wire::raw::{CONTINUATION, FIN, PING, TEXT, masked};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fragments_without_an_octet_are_not_taken_for_ever() {
    let watched = Watched::start(&["--max-frame-bytes", "1KiB"]).await;
    for with_pings in [false, true] {
        let mut wire = Wire::connected(&watched.gateway, "1.2").await;
        wire.raw(&masked(TEXT, b"")).await;
        let mut some = masked(CONTINUATION, b"").repeat(100);
        if with_pings {
            // A sign of life among them makes them no better.
            some.extend(masked(FIN | PING, b""));
        }
        for _ in 0..100 {
            if wire.try_raw(&some).await.is_err() {
                break;
            }
        }
        let detail = "The frame is larger than this server allows.";
        wire.expect_error("frame-too-large", detail, 1009).await;
    }
    watched.ended(&[("frame-too-large", 2)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_may_come_in_fragments_of_one_octet() {
    let watched = Watched::start(&["--max-frame-bytes", "1KiB"]).await;
    let mut wire = Wire::connected(&watched.gateway, "1.2").await;
    for _ in 0..3 {
        let head = "SEND\ndestination:/app/rooms/r\nreceipt:1\n\n";
        let frame = format!("{head}{}\0", "x".repeat(1023 - head.len()));
        let parts: Vec<_> = frame.as_bytes().chunks(1).collect();
        wire.fragments(TEXT, &parts).await;
        wire.expect("RECEIPT\nreceipt-id:1\nmessage-id:*\ncreated-at:*\n\n\0")
            .await;
    }
    wire.send("DISCONNECT\n\n\0").await;
    wire.expect_close(1000).await;
    watched.ended(&[("client-disconnected", 1)]).await;
}
