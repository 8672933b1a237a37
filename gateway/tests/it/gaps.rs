//! A gateway that was cut off from what is published, on a real Redis that goes on accepting.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use harness::{Redis, StompClient};
use redis::cmd;
use shared::stomp::{Command, Frame};

use crate::running::{Backend, redis_backend};

const WAIT: Duration = Duration::from_secs(30);

/// Ends every gateway's link, and keeps it from coming back: it may no longer listen to the channel
/// of its own notices. Everything else goes on. Returns when the gateway knows.
async fn cut_off(redis: &Redis, backend: &Backend) {
    let lost = backend
        .metrics
        .broker
        .reconnects
        .with_label_values(&["fanout"]);
    let before = lost.get();
    permit(redis, &["resetchannels", "&rc:{*}:room:*"]).await;
    harness::until("the link to be lost", async || lost.get() > before).await;
}

/// Lets links be made again.
async fn reconnect(redis: &Redis) {
    permit(redis, &["allchannels"]).await;
}

async fn permit(redis: &Redis, rules: &[&str]) {
    let mut connection = redis.connection().await;
    let mut command = cmd("ACL");
    command.arg("SETUSER").arg("default").arg(rules);
    command
        .query_async::<()>(&mut connection)
        .await
        .expect("the rules are well-formed");
}

/// Sends messages numbered from 0 and waits for their receipts.
async fn send(client: &mut StompClient, room: &str, count: usize, size: usize) {
    let destination = format!("/app/rooms/{room}");
    for number in 0..count {
        let body = Bytes::from(format!("{number:size$}"));
        let receipt = number.to_string();
        client
            .send(&destination, body, &[("receipt", &receipt)])
            .await
            .unwrap();
        client.receipt(&receipt).await.unwrap();
    }
}

/// Takes messages numbered from 0, in order.
async fn expect_all(client: &mut StompClient, count: usize) {
    for number in 0..count {
        let message = client.next_frame(WAIT).await.unwrap();
        assert_eq!(
            message.command,
            Command::Message,
            "{:?}",
            message.header("code")
        );
        let body = std::str::from_utf8(&message.body).unwrap();
        assert_eq!(body.trim().parse(), Ok(number));
    }
}

#[tokio::test]
async fn what_was_published_while_the_link_was_down_is_delivered_and_counted_once() {
    // As many as one reading fetches, fewer, and more.
    for count in [3, 100, 130] {
        let redis = Redis::start().await;
        let backend = redis_backend(&redis, &[]).await;
        let gateway = backend.gateway(&[]).await;
        let mut reader = gateway.client("reader").await;
        reader.subscribe("s", "/topic/rooms/r", &[]).await.unwrap();
        let mut sender = gateway.client("sender").await;
        cut_off(&redis, &backend).await;
        send(&mut sender, "r", count, 1).await;
        reconnect(&redis).await;
        expect_all(&mut reader, count).await;
        let repaired = &gateway.metrics.gateway.gaps_repaired;
        harness::until("the repair to be counted", async || repaired.get() > 0).await;
        assert_eq!(repaired.get(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_that_is_larger_than_an_outbox_cuts_no_reader_off() {
    let redis = Redis::start().await;
    let backend = redis_backend(&redis, &[]).await;
    let gateway = backend.gateway(&[]).await;
    let mut reader = gateway.client("reader").await;
    reader.subscribe("s", "/topic/rooms/r", &[]).await.unwrap();
    let mut sender = gateway.client("sender").await;
    cut_off(&redis, &backend).await;
    send(&mut sender, "r", 60, 32 << 10).await;
    reconnect(&redis).await;
    expect_all(&mut reader, 60).await;
}

#[tokio::test]
async fn who_subscribes_while_the_link_is_down_is_confirmed_when_it_is_back() {
    let redis = Redis::start().await;
    let backend = redis_backend(&redis, &["--publish-timeout", "1m"]).await;
    let gateway = backend.gateway(&[]).await;
    let mut client = gateway.client("kim").await;
    cut_off(&redis, &backend).await;
    for id in 0..20 {
        let subscribe = Frame::new(Command::Subscribe)
            .with("id", &id.to_string())
            .with("destination", &format!("/topic/rooms/r{id}"))
            .with("receipt", &id.to_string());
        client.send_frame(subscribe).await.unwrap();
    }
    let rooms = &gateway.metrics.gateway.rooms;
    harness::until("the gateway to join", async || rooms.get() == 20).await;
    reconnect(&redis).await;
    for id in 0..20 {
        client.receipt(&id.to_string()).await.unwrap();
    }
    client.send("/app/rooms/r7", "hi", &[]).await.unwrap();
    assert_eq!(client.message().await.unwrap().body, "hi");
}

#[tokio::test]
async fn nobody_waits_longer_for_a_room_because_others_wait_for_it_too() {
    let redis = Redis::start().await;
    let backend = redis_backend(&redis, &["--publish-timeout", "1s"]).await;
    let gateway = backend.gateway(&[]).await;
    // One after the other they would wait for longer than any of these clients does.
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(gateway.client("kim").await);
    }
    redis.pause();
    for client in &mut clients {
        let subscribe = Frame::new(Command::Subscribe)
            .with("id", "s")
            .with("destination", "/topic/rooms/r");
        client.send_frame(subscribe).await.unwrap();
    }
    let answers = clients.iter_mut().map(async |client| {
        let error = client.expect(Command::Error).await.unwrap();
        assert_eq!(error.header("code"), Some("broker-unavailable"));
        assert_eq!(client.close_code().await.unwrap(), Some(1013));
    });
    join_all(answers).await;
    redis.resume();
}
