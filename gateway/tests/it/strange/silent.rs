//! Who is slow, or says nothing, or does not wait.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::running::Running;
use crate::strange::Watched;
use crate::wire::Wire;
use crate::wire::raw::{FIN, PING, TEXT, masked};

/// How often a slow client sends an octet.
const DRIBBLE: Duration = Duration::from_millis(50);

/// A way to the gateway that forwards nothing any more once `cut`, and tells neither side.
async fn cable(gateway: &Running, cut: CancellationToken) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, to) = (listener.local_addr().unwrap(), gateway.address.clone());
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(to).await.unwrap();
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut server) => {}
            () = cut.cancelled() => std::future::pending().await,
        }
    });
    address.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_open_connection_is_given_up() {
    let watched = Watched::start(&[]).await;
    let cut = CancellationToken::new();
    let through = Running {
        address: cable(&watched.gateway, cut.clone()).await,
        metrics: watched.gateway.metrics.clone(),
        readiness: watched.gateway.readiness.clone(),
        stop: CancellationToken::new(),
        ended: tokio::spawn(async {}),
    };
    let mut wire = Wire::open(&through).await;
    wire.send("CONNECT\naccept-version:1.2\nheart-beat:1000,1000\n\n\0")
        .await;
    assert!(wire.next().await.starts_with("CONNECTED\n"));
    assert_eq!(watched.gateway.metrics.gateway.connections.get(), 3);
    cut.cancel();
    watched.ended(&[("heart-beat-timeout", 1)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_an_octet_at_a_time_is_served() {
    let watched = Watched::start(&[]).await;
    let mut wire = Wire::open(&watched.gateway).await;
    for frame in [
        "CONNECT\naccept-version:1.2\nlogin:kim\n\n\0",
        "SUBSCRIBE\nid:0\ndestination:/topic/rooms/r\nreceipt:1\n\n\0",
        "DISCONNECT\nreceipt:2\n\n\0",
    ] {
        // Each in a segment of its own.
        for octet in masked(FIN | TEXT, frame.as_bytes()) {
            wire.raw(&[octet]).await;
            tokio::task::yield_now().await;
        }
    }
    assert!(wire.next().await.starts_with("CONNECTED\n"));
    wire.expect("RECEIPT\nreceipt-id:1\n\n\0").await;
    wire.expect("RECEIPT\nreceipt-id:2\n\n\0").await;
    wire.expect_close(1000).await;
    watched.ended(&[("client-disconnected", 1)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_reads_while_the_room_is_busy_is_cut_off() {
    let watched = Watched::start(&["--max-outbox-bytes", "128KiB"]).await;
    let mut mute = Wire::narrow(&watched.gateway).await;
    mute.send("CONNECT\naccept-version:1.2\n\n\0").await;
    assert!(mute.next().await.starts_with("CONNECTED\n"));
    mute.send("SUBSCRIBE\nid:0\ndestination:/topic/rooms/busy\nreceipt:1\n\n\0")
        .await;
    mute.expect("RECEIPT\nreceipt-id:1\n\n\0").await;
    let mut sender = Wire::connected(&watched.gateway, "1.2").await;
    let message = format!(
        "SEND\ndestination:/app/rooms/busy\n\n{}\0",
        "x".repeat(30_000)
    );
    for _ in 0..300 {
        sender.send(&message).await;
    }
    sender.send("DISCONNECT\nreceipt:1\n\n\0").await;
    sender.expect("RECEIPT\nreceipt-id:1\n\n\0").await;
    watched
        .ended(&[("slow-consumer", 1), ("client-disconnected", 1)])
        .await;
    drop(mute);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_fetches_nothing_while_the_room_is_busy_was_too_slow() {
    let watched = Watched::start(&[]).await;
    let post = async |call: &str, body: &str| {
        let path = format!("/sockjs/0/slow/{call}");
        let answer = watched
            .gateway
            .ask("POST", &path, &[], body.as_bytes())
            .await;
        assert!(matches!(answer.status, 200 | 204), "{}", answer.body);
    };
    post("xhr", "").await;
    post(
        "xhr_send",
        r#"["CONNECT\naccept-version:1.2\nheart-beat:0,0\n\n\u0000"]"#,
    )
    .await;
    post("xhr", "").await;
    post(
        "xhr_send",
        r#"["SUBSCRIBE\nid:0\ndestination:/topic/rooms/busy\nreceipt:1\n\n\u0000"]"#,
    )
    .await;
    post("xhr", "").await;
    let mut sender = Wire::connected(&watched.gateway, "1.2").await;
    let message = format!(
        "SEND\ndestination:/app/rooms/busy\n\n{}\0",
        "x".repeat(60_000)
    );
    for _ in 0..20 {
        sender.send(&message).await;
    }
    sender.send("DISCONNECT\nreceipt:1\n\n\0").await;
    sender.expect("RECEIPT\nreceipt-id:1\n\n\0").await;
    watched
        .ended(&[("slow-consumer", 1), ("client-disconnected", 1)])
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_who_never_finish_their_handshake_are_let_go() {
    let watched = Watched::start(&["--connect-deadline", "3s"]).await;
    let mut streams = Vec::new();
    for number in 0..100 {
        let mut stream = TcpStream::connect(&watched.gateway.address).await.unwrap();
        if number % 2 == 0 {
            stream
                .write_all(b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgr")
                .await
                .unwrap();
        }
        streams.push(stream);
    }
    let failures = watched.gateway.metrics.gateway.http_failures.clone();
    harness::until("the metric", async || {
        failures.with_label_values(&["timeout"]).get() == 100
    })
    .await;
    for mut stream in streams {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"", "there is nothing to answer");
    }
    // And one who speaks something else.
    let mut stream = TcpStream::connect(&watched.gateway.address).await.unwrap();
    stream
        .write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        .await
        .unwrap();
    harness::until("the metric", async || {
        failures.with_label_values(&["broken"]).get() == 1
    })
    .await;
    watched.ended(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_or_falls_silent_after_an_answer_is_no_failure() {
    let watched = Watched::start(&["--connect-deadline", "1s"]).await;
    let ask = async |request: &str, answer: &str| {
        let mut stream = TcpStream::connect(&watched.gateway.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        while !String::from_utf8_lossy(&heard).contains(answer) {
            assert_ne!(stream.read_buf(&mut heard).await.unwrap(), 0);
        }
        stream
    };
    let mut silent = ask("GET /sockjs/info HTTP/1.1\r\nHost: a\r\n\r\n", "entropy").await;
    let stream =
        "POST /sockjs/0/gone/xhr_streaming HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    drop(ask(stream, "o\n").await);
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).await.unwrap();
    let failures = watched.gateway.metrics.gateway.http_failures.clone();
    watched.ended(&[("client-closed", 1)]).await;
    for reason in ["timeout", "broken"] {
        assert_eq!(failures.with_label_values(&[reason]).get(), 0, "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_who_never_connect_are_told_so() {
    let watched = Watched::start(&["--connect-deadline", "3s"]).await;
    let mut wires = Vec::new();
    for number in 0..100 {
        let mut wire = Wire::open(&watched.gateway).await;
        if number % 2 == 0 {
            wire.send("CONNECT\naccept-version:1.2\n").await;
        }
        wires.push(wire);
    }
    for mut wire in wires {
        wire.expect_error("connect-timeout", "no CONNECT frame has come", 1008)
            .await;
    }
    watched.ended(&[("connect-timeout", 100)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_wait_for_connected_is_served_in_order() {
    let watched = Watched::start(&[]).await;
    let mut wire = Wire::open(&watched.gateway).await;
    wire.send(
        "CONNECT\naccept-version:1.2\nlogin:kim\n\n\0\
         SUBSCRIBE\nid:0\ndestination:/topic/rooms/r\nreceipt:1\n\n\0\
         SEND\ndestination:/app/rooms/r\n\nfirst\0\n\
         SEND\ndestination:/app/rooms/r\nreceipt:2\n\nsecond\0",
    )
    .await;
    assert!(wire.next().await.starts_with("CONNECTED\nversion:1.2\n"));
    wire.expect("RECEIPT\nreceipt-id:1\n\n\0").await;
    let mut rest = vec![wire.next().await, wire.next().await, wire.next().await];
    // Its receipt and its message are told at the same time.
    let receipt = rest
        .iter()
        .position(|text| text.starts_with("RECEIPT\nreceipt-id:2\n"));
    rest.remove(receipt.expect("the receipt"));
    assert!(
        rest[0].ends_with("\n\nfirst\0") && rest[1].ends_with("\n\nsecond\0"),
        "{rest:?}"
    );
    wire.send("DISCONNECT\n\n\0").await;
    wire.expect_close(1000).await;

    let mut wire = Wire::open(&watched.gateway).await;
    wire.send("SEND\ndestination:/app/rooms/r\n\nhi\0CONNECT\naccept-version:1.2\n\n\0")
        .await;
    wire.expect_error(
        "not-connected",
        "SEND: the first frame must be CONNECT",
        1002,
    )
    .await;
    watched
        .ended(&[("client-disconnected", 1), ("not-connected", 1)])
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_never_ends_is_an_error_whatever_comes_of_it() {
    let watched = Watched::start(&["--frame-deadline", "1s"]).await;
    let gateway = &watched.gateway;
    let (receipt, none) = ("receipt-id:7\n", "");
    for (begun, octet, named) in [
        ("S", "", none),
        ("SEND\ndestination:/app/rooms/r\nreceipt:7\n", "x", receipt),
        (
            "SEND\ndestination:/app/rooms/r\nreceipt:7\n\n",
            "\n",
            receipt,
        ),
    ] {
        let mut wire = Wire::connected(gateway, "1.2").await;
        wire.send(begun).await;
        // What dribbles in does not help it.
        let error = loop {
            tokio::select! {
                error = wire.next() => break error,
                () = tokio::time::sleep(DRIBBLE) => {}
            }
            wire.try_raw(&masked(FIN | TEXT, octet.as_bytes()))
                .await
                .ok();
        };
        let lines = format!("content-type:text/plain\n{named}content-length:");
        assert!(
            error.contains("\ncode:frame-timeout\n"),
            "{begun:?}: {error:?}"
        );
        assert!(error.contains(&lines), "{begun:?}: {error:?}");
        wire.expect_close(1008).await;
    }
    watched.ended(&[("frame-timeout", 3)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_never_ends_is_an_error_though_its_client_lives() {
    let watched = Watched::start(&["--frame-deadline", "1s"]).await;
    let send = masked(TEXT, b"SEND\ndestination:/app/rooms/r\n\n");
    let whole = masked(FIN | TEXT, b"SEND\ndestination:/app/rooms/r\n\n\0");
    let ping = masked(FIN | PING, b"");
    for (begun, then) in [
        // Half a frame, alone and behind a whole one; a fragment, after which pings may come.
        (whole[..whole.len() - 1].to_vec(), None),
        ([&whole[..], &whole[..1]].concat(), None),
        (send, Some(ping)),
    ] {
        let mut wire = Wire::connected(&watched.gateway, "1.2").await;
        wire.raw(&begun).await;
        let error = loop {
            tokio::select! {
                error = wire.next() => break error,
                () = tokio::time::sleep(DRIBBLE) => {}
            }
            if let Some(octets) = &then {
                wire.try_raw(octets).await.ok();
            }
        };
        assert!(error.contains("\ncode:frame-timeout\n"), "{error:?}");
        wire.expect_close(1008).await;
    }
    watched.ended(&[("frame-timeout", 3)]).await;
}
