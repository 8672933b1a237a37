//! Bodies of any octets and of a megabyte: they arrive, are stored and are read back octet for
//! octet.

use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use harness::{Mongo, Redis, StompClient};
use shared::stomp::Frame;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::running::{Backend, Running, backend, mongo_backend, redis_backend};
use crate::serving::answer;
use crate::wire::Wire;

const MEGABYTE: usize = 1 << 20;

/// Room for a megabyte, and for the headers of its frame.
const FLAGS: [&str; 4] = [
    "--max-frame-bytes",
    "1025KiB",
    "--max-outbox-bytes",
    "2100KiB",
];

/// What is sent: a content type, and a body.
fn bodies() -> Vec<(&'static str, Bytes)> {
    let every: Vec<u8> = (0..=255).collect();
    let mut text = String::new();
    while text.len() < MEGABYTE {
        write!(text, "{} 안녕 ", text.len()).unwrap();
    }
    text.truncate(text.floor_char_boundary(MEGABYTE));
    vec![
        ("text/plain", Bytes::new()),
        ("application/octet-stream", Bytes::new()),
        ("application/octet-stream", every.clone().into()),
        ("text/plain", Bytes::from_static(b"caf\xe9 \x80\xff")),
        ("text/plain", Bytes::from_static(b"\0\0")),
        ("text/plain", Bytes::from_static(b"\r\n\\n\xef\xbb\xbf\0")),
        ("text/plain;charset=utf-8", text.into()),
        ("image/png", every.repeat(MEGABYTE / 256).into()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_octets_come_back_as_they_were_inside_one_process() {
    let backend = backend(&[]).await;
    let gateway = backend.gateway(&FLAGS).await;
    there_and_back(&backend, &gateway, &gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_octets_come_back_as_they_were_through_redis_and_sqlite() {
    let redis = Redis::start().await;
    let backend = redis_backend(&redis, &["--recent-max", "3"]).await;
    let gateways = [backend.gateway(&FLAGS).await, backend.gateway(&FLAGS).await];
    there_and_back(&backend, &gateways[0], &gateways[1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_octets_come_back_as_they_were_through_redis_and_mongodb() {
    let (redis, mongo) = (Redis::start().await, Mongo::shared().await);
    let backend = mongo_backend(&redis, mongo, &["--recent-max", "3"]).await;
    let gateways = [backend.gateway(&FLAGS).await, backend.gateway(&FLAGS).await];
    there_and_back(&backend, &gateways[0], &gateways[1]).await;
}

async fn there_and_back(backend: &Backend, one: &Running, other: &Running) {
    let storing = backend.storing().await;
    let mut reader = other.client("reader").await;
    reader.subscribe("s", "/topic/rooms/r", &[]).await.unwrap();
    let mut sender = one.client("sender").await;
    let bodies = bodies();
    for (number, (content_type, body)) in bodies.iter().enumerate() {
        let receipt = number.to_string();
        let headers = [
            ("content-type", *content_type),
            ("receipt", &*receipt),
            ("receipt-after", "stored"),
        ];
        sender
            .send("/app/rooms/r", body.clone(), &headers)
            .await
            .unwrap();
        sender.receipt(&receipt).await.unwrap();
    }

    let live = taken(&mut reader, bodies.len()).await;
    assert_same(&live, &bodies);
    let first = live[0].header("message-id").unwrap();

    let mut late = one.client("late").await;
    let history = [("history", "50")];
    late.subscribe("h", "/topic/rooms/r", &history)
        .await
        .unwrap();
    assert_same(&taken(&mut late, bodies.len()).await, &bodies);
    let after = [("after", first)];
    late.subscribe("a", "/topic/rooms/r", &after).await.unwrap();
    assert_same(&taken(&mut late, bodies.len() - 1).await, &bodies[1..]);

    let mut stream = TcpStream::connect(&other.address).await.unwrap();
    let request = format!(
        "GET /api/rooms/r/messages HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        other.address
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let page = answer(&mut stream).await.json();
    let page = page["messages"].as_array().unwrap();
    assert_eq!(page.len(), bodies.len());
    for (shown, (content_type, body)) in page.iter().zip(&bodies) {
        assert_eq!(shown["contentType"], *content_type);
        let octets = match shown["body"].as_str() {
            Some(text) => text.as_bytes().to_vec(),
            None => BASE64_STANDARD
                .decode(shown["bodyBase64"].as_str().unwrap())
                .unwrap(),
        };
        assert!(octets == *body, "{content_type}: {} octets", octets.len());
    }
    storing.abort();
}

async fn taken(client: &mut StompClient, count: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    for _ in 0..count {
        frames.push(client.message().await.unwrap());
    }
    frames
}

fn assert_same(frames: &[Frame], bodies: &[(&str, Bytes)]) {
    for (frame, (content_type, body)) in frames.iter().zip(bodies) {
        assert_eq!(frame.header("content-type"), Some(*content_type));
        assert_eq!(
            frame.header("content-length"),
            Some(&*body.len().to_string())
        );
        // Not assert_eq: a megabyte is not to be printed.
        assert!(
            frame.body == body,
            "{content_type}: {} octets",
            frame.body.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_megabytes_in_flight_pass_no_bound() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let flags = ["--max-frame-bytes", "1025KiB", "--max-outbox-bytes", "4MiB"];
    let gateway = backend.gateway(&flags).await;
    let mut readers = Vec::new();
    for number in 0..2 {
        let mut reader = gateway.client(&format!("reader{number}")).await;
        reader.subscribe("s", "/topic/rooms/r", &[]).await.unwrap();
        readers.push(reader);
    }
    // At the limit to the octet, and none is waited for.
    let limit = 1025 << 10;
    let head = |number| format!("SEND\ndestination:/app/rooms/r\nreceipt:{number}\n\n{number}");
    let filler = "x".repeat(limit - head(0).len() - 1);
    let mut sender = Wire::connected(&gateway, "1.2").await;
    let sending = async {
        for number in 0..8 {
            sender.send(&format!("{}{filler}\0", head(number))).await;
        }
        for number in 0..8 {
            sender
                .expect(&format!(
                    "RECEIPT\nreceipt-id:{number}\nmessage-id:*\ncreated-at:*\n\n\0"
                ))
                .await;
        }
    };
    let reading = async {
        for number in 0..8 {
            for reader in &mut readers {
                let message = reader.message().await.unwrap();
                assert_eq!(message.body.len(), filler.len() + 1);
                assert_eq!(message.body[0], b'0' + number);
                let waiting = gateway.metrics.gateway.outbox_bytes.get();
                assert!(
                    waiting <= 2 * (4 << 20),
                    "{waiting} octets wait for two clients"
                );
            }
        }
    };
    tokio::join!(sending, reading);

    sender.send(&format!("{}{filler}x\0", head(8))).await;
    let error = sender.next().await;
    assert!(error.contains("\ncode:frame-too-large\n"), "{error:?}");
    assert!(
        error.ends_with(&format!("the frame is larger than {limit} octets\0")),
        "{error:?}"
    );
    sender.expect_close(1009).await;
    assert_eq!(gateway.metrics.gateway.outbox_bytes.get(), 0);
    storing.abort();
}
