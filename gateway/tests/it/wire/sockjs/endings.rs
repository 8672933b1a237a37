//! How sessions over HTTP end, and what their clients are told.

use std::time::Duration;

use bytes::Bytes;
use gateway::session::output::Outgoing;
use gateway::transport::{Incoming, Peer, Serve, Transport};
use tokio::time::{interval, timeout};

use super::http::{Client, TRANSPORTS, request};
use crate::running::backend;
use crate::serving::serving_to;

const CLOSE_ANYTHING: &str = "NONSENSE\n\n\0";

#[tokio::test]
async fn an_error_comes_before_the_close_which_is_told_again() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for transport in TRANSPORTS {
        let mut kim = Client::connected(&gateway, transport).await;
        kim.send(&["SUBSCRIBE\nid:0\nreceipt:7\n\n\0"]).await;
        kim.expect("ERROR\nmessage:*\ncode:bad-header\ncontent-type:text/plain\nreceipt-id:7\ncontent-length:*\n\n*\0")
            .await;
        let end = "c[1002,\"A header is missing or has a value that makes no sense.\"]";
        kim.expect_last(end).await;
        kim.expect_last(end).await;
        // What is sent too late is no error of its own, which would end the client unread.
        kim.send(&["SEND\n\n\0"]).await;
        kim.expect_last(end).await;
    }
}

#[tokio::test]
async fn an_error_waits_for_a_client_that_is_between_two_polls() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let mut kim = Client::connected(&gateway, "xhr").await;
    kim.send(&[CLOSE_ANYTHING]).await;
    let gone = &gateway.metrics.gateway.connections;
    harness::until("the session to end", async || gone.get() == 0).await;
    kim.expect(
        "ERROR\nmessage:*\ncode:malformed-frame\ncontent-type:text/plain\ncontent-length:*\n\n*\0",
    )
    .await;
    kim.expect_last("c[1002,\"The frame is malformed.\"]").await;
}

#[tokio::test]
async fn a_client_that_does_not_come_back_has_gone_after_5_seconds() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let kim = Client::connected(&gateway, "xhr").await;
    let gone = &gateway.metrics.gateway.disconnects;
    let gone = gone.with_label_values(&["client-closed"]);
    harness::until("the session to end", async || gone.get() == 1).await;
    harness::until("the session to be forgotten", async || {
        kim.post(b"[\"\\n\"]").await.status == 404
    })
    .await;
    assert_eq!(gateway.metrics.gateway.connections.get(), 0);
}

#[tokio::test]
async fn a_second_receiver_is_refused_and_the_first_goes_on() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for transport in TRANSPORTS {
        let mut kim = Client::open(&gateway, transport).await;
        kim.attach().await;
        let mut second = kim.receive().await;
        let told = second.text().await;
        let reason = "Another connection still open";
        assert!(
            told.contains("c[2010,") && told.contains(reason),
            "{told:?}"
        );
        kim.send(&["CONNECT\naccept-version:1.2\nlogin:kim\n\n\0"])
            .await;
        kim.expect("CONNECTED\n*\n*\n*\n*\n*\n\n\0").await;
    }
}

#[tokio::test]
async fn a_receiver_that_breaks_off_ends_the_session() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let mut kim = Client::connected(&gateway, "xhr_streaming").await;
    kim.break_off();
    let gone = &gateway.metrics.gateway.disconnects;
    let gone = gone.with_label_values(&["client-closed"]);
    harness::until("the session to end", async || gone.get() == 1).await;
    kim.expect_last("c[1002,\"Connection interrupted\"]").await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_stream_is_cut_off() {
    let backend = backend(&["--recent-max", "1"]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&["--write-timeout", "1s"]).await;
    let mut mute = Client::connected(&gateway, "eventsource").await;
    mute.send(&["SUBSCRIBE\nid:0\ndestination:/topic/rooms/r\nreceipt:s\n\n\0"])
        .await;
    mute.expect("RECEIPT\nreceipt-id:s\n\n\0").await;
    let mut sender = gateway.client("sender").await;
    let body = vec![b'x'; 32 << 10];
    let disconnects = &gateway.metrics.gateway.disconnects;
    let ended = || {
        ["slow-consumer", "write-timeout"]
            .map(|reason| disconnects.with_label_values(&[reason]).get())
            .iter()
            .sum::<u64>()
    };
    while ended() == 0 {
        sender
            .send("/app/rooms/r", body.clone(), &[])
            .await
            .unwrap();
        tokio::task::yield_now().await;
    }
    let connections = &gateway.metrics.gateway.connections;
    harness::until("the sender to be alone", async || connections.get() == 1).await;
    storing.abort();
}

#[tokio::test]
async fn a_message_over_the_limit_is_told_in_the_session() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for transport in TRANSPORTS {
        let mut kim = Client::connected(&gateway, transport).await;
        let large = "x".repeat(70 << 10);
        kim.send(&[&format!("SEND\ndestination:/app/rooms/r\n\n{large}\0")])
            .await;
        kim.expect("ERROR\nmessage:*\ncode:frame-too-large\ncontent-type:text/plain\ncontent-length:*\n\n*\0")
            .await;
        kim.expect_last("c[1009,\"The frame is larger than this server allows.\"]")
            .await;
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_and_ends_the_session() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    // Many small messages are bounded like few large ones.
    for (message, count) in [("xxxxxxxxxxxxxxxx", 60_000), ("", 100_000)] {
        let mut kim = Client::connected(&gateway, "xhr").await;
        let body = format!("[{}\"\"]", format!("\"{message}\",").repeat(count));
        let mut reply = kim.post(body.as_bytes()).await;
        assert_eq!(reply.status, 413);
        assert!(reply.text().await.contains("\"body-too-large\""));
        kim.expect(
            "ERROR\nmessage:*\ncode:frame-too-large\ncontent-type:text/plain\ncontent-length:*\n\n*\0",
        )
        .await;
    }
}

#[tokio::test]
async fn a_server_that_stops_tells_its_sessions_and_begins_none() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let mut streaming = Client::connected(&gateway, "xhr_streaming").await;
    let _between_polls = Client::connected(&gateway, "xhr").await;
    let mut polling = Client::connected(&gateway, "jsonp").await;
    polling.attach().await;
    gateway.stop.cancel();
    for client in [&mut streaming, &mut polling] {
        client
            .expect_last("c[1012,\"This server is restarting.\"]")
            .await;
    }
    // The one between its polls keeps nobody.
    timeout(Duration::from_secs(5), gateway.ended)
        .await
        .unwrap()
        .unwrap();
}

/// Says something every 50 ms, and does not stop.
struct Ticker;

impl Serve for Ticker {
    fn serve<T: Transport>(
        &self,
        transport: T,
        _peer: Peer,
    ) -> impl Future<Output = ()> + Send + 'static {
        tick(transport)
    }
}

async fn tick(mut transport: impl Transport) {
    let mut ticks = interval(Duration::from_millis(50));
    loop {
        tokio::select! {
            incoming = transport.next() => {
                if incoming == Incoming::Closed {
                    return;
                }
            }
            _ = ticks.tick() => {
                let tick = Outgoing::Text(Bytes::from_static(b"tick"));
                transport.queue(tick).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_stream_lasts_for_as_long_as_its_session_whatever_becomes_of_its_connection() {
    let serving = serving_to(&["--write-timeout", "100ms"], Ticker).await;
    let line = "POST /sockjs/0/a/xhr_streaming";
    let mut stream = request(&serving.address, line, &[], b"").await;
    assert!(stream.chunk().await.unwrap().starts_with("hhh"));
    assert_eq!(stream.chunk().await.unwrap(), "o\n");
    // No further request is taken on the connection, and the answer is to be finished.
    serving.stop.cancel();
    for _ in 0..30 {
        // On a busy machine there are several in one frame.
        assert!(stream.chunk().await.unwrap().starts_with("a[\"tick\""));
    }
}
