//! Who sends a lot of what costs the sender nothing.

use crate::strange::Watched;
use crate::wire::Wire;
use crate::wire::raw::{BINARY, CONTINUATION, FIN, PING, PONG, TEXT, masked};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_what_is_no_message_is_slowed_and_then_an_error() {
    let watched = Watched::start(&["--control-rate", "10", "--rate-patience", "1s"]).await;
    let subscription = "SUBSCRIBE\nid:0\ndestination:/topic/rooms/r\n\n\0UNSUBSCRIBE\nid:0\n\n\0";
    let floods = [
        ("pings", masked(FIN | PING, b"?")),
        ("pongs", masked(FIN | PONG, b"")),
        ("heart-beats", masked(FIN | TEXT, b"\n")),
        (
            "heart-beats of the other kind",
            masked(FIN | BINARY, b"\r\n"),
        ),
        ("messages without an octet", masked(FIN | TEXT, b"")),
        ("subscriptions", masked(FIN | TEXT, subscription.as_bytes())),
    ];
    let slowed = &watched.gateway.metrics.gateway.slowed;
    let slowed = slowed.with_label_values(&["connection"]);
    for (what, flood) in &floods {
        let before = slowed.get();
        let mut wire = Wire::connected(&watched.gateway, "1.2").await;
        // Far more than ten a second, and a hundred at once.
        wire.raw(&flood.repeat(2_000)).await;
        let error = wire.next().await;
        assert!(error.contains("\ncode:rate-limited\n"), "{what}: {error:?}");
        wire.expect_close(1013).await;
        // Once, unless this machine is so slow that it has a right to more when it is looked at again.
        assert!(slowed.get() > before, "{what}");
    }
    watched
        .ended(&[("rate-limited", floods.len() as u64)])
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_comes_back_to_all_its_rooms_is_no_flood() {
    let watched = Watched::start(&[]).await;
    let mut wire = Wire::connected(&watched.gateway, "1.2").await;
    for id in 0..256 {
        wire.send(&format!(
            "SUBSCRIBE\nid:{id}\ndestination:/topic/rooms/r{id}\n\n\0"
        ))
        .await;
    }
    wire.send("DISCONNECT\nreceipt:1\n\n\0").await;
    wire.expect("RECEIPT\nreceipt-id:1\n\n\0").await;
    wire.expect_close(1000).await;
    watched.ended(&[("client-disconnected", 1)]).await;
}

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
