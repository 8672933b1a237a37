//! A RECEIPT is the truth: what waits for the store, what the store is asked, what is withheld.

use std::time::Duration;

use harness::{Redis, StompClient, StompFailure};
use shared::broker::Settled;
use shared::message::{MessageId, RoomName, Span};

use crate::running::{Backend, Running, backend, redis_backend};

const SOON: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_stored_receipt_waits_for_the_store_and_comes_with_the_notice() {
    let backend = backend(&[]).await;
    let gateway = backend.gateway(&["--receipt-after", "stored"]).await;
    let mut feed = backend.broker.open_feed("test").await.unwrap();
    let mut client = gateway.client("kim").await;
    client
        .send("/app/rooms/r", "hi", &[("receipt", "1")])
        .await
        .unwrap();
    let entries = feed.next(10, Duration::ZERO).await.unwrap();
    assert_eq!(entries.len(), 1);
    let early = client.next_frame(SOON).await;
    assert!(
        matches!(early, Err(StompFailure::Deadline(_))),
        "nothing is stored yet: {early:?}"
    );

    let batch = [entries[0].content.clone().unwrap()];
    backend.store.insert(&batch).await.unwrap();
    let settled = Settled {
        id: entries[0].id,
        notify: entries[0].notify,
    };
    feed.settler().settle(vec![settled]).await.unwrap();
    let receipt = client.receipt("1").await.unwrap();
    let id: MessageId = receipt.header("message-id").unwrap().parse().unwrap();
    let room = RoomName::parse("r").unwrap();
    let stored = backend.store.history(&room, Span::Newest, 2).await.unwrap();
    assert_eq!(
        stored.iter().map(|message| message.id).collect::<Vec<_>>(),
        [id]
    );
}

#[tokio::test]
async fn a_lost_notice_is_made_up_for_by_asking_the_store() {
    let (_backend, gateway, mut client) = lose_a_notice(&[]).await;
    client.receipt("1").await.unwrap();
    assert_eq!(gateway.metrics.gateway.receipts_withheld.get(), 0);
}

#[tokio::test]
async fn without_asking_the_store_a_lost_notice_costs_the_receipt() {
    let flags = ["--without", "receipt-check", "--receipt-timeout", "3s"];
    let (_backend, gateway, mut client) = lose_a_notice(&flags).await;
    let withheld = &gateway.metrics.gateway.receipts_withheld;
    harness::until("the receipt to be withheld", async || withheld.get() == 1).await;
    assert!(client.next_frame(Duration::ZERO).await.is_err());
}

/// A client that waits for the receipt `1` of a message that is stored, and of which no notice
/// comes.
async fn lose_a_notice(flags: &[&str]) -> (Backend, Running, StompClient) {
    let backend = backend(&[]).await;
    let flags = [&["--receipt-after", "stored"], flags].concat();
    let gateway = backend.gateway(&flags).await;
    let mut feed = backend.broker.open_feed("test").await.unwrap();
    let mut client = gateway.client("kim").await;
    client
        .send("/app/rooms/r", "hi", &[("receipt", "1")])
        .await
        .unwrap();
    let entries = feed.next(10, Duration::ZERO).await.unwrap();
    backend
        .store
        .insert(&[entries[0].content.clone().unwrap()])
        .await
        .unwrap();
    // Settled without a notice, as if it had been lost on its way.
    let settled = Settled {
        id: entries[0].id,
        notify: None,
    };
    feed.settler().settle(vec![settled]).await.unwrap();
    (backend, gateway, client)
}

#[tokio::test]
async fn a_receipt_that_the_store_never_earns_is_withheld_and_the_session_goes_on() {
    let redis = Redis::start().await;
    let backend = redis_backend(&redis, &[]).await;
    let flags = ["--receipt-after", "stored", "--receipt-timeout", "200ms"];
    let gateway = backend.gateway(&flags).await;
    let mut client = gateway.client("kim").await;
    client.subscribe("s", "/topic/rooms/r", &[]).await.unwrap();
    client
        .send("/app/rooms/r", "hi", &[("receipt", "1")])
        .await
        .unwrap();
    client.message().await.unwrap();
    harness::until("the receipt to be withheld", async || {
        gateway.metrics.gateway.receipts_withheld.get() == 1
    })
    .await;
    client.send("/app/rooms/r", "again", &[]).await.unwrap();
    assert_eq!(client.message().await.unwrap().body, "again");
    let late = client.next_frame(SOON).await;
    assert!(
        matches!(late, Err(StompFailure::Deadline(_))),
        "no receipt is guessed: {late:?}"
    );
}

#[tokio::test]
async fn a_full_journal_refuses_and_says_so() {
    let backend = backend(&["--journal-max", "16", "--shards", "1"]).await;
    let gateway = backend.gateway(&[]).await;
    let mut client = gateway.client("kim").await;
    for _ in 0..17 {
        client.send("/app/rooms/r", "hi", &[]).await.unwrap();
    }
    assert_eq!(client.close_code().await.unwrap(), Some(1013));
    let error = client.next_frame(SOON).await.unwrap();
    assert_eq!(error.header("code"), Some("journal-full"));
    assert_eq!(
        backend.broker.backlog().await.unwrap(),
        16,
        "what was accepted stays"
    );
}

#[tokio::test]
async fn who_waits_for_a_receipt_that_cannot_come_is_sent_away_before_the_drain_timeout() {
    let backend = backend(&[]).await;
    let gateway = backend.gateway(&["--drain-timeout", "3s"]).await;
    let mut client = gateway.client("kim").await;
    client
        .send("/app/rooms/r", "hi", &[("receipt", "1")])
        .await
        .unwrap();
    harness::until("the message to be accepted", async || {
        backend.broker.backlog().await.unwrap() == 1
    })
    .await;
    gateway.stop.cancel();
    assert_eq!(client.close_code().await.unwrap(), Some(1012));
    gateway.ended.await.unwrap();
    let frame = client.next_frame(Duration::ZERO).await;
    assert!(frame.is_err(), "no receipt is guessed: {frame:?}");
}
