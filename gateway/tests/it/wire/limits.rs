//! Limits, each with its ERROR, close code and metric.

use crate::running::{Running, backend};
use crate::wire::Wire;
use crate::wire::raw::TEXT;

/// The metric of connections that ended for this reason.
async fn counted(gateway: &Running, reason: &str, times: u64) {
    let gone = &gateway.metrics.gateway.disconnects;
    let gone = gone.with_label_values(&[reason]);
    harness::until(reason, async || gone.get() == times).await;
}

/// Octets that are a SEND of this size in all, its NUL included.
fn sized(size: usize) -> String {
    let head = "SEND\ndestination:/app/rooms/r\n\n";
    format!("{head}{}\0", "x".repeat(size - head.len() - 1))
}

#[tokio::test]
async fn a_frame_may_be_as_large_as_the_flag_says_and_no_octet_more() {
    let backend = backend(&[]).await;
    for (flags, limit) in [
        (&[][..], 64 << 10),
        (&["--max-frame-bytes", "1KiB"], 1 << 10),
    ] {
        let gateway = backend.gateway(flags).await;
        let mut wire = Wire::connected(&gateway, "1.2").await;
        wire.send(&sized(limit)).await;
        wire.send("SUBSCRIBE\nid:0\ndestination:/topic/rooms/r\nreceipt:1\n\n\0")
            .await;
        wire.expect("RECEIPT\nreceipt-id:1\n\n\0").await;
        wire.send(&sized(limit + 1)).await;
        let detail = format!("the frame is larger than {limit} octets");
        wire.expect_error("frame-too-large", &detail, 1009).await;

        // What content-length announces is not waited for.
        let mut wire = Wire::connected(&gateway, "1.2").await;
        let length = format!("content-length:{limit}");
        wire.send(&format!("SEND\ndestination:/app/rooms/r\n{length}\n\n"))
            .await;
        wire.expect_error("frame-too-large", &detail, 1009).await;
        counted(&gateway, "frame-too-large", 2).await;
    }
}

#[tokio::test]
async fn a_web_socket_message_is_bounded_like_a_frame_however_it_comes() {
    let gateway = backend(&[])
        .await
        .gateway(&["--max-frame-bytes", "1KiB"])
        .await;
    let detail = "The frame is larger than this server allows.";
    let whole = "\n".repeat(10_000);
    let mut wire = Wire::connected(&gateway, "1.2").await;
    wire.send(&whole).await;
    wire.expect_error("frame-too-large", detail, 1009).await;

    let mut wire = Wire::connected(&gateway, "1.2").await;
    let parts: Vec<_> = whole.as_bytes().chunks(100).collect();
    wire.fragments(TEXT, &parts).await;
    wire.expect_error("frame-too-large", detail, 1009).await;
    counted(&gateway, "frame-too-large", 2).await;
}

#[tokio::test]
async fn header_lines_are_bounded_in_number_in_length_and_together() {
    let backend = backend(&[]).await;
    let roomy = ["--max-frame-bytes", "256KiB"];
    let tight = [
        "--max-headers",
        "10",
        "--max-header-bytes",
        "256B",
        "--max-headers-bytes",
        "1KiB",
    ];
    for (flags, many, long, together) in [
        (&roomy[..], 100, 8 << 10, 64 << 10),
        (&tight, 10, 256, 1 << 10),
    ] {
        let gateway = backend.gateway(flags).await;
        let first = "destination:/app/rooms/r";
        let lines = |lines: &[String]| format!("SEND\n{first}\n{}\n\n\0", lines.join("\n"));
        let line = |at: usize, octets: usize| format!("{at:04}:{}", "x".repeat(octets - 5));
        let filled = |total: usize| {
            // As many lines of the greatest length as fit, and one with the rest.
            let rest = total - first.len();
            let mut all: Vec<_> = (0..rest / long).map(|at| line(at, long)).collect();
            all.push(line(9999, rest % long));
            lines(&all)
        };
        let short = |count: usize| lines(&(1..count).map(|at| line(at, 6)).collect::<Vec<_>>());
        for (most, more, detail) in [
            (
                short(many),
                short(many + 1),
                format!("the frame has more than {many} headers"),
            ),
            (
                lines(&[line(1, long)]),
                lines(&[line(1, long + 1)]),
                format!("a header is longer than {long} octets"),
            ),
            (
                filled(together),
                filled(together + 1),
                format!("the headers are longer than {together} octets together"),
            ),
        ] {
            let mut wire = Wire::connected(&gateway, "1.2").await;
            // In pieces: a WebSocket message has no more than a frame may.
            wire.send(&most).await;
            wire.send("SUBSCRIBE\nid:0\ndestination:/topic/rooms/r\nreceipt:1\n\n\0")
                .await;
            wire.expect("RECEIPT\nreceipt-id:1\n\n\0").await;
            wire.send(&more).await;
            wire.expect_error("frame-too-large", &detail, 1009).await;
        }
        counted(&gateway, "frame-too-large", 3).await;
    }
}

#[tokio::test]
async fn subscriptions_of_a_connection_are_bounded() {
    let gateway = backend(&[])
        .await
        .gateway(&["--max-subscriptions", "3"])
        .await;
    let mut wire = Wire::connected(&gateway, "1.2").await;
    for id in 0..3 {
        wire.send(&format!(
            "SUBSCRIBE\nid:{id}\ndestination:/topic/rooms/r\nreceipt:{id}\n\n\0"
        ))
        .await;
        wire.expect(&format!("RECEIPT\nreceipt-id:{id}\n\n\0"))
            .await;
    }
    // One that is given up makes room for another.
    wire.send(
        "UNSUBSCRIBE\nid:0\n\n\0SUBSCRIBE\nid:3\ndestination:/topic/rooms/r\nreceipt:3\n\n\0",
    )
    .await;
    wire.expect("RECEIPT\nreceipt-id:3\n\n\0").await;
    wire.send("SUBSCRIBE\nid:4\ndestination:/topic/rooms/r\n\n\0")
        .await;
    let detail = "SUBSCRIBE: at most 3 per connection";
    wire.expect_error("too-many-subscriptions", detail, 1008)
        .await;
    counted(&gateway, "too-many-subscriptions", 1).await;
}

/// A client that has subscribed to `r` and reads nothing more.
async fn mute(gateway: &Running) -> Wire {
    let mut wire = Wire::narrow(gateway).await;
    wire.send("CONNECT\naccept-version:1.2\n\n\0").await;
    assert!(wire.next().await.starts_with("CONNECTED\n"));
    wire.send("SUBSCRIBE\nid:0\ndestination:/topic/rooms/r\nreceipt:1\n\n\0")
        .await;
    wire.expect("RECEIPT\nreceipt-id:1\n\n\0").await;
    wire
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_too_slowly_is_told_so() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let flags = ["--max-frame-bytes", "32KiB", "--max-outbox-bytes", "64KiB"];
    let gateway = backend.gateway(&flags).await;
    let mut slow = mute(&gateway).await;
    // More than the outbox and the kernel's buffers take, and soon sent: it has two seconds to
    // read on.
    let mut sender = Wire::connected(&gateway, "1.2").await;
    let message = sized(32 << 10);
    for _ in 0..80 {
        sender.send(&message).await;
    }
    let error = loop {
        let text = slow.next().await;
        if !text.starts_with("MESSAGE\n") {
            break text;
        }
    };
    assert!(
        error.starts_with("ERROR\n") && error.contains("\ncode:slow-consumer\n"),
        "{error:?}"
    );
    slow.expect_close(1013).await;
    counted(&gateway, "slow-consumer", 1).await;
    storing.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_send_that_is_stuck_ends_the_connection() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let flags = ["--write-timeout", "200ms", "--max-outbox-bytes", "64MiB"];
    let gateway = backend.gateway(&flags).await;
    let stuck = mute(&gateway).await;
    let mut sender = Wire::connected(&gateway, "1.2").await;
    let message = sized(60_000);
    for _ in 0..150 {
        sender.send(&message).await;
    }
    counted(&gateway, "write-timeout", 1).await;
    drop(stuck);
    storing.abort();
}

#[tokio::test]
async fn a_connection_sends_as_fast_as_the_flag_says() {
    let flags = [
        "--send-rate",
        "2",
        "--send-burst",
        "3",
        "--rate-patience",
        "2s",
    ];
    let backend = backend(&[]).await;
    let _storing = backend.storing().await;
    let gateway = backend.gateway(&flags).await;
    let mut wire = Wire::connected(&gateway, "1.2").await;
    let send = "SEND\ndestination:/app/rooms/r\nreceipt:1\n\nhi\0";
    let receipt = "RECEIPT\nreceipt-id:1\nmessage-id:*\ncreated-at:*\n\n\0";
    // Over the rate it is slowed down, and nothing is lost.
    wire.send(&send.repeat(5)).await;
    for _ in 0..5 {
        wire.expect(receipt).await;
    }
    let slowed = &gateway.metrics.gateway.slowed;
    assert_eq!(slowed.with_label_values(&["connection"]).get(), 1);
    // Who presses on for 2 s is cut off.
    let silent = "SEND\ndestination:/app/rooms/r\n\nhi\0";
    wire.send(&format!("{}{send}{send}", silent.repeat(50)))
        .await;
    let detail = "more messages a second than are allowed";
    wire.expect_error("rate-limited", detail, 1013).await;
    counted(&gateway, "rate-limited", 1).await;
}
