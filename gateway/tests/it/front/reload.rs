//! SIGHUP to a running gateway.

use std::sync::Arc;

use harness::{Authority, Process, Redis, StompClient, StompOptions};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::rustls::{ClientConfig, HandshakeKind};

use super::{secure, tls_flags};
use crate::serving::answer;

async fn gateway(redis: &Redis, folder: &std::path::Path, more: &[&str]) -> Process {
    let (broker, store) = (
        redis.url(),
        format!("sqlite:{}", folder.join("chat.db").display()),
    );
    let own = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let backends = ["--broker", &broker, "--store", &store];
    Process::spawn("gateway", [&own[..], &backends, more].concat())
}

/// The value of a metric, which is 0 where it was never counted.
async fn counted(gateway: &Process, outcome: &str) -> u64 {
    let mut stream = TcpStream::connect(gateway.admin().await).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let name = format!("roomcast_gateway_tls_reloads_total{{outcome=\"{outcome}\"}} ");
    let metrics = answer(&mut stream).await.body;
    let value = metrics.lines().find_map(|line| line.strip_prefix(&name));
    value.map_or(0, |value| value.parse().unwrap())
}

#[tokio::test]
async fn a_new_certificate_serves_new_connections_and_a_bad_one_changes_nothing() {
    let redis = Redis::start().await;
    let folder = tempfile::tempdir().unwrap();
    let before = Authority::new();
    let files = tls_flags(&before, "server");
    let flags: Vec<_> = files.iter().map(String::as_str).collect();
    let gateway = gateway(&redis, folder.path(), &flags).await;
    let line = gateway.line(|line| line.contains("is ready at")).await;
    assert!(line.contains("https://"), "{line}");
    let address = gateway.ready().await;
    let url = format!("wss://{address}/ws");
    let trusting = |authority: &Arc<ClientConfig>, user: &str| StompOptions {
        tls: Some(Arc::clone(authority)),
        ..StompOptions::login(user)
    };
    let old = before.client();
    let mut kim = StompClient::connect(&url, trusting(&old, "kim"))
        .await
        .unwrap();
    kim.subscribe("s", "/topic/rooms/r", &[]).await.unwrap();

    // Half of a pair, then nothing at all: the certificate stays.
    let after = Authority::new();
    let new = after.certify("server", &["127.0.0.1"]);
    std::fs::copy(&new.certificate, &files[1]).unwrap();
    gateway.hang_up().await;
    gateway
        .line(|line| line.contains("ERROR") && line.contains("is not the key"))
        .await;
    harness::until("the failure to be counted", async || {
        counted(&gateway, "failed").await == 1
    })
    .await;
    StompClient::connect(&url, trusting(&old, "lee"))
        .await
        .unwrap();

    std::fs::copy(&new.key, &files[3]).unwrap();
    gateway.hang_up().await;
    harness::until("the new certificate", async || {
        counted(&gateway, "ok").await == 1
    })
    .await;
    let renewed = after.client();
    let mut lee = StompClient::connect(&url, trusting(&renewed, "lee"))
        .await
        .unwrap();
    // Who has a ticket of the old one's time does not come in by it.
    let stream = TcpStream::connect(address).await.unwrap();
    let refused = secure(old, stream).await.unwrap_err();
    assert!(
        refused.to_string().contains("invalid peer certificate"),
        "{refused}"
    );

    // The old connection lives on.
    lee.send("/app/rooms/r", "hello", &[]).await.unwrap();
    assert_eq!(kim.message().await.unwrap().body, "hello");
    let stream = TcpStream::connect(address).await.unwrap();
    let again = secure(renewed, stream).await.unwrap();
    let kind = again.get_ref().1.handshake_kind();
    assert_eq!(kind, Some(HandshakeKind::Resumed));
}

#[tokio::test]
async fn a_gateway_without_anything_to_read_anew_goes_on() {
    let redis = Redis::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = gateway(&redis, folder.path(), &[]).await;
    let address = gateway.ready().await;
    gateway.hang_up().await;
    gateway.hang_up().await;
    let url = format!("ws://{address}/ws");
    StompClient::connect(&url, StompOptions::login("kim"))
        .await
        .unwrap();
    assert!(gateway.runs());
}
