//! `POST /api/rooms/{room}/messages`: what is published, once, in order, and with a true receipt.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use harness::{Redis, until};
use serde_json::{Value, json};
use shared::message::{RoomName, Span};
use tokio::io::AsyncWriteExt;

use crate::posting::next;
use crate::running::{backend, redis_backend};

#[tokio::test]
async fn a_posted_message_reaches_subscribers_and_history_as_a_sent_one_does() {
    let redis = Redis::start().await;
    let backend = redis_backend(&redis, &[]).await;
    let gateway = backend.gateway(&[]).await;
    let mut client = gateway.client("kim").await;
    client
        .subscribe("s", "/topic/rooms/a:b@c", &[])
        .await
        .unwrap();

    let text = r#"{"body": "안녕 👋 \u0000\"", "contentType": "text/plain", "sender": "back end",
        "idempotencyKey": null, "headers": {"zebra": "1", "ant": "a:b\nc"}}"#;
    let path = "/api/rooms/a%3Ab%40c/messages";
    let header = ["Content-Type: application/json"];
    let answer = gateway.ask("POST", path, &header, text.as_bytes()).await;
    let message: Value = serde_json::from_str(text).unwrap();
    let id = answer.created();
    assert_eq!(
        answer.json(),
        json!({"id": id.to_string(), "createdAt": id.created_at_rfc3339()})
    );
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    let frame = client.message().await.unwrap();
    assert_eq!(frame.body, "안녕 👋 \u{0}\"");
    let id = id.to_string();
    for (name, value) in [
        ("message-id", &*id),
        ("destination", "/topic/rooms/a:b@c"),
        ("sender", "back end"),
        ("content-type", "text/plain"),
        ("zebra", "1"),
        ("ant", "a:b\nc"),
    ] {
        assert_eq!(frame.header(name), Some(value), "{name}");
    }
    let names: Vec<_> = frame.headers.iter().map(|(name, _)| name).collect();
    let place = |name| names.iter().position(|known| *known == name);
    assert!(place("zebra") < place("ant"), "{names:?}");

    // What history shows can be posted as it is shown.
    let octets = json!({"bodyBase64": BASE64_STANDARD.encode(b"\xff\0")});
    gateway.post("a:b@c", &octets).await.created();
    let frame = client.message().await.unwrap();
    assert_eq!(&*frame.body, b"\xff\0");
    assert_eq!(frame.header("sender"), Some("anonymous"));
    assert_eq!(frame.header("content-type"), None);
    gateway.post("a:b@c", &json!({"body": ""})).await.created();
    assert_eq!(client.message().await.unwrap().body, "");

    let page = gateway.ask("GET", path, &[], b"").await.json();
    let shown = &page["messages"];
    assert_eq!(shown[0]["body"], message["body"]);
    assert_eq!(shown[0]["headers"], message["headers"]);
    assert_eq!(shown[1]["bodyBase64"], octets["bodyBase64"]);
    assert_eq!(shown[2]["body"], "");
}

#[tokio::test]
async fn a_repeated_key_is_one_message_whichever_way_it_came() {
    let redis = Redis::start().await;
    let backend = redis_backend(&redis, &[]).await;
    let gateway = backend.gateway(&[]).await;
    let message = json!({"body": "x", "sender": "kim", "idempotencyKey": "key"});
    let first = gateway.post("r", &message).await;
    let id = first.created();
    assert_eq!(gateway.post("r", &message).await.body, first.body);

    let bare = json!({"body": "x", "sender": "kim"});
    for header in ["Idempotency-Key: key", "idempotency-key: \"key\""] {
        let again = gateway.post_with("r", "", &[header], &bare).await;
        assert_eq!(again.body, first.body, "{header}");
        let both = gateway.post_with("r", "", &[header], &message).await;
        assert_eq!(both.body, first.body, "{header}");
    }
    let mut client = gateway.client("kim").await;
    let key = [("idempotency-key", "key"), ("receipt", "1")];
    client.send("/app/rooms/r", "x", &key).await.unwrap();
    let receipt = client.receipt("1").await.unwrap();
    assert_eq!(receipt.header("message-id"), Some(&*id.to_string()));

    // And the other way round.
    let key = [("idempotency-key", "sent"), ("receipt", "2")];
    client.send("/app/rooms/r", "y", &key).await.unwrap();
    let sent = client.receipt("2").await.unwrap();
    let posted = json!({"body": "y", "sender": "kim", "idempotencyKey": "sent"});
    let posted = gateway.post("r", &posted).await.created().to_string();
    assert_eq!(sent.header("message-id"), Some(&*posted));

    // Another sender, another room or another key: another message.
    let other = json!({"body": "x", "sender": "lee", "idempotencyKey": "key"});
    assert_ne!(gateway.post("r", &other).await.created(), id);
    assert_ne!(gateway.post("q", &message).await.created(), id);
    let header = "Idempotency-Key: \"ke\\y\"";
    let odd = gateway.post_with("r", "", &[header], &bare).await.created();
    assert_ne!(odd, id);
    assert_eq!(backend.broker.backlog().await.unwrap(), 5);
}

#[tokio::test]
async fn posts_are_delivered_in_their_order_on_another_gateway() {
    const COUNT: usize = 200;
    let redis = Redis::start().await;
    let (one, other) = (
        redis_backend(&redis, &[]).await,
        redis_backend(&redis, &[]).await,
    );
    let (near, far) = (one.gateway(&[]).await, other.gateway(&[]).await);
    let mut client = far.client("kim").await;
    client.subscribe("s", "/topic/rooms/r", &[]).await.unwrap();

    // Pipelined: the second request is there before the first is answered.
    let mut stream = near.connect().await;
    let requests: Vec<_> = (0..COUNT)
        .flat_map(|number| {
            let body = json!({"body": number.to_string()}).to_string();
            let json = ["Content-Type: application/json; charset=utf-8"];
            near.request("POST", "/api/rooms/r/messages", &json, body.as_bytes())
        })
        .collect();
    stream.write_all(&requests).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..COUNT {
        ids.push(next(&mut stream).await.created());
    }
    assert!(ids.is_sorted());
    for (number, id) in ids.iter().enumerate() {
        let message = client.message().await.unwrap();
        assert_eq!(message.body, number.to_string());
        assert_eq!(message.header("message-id"), Some(&*id.to_string()));
    }
    assert_eq!(near.metrics.gateway.messages_received.get(), COUNT as u64);
    assert_eq!(
        near.metrics.gateway.accept_seconds.get_sample_count(),
        COUNT as u64
    );
}

#[tokio::test]
async fn a_stored_receipt_is_given_when_the_store_has_the_message_and_not_before() {
    let redis = Redis::start().await;
    let backend = redis_backend(&redis, &[]).await;
    let gateway = backend.gateway(&["--receipt-timeout", "300ms"]).await;
    let stored = "?receipt=stored";
    let message = json!({"body": "x", "idempotencyKey": "key"});
    let late = gateway.post_with("r", stored, &[], &message).await;
    assert_eq!((late.status, &*late.code()), (504, "not-stored"));
    let id = late.json()["error"]["id"].as_str().unwrap().to_owned();
    assert_eq!(gateway.metrics.gateway.receipts_withheld.get(), 1);
    let accepted = gateway
        .post_with("r", "?receipt=accepted", &[], &message)
        .await;
    assert_eq!(accepted.created().to_string(), id);

    let _storing = backend.storing().await;
    until("the store to have it", async || {
        let again = gateway.post_with("r", stored, &[], &message).await;
        again.status == 201 && again.created().to_string() == id
    })
    .await;
    let room = RoomName::parse("r").unwrap();
    let page = backend.store.history(&room, Span::Newest, 2).await.unwrap();
    assert_eq!(page.len(), 1);
    assert_eq!(page[0].id.to_string(), id);
}

#[tokio::test]
async fn an_answer_waits_for_what_the_flag_says_and_on_a_broker_that_forgets_for_the_store() {
    let redis = Redis::start().await;
    let durable = redis_backend(&redis, &[]).await;
    let flags = ["--receipt-timeout", "300ms", "--receipt-after", "stored"];
    let strict = durable.gateway(&flags).await;
    let embedded = backend(&[]).await;
    let forgetful = embedded.gateway(&flags[..2]).await;
    let message = json!({"body": "x"});
    assert_eq!(strict.post("r", &message).await.status, 504);
    let quick = strict
        .post_with("r", "?receipt=accepted", &[], &message)
        .await;
    assert_eq!(quick.status, 201);
    for query in ["", "?receipt=accepted"] {
        let answer = forgetful.post_with("r", query, &[], &message).await;
        assert_eq!(answer.status, 504, "{query}");
    }
    let _storing = embedded.storing().await;
    until("the store to have one in time", async || {
        forgetful.post("r", &message).await.status == 201
    })
    .await;
}

#[tokio::test]
async fn a_body_of_a_mebibyte_passes_when_the_limit_is_raised() {
    let backend = backend(&[]).await;
    let _storing = backend.storing().await;
    let limit = ["--max-frame-bytes", "1MiB", "--max-outbox-bytes", "4MiB"];
    let gateway = backend.gateway(&limit).await;
    let mut client = gateway.client("kim").await;
    client.subscribe("s", "/topic/rooms/r", &[]).await.unwrap();
    // Six octets in JSON for each of the body.
    let body = "\u{1}".repeat(1 << 20);
    gateway.post("r", &json!({"body": body})).await.created();
    assert_eq!(client.message().await.unwrap().body, body);
    let more = json!({"body": body + "x"});
    let answer = gateway.post("r", &more).await;
    assert_eq!((answer.status, &*answer.code()), (413, "message-too-large"));
}
