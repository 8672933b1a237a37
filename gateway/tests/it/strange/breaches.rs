//! Who breaks WebSocket's rules (RFC 6455, section 5).

use tokio_tungstenite::tungstenite::Message;

use crate::strange::Watched;
use crate::wire::Wire;
use crate::wire::raw::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, masked};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_breach_of_the_web_socket_protocol_is_an_error_and_a_close_with_1002() {
    let watched = Watched::start(&[]).await;
    let fragment = masked(TEXT, b"SEND\n");
    let cases = [
        ("a frame without a mask", b"\x81\x01x".to_vec()),
        ("RSV1", masked(FIN | 0x40 | TEXT, b"\n")),
        ("RSV2", masked(FIN | 0x20 | BINARY, b"\n")),
        ("RSV3", masked(FIN | 0x10 | PING, b"")),
        ("a reserved opcode", masked(FIN | 0x3, b"")),
        ("a reserved control opcode", masked(FIN | 0xB, b"")),
        ("a ping that is too large", masked(FIN | PING, &[b'x'; 126])),
        (
            "a pong that is too large",
            masked(FIN | PONG, &[b'x'; 1000]),
        ),
        ("a Close that is too large", masked(FIN | CLOSE, &[3; 126])),
        ("a ping in fragments", masked(PING, b"")),
        ("a fragment of nothing", masked(FIN | CONTINUATION, b"")),
        (
            "a message among fragments",
            [fragment, masked(FIN | TEXT, b"\n")].concat(),
        ),
        ("text that is not UTF-8", masked(FIN | TEXT, b"\xff")),
        (
            "text that ends in a character",
            masked(FIN | TEXT, b"\xec\x95"),
        ),
        ("a Close with half a code", masked(FIN | CLOSE, b"\x03")),
    ];
    for (what, octets) in &cases {
        for connected in [true, false] {
            let mut wire = if connected {
                Wire::connected(&watched.gateway, "1.2").await
            } else {
                Wire::open(&watched.gateway).await
            };
            wire.raw(octets).await;
            let error = wire.next().await;
            assert!(
                error.contains("\ncode:malformed-frame\n"),
                "{what}: {error:?}"
            );
            let is_named = error.contains("\n\nWebSocket protocol error: ");
            assert!(
                is_named || error.contains("\n\nUTF-8 "),
                "{what}: {error:?}"
            );
            wire.expect_close(1002).await;
        }
    }
    watched
        .ended(&[("malformed-frame", 2 * cases.len() as u64)])
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_length_that_no_message_may_have_is_refused_before_it_comes() {
    let watched = Watched::start(&[]).await;
    for announced in [1_u64 << 20, 1 << 40, u64::MAX >> 1] {
        let mut wire = Wire::connected(&watched.gateway, "1.2").await;
        let head = [&[FIN | BINARY, 0xFF][..], &announced.to_be_bytes(), &[0; 4]].concat();
        wire.raw(&head).await;
        let detail = "The frame is larger than this server allows.";
        wire.expect_error("frame-too-large", detail, 1009).await;
    }
    watched.ended(&[("frame-too-large", 3)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_is_answered_wherever_it_comes() {
    let watched = Watched::start(&[]).await;
    let half = masked(FIN | TEXT, b"SEND\ndestination:/app/rooms/r\n\nhal");
    let fragment = masked(TEXT, b"SEND\ndestination:/app/rooms/r\n\nhal");
    for (before, close, answer) in [
        (&[][..], &b""[..], None),
        (&[], b"\x03\xe8", Some(1000)),
        (&[], b"\x03\xe9going away", Some(1001)),
        // Never on the wire (RFC 6455, section 7.4.1).
        (&[], b"\x03\xed", Some(1002)),
        (&half, b"", None),
        (&half, b"\x03\xe8", Some(1000)),
        (&fragment, b"", None),
    ] {
        let mut wire = Wire::connected(&watched.gateway, "1.2").await;
        wire.raw(&[before, &masked(FIN | CLOSE, close)].concat())
            .await;
        match wire.next_message().await {
            Message::Close(frame) => {
                assert_eq!(
                    frame.map(|frame| u16::from(frame.code)),
                    answer,
                    "{close:?}"
                );
            }
            other => panic!("a Close was expected, not {other:?}"),
        }
    }
    watched.ended(&[("client-closed", 7)]).await;
}
