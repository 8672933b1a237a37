//! Clients that do not read: each meets its bound, and the others notice nothing.

use std::sync::Arc;

use bytes::Bytes;
use gateway::outbox::outbox;
use gateway::session::output::{Encoded, Outgoing, Slot};
use shared::metrics::Metrics;

use crate::running::backend;
use crate::virtual_client::message_id;

/// More than the kernel's buffers of a loopback connection can take.
const MESSAGES: usize = 700;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_is_cut_off_and_the_others_miss_nothing() {
    let backend = backend(&["--recent-max", "1"]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&["--write-timeout", "1h"]).await;
    let mut mute = gateway.client("mute").await;
    mute.subscribe("s", "/topic/rooms/r", &[]).await.unwrap();
    let mut reader = gateway.client("reader").await;
    reader.subscribe("s", "/topic/rooms/r", &[]).await.unwrap();

    let mut sender = gateway.client("sender").await;
    let body = Bytes::from(vec![b'x'; 32 << 10]);
    for _ in 0..MESSAGES {
        sender
            .send("/app/rooms/r", body.clone(), &[])
            .await
            .unwrap();
        reader.message().await.unwrap();
    }
    let gone = gateway
        .metrics
        .gateway
        .disconnects
        .with_label_values(&["slow-consumer"]);
    harness::until("the mute client to be cut off", async || gone.get() == 1).await;
    assert_eq!(gateway.metrics.gateway.connections.get(), 2);

    // It comes back with `after` and misses nothing.
    let mut last = mute.message().await.unwrap();
    let mut seen = 1;
    while let Ok(next) = mute.message().await {
        assert_eq!(next.header("prev"), last.header("message-id"));
        last = next;
        seen += 1;
    }
    let after = last.header("message-id").unwrap().to_owned();
    let mut back = gateway.client("mute").await;
    let told = back
        .subscribe("s", "/topic/rooms/r", &[("after", &after)])
        .await
        .unwrap();
    assert_eq!(told.header("recovered"), Some("true"));
    let mut newest = after;
    while seen < MESSAGES {
        let next = back.message().await.unwrap();
        let id = next.header("message-id").unwrap().to_owned();
        assert!(id > newest, "in order, and none twice");
        newest = id;
        seen += 1;
    }
    sender.send("/app/rooms/r", "last", &[]).await.unwrap();
    assert_eq!(back.message().await.unwrap().body, "last");
    storing.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_takes_nothing_is_closed_at_the_write_timeout() {
    let backend = backend(&["--recent-max", "1"]).await;
    let storing = backend.storing().await;
    let flags = ["--write-timeout", "200ms", "--max-outbox-bytes", "1GiB"];
    let gateway = backend.gateway(&flags).await;
    let mut mute = gateway.client("mute").await;
    mute.subscribe("s", "/topic/rooms/r", &[]).await.unwrap();
    let mut sender = gateway.client("sender").await;
    let body = Bytes::from(vec![b'x'; 32 << 10]);
    let gone = gateway
        .metrics
        .gateway
        .disconnects
        .with_label_values(&["write-timeout"]);
    for _ in 0..MESSAGES {
        if gone.get() > 0 {
            break;
        }
        sender
            .send("/app/rooms/r", body.clone(), &[])
            .await
            .unwrap();
    }
    harness::until("the stuck socket to be closed", async || gone.get() == 1).await;
    let waiting = &gateway.metrics.gateway.outbox_bytes;
    harness::until("what waited to be let go of", async || waiting.get() == 0).await;
    storing.abort();
}

#[test]
fn nothing_follows_what_a_full_outbox_did_not_take() {
    let (outbox, mut deliveries) = outbox(300, Metrics::new().gateway);
    let push = |id| {
        let frame = Outgoing::Text(Bytes::from(vec![b'x'; 100]));
        let id = message_id(id);
        let encoded = Encoded {
            id,
            frame,
            ephemeral: false,
        };
        outbox.push(Slot(0), Arc::new(encoded));
    };
    for id in 1..=3 {
        push(id);
    }
    let mut taken = Vec::new();
    while let Some(delivery) = deliveries.try_next() {
        taken.push(delivery.encoded.id);
    }
    assert!(taken.len() < 3, "one was too much");
    // There is room again, but this one behind the hole would hide it from an `after`.
    push(4);
    assert!(deliveries.try_next().is_none());
}
