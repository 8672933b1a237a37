//! Clients over TLS.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use harness::{Authority, StompClient, StompOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::{
    ClientConfig, HandshakeKind, ProtocolVersion, SupportedProtocolVersion,
};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use super::{encrypted, secure, tls_flags};
use crate::running::backend;
use crate::serving::{DEADLINE, Serving, answer};

/// A client's settings with one version of TLS.
fn speaking(
    authority: &Authority,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let pem = std::fs::read(authority.file()).unwrap();
    let certificate = tokio_rustls::rustls::pki_types::pem::PemObject::from_pem_slice(&pem);
    let mut roots = tokio_rustls::rustls::RootCertStore::empty();
    roots.add(certificate.unwrap()).unwrap();
    let config = ClientConfig::builder_with_protocol_versions(&[version])
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// Asks for something on a connection of its own.
async fn ask(config: &Arc<ClientConfig>, serving: &Serving) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(&serving.address).await.unwrap();
    let mut stream = secure(Arc::clone(config), stream).await.unwrap();
    let request = b"GET /sockjs/info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    // To the end, which is in order: without `close_notify` this would fail.
    let answer = answer(&mut stream).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("entropy"));
    stream
}

#[tokio::test]
async fn http_is_answered_over_both_versions_and_a_client_that_comes_back_resumes() {
    let (authority, serving) = encrypted(&[]).await;
    for (version, named) in [
        (
            &tokio_rustls::rustls::version::TLS12,
            ProtocolVersion::TLSv1_2,
        ),
        (
            &tokio_rustls::rustls::version::TLS13,
            ProtocolVersion::TLSv1_3,
        ),
    ] {
        let config = speaking(&authority, version);
        let first = ask(&config, &serving).await;
        assert_eq!(first.get_ref().1.protocol_version(), Some(named));
        let again = ask(&config, &serving).await;
        let kind = again.get_ref().1.handshake_kind();
        assert_eq!(kind, Some(HandshakeKind::Resumed), "{named:?}");
    }
}

#[tokio::test]
async fn http_1_1_is_chosen_where_the_client_offers_several() {
    let (authority, serving) = encrypted(&[]).await;
    let mut config = (*authority.client()).clone();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = ask(&Arc::new(config), &serving).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[tokio::test]
async fn large_messages_pass_both_ways_while_nobody_reads_and_the_end_is_in_order() {
    let flags = ["--max-frame-bytes", "4MiB", "--max-outbox-bytes", "64MiB"];
    let (authority, serving) = encrypted(&flags).await;
    let stream = TcpStream::connect(&serving.address).await.unwrap();
    let stream = secure(authority.client(), stream).await.unwrap();
    let request = format!("wss://{}/ws", serving.address);
    let request = request.into_client_request().unwrap();
    let (client, _) = tokio_tungstenite::client_async(request, stream)
        .await
        .unwrap();
    let (mut sink, mut source) = client.split();
    let body: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    let message = Message::binary(body);
    let sent = message.clone();
    let sending = tokio::spawn(async move {
        for _ in 0..8 {
            sink.send(sent.clone()).await.unwrap();
        }
        sink
    });
    for _ in 0..8 {
        let echo = timeout(DEADLINE, source.next()).await.unwrap();
        assert!(echo.unwrap().unwrap() == message, "octets were changed");
    }
    let sink = sending.await.unwrap();
    let mut client = sink.reunite(source).unwrap();
    let farewell = CloseFrame {
        code: CloseCode::Away,
        reason: "".into(),
    };
    client.close(Some(farewell)).await.unwrap();
    let closing = timeout(DEADLINE, client.next()).await.unwrap();
    let Some(Ok(Message::Close(Some(frame)))) = closing else {
        panic!("{closing:?}");
    };
    assert_eq!(frame.code, CloseCode::Away);
    // `close_notify` comes before the end of the connection.
    let mut rest = Vec::new();
    let end = timeout(DEADLINE, client.get_mut().read_to_end(&mut rest)).await;
    assert_eq!(end.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn members_over_tls_get_what_members_send() {
    let authority = Authority::new();
    let files = tls_flags(&authority, "server");
    let files: Vec<_> = files.iter().map(String::as_str).collect();
    let backend = backend(&[]).await;
    let limits = ["--max-frame-bytes", "1MiB", "--max-outbox-bytes", "16MiB"];
    let gateway = backend.gateway(&[&files[..], &limits].concat()).await;
    let _storing = backend.storing().await;
    let options = |user: &str| StompOptions {
        tls: Some(authority.client()),
        ..StompOptions::login(user)
    };
    for path in ["/ws", "/sockjs/websocket"] {
        let url = format!("wss://{}{path}", gateway.address);
        let mut kim = StompClient::connect(&url, options("kim")).await.unwrap();
        let mut lee = StompClient::connect(&url, options("lee")).await.unwrap();
        lee.subscribe("s", "/topic/rooms/r", &[]).await.unwrap();
        let body = "가".repeat(300_000);
        for _ in 0..3 {
            let headers = [("receipt", "r")];
            kim.send("/app/rooms/r", body.clone(), &headers)
                .await
                .unwrap();
            kim.receipt("r").await.unwrap();
            let message = lee.message().await.unwrap();
            assert_eq!(message.header("sender"), Some("kim"));
            assert!(message.body == body, "octets were changed");
        }
        // Who sends what is no STOMP is told so, and the end is a close with its code.
        kim.send_raw(Message::text("NONSENSE\n\n\0")).await.unwrap();
        assert_eq!(kim.close_code().await.unwrap(), Some(1002));
    }
}
