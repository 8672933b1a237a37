//! The opening handshake, RFC 6455, section 4.2.

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

use crate::serving::{Answer, DEADLINE, Serving, head, serving};

/// The key of RFC 6455, section 1.3, and what it says the answer to it is.
const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Asks for an upgrade with these headers beside or instead of the usual ones, by name.
async fn upgrade(serving: &Serving, headers: &[&str]) -> (Answer, TcpStream) {
    let host = format!("Host: {}", serving.address);
    let usual = [
        &*host,
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        KEY,
    ];
    let name = |line: &str| line.split(':').next().unwrap().to_owned();
    let kept = usual
        .iter()
        .filter(|line| headers.iter().all(|given| name(given) != name(line)));
    let lines = ["GET /ws HTTP/1.1"].iter().chain(kept).chain(headers);
    // A header without a value takes one of the usual away.
    let lines: Vec<_> = lines.copied().filter(|line| !line.ends_with(':')).collect();
    let mut stream = serving.connect().await;
    let request = format!("{}\r\n\r\n", lines.join("\r\n"));
    stream.write_all(request.as_bytes()).await.unwrap();
    (head(&mut stream).await, stream)
}

#[tokio::test]
async fn a_connection_becomes_a_web_socket() {
    let serving = serving(&[]).await;
    let (answer, stream) = upgrade(&serving, &["Connection: keep-alive, upgrade"]).await;
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("Sec-WebSocket-Accept"), Some(ACCEPT));
    assert_eq!(answer.header("Sec-WebSocket-Extensions"), None);
    let mut client = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    client.send(Message::text("there and back")).await.unwrap();
    assert_eq!(
        client.next().await.unwrap().unwrap(),
        Message::binary("there and back")
    );
    client.close(None).await.unwrap();
    assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))));

    serving.stop.cancel();
    serving.tasks.close();
    timeout(DEADLINE, serving.tasks.wait()).await.unwrap();
}

#[tokio::test]
async fn what_a_client_sends_without_waiting_for_the_answer_is_not_lost() {
    let serving = serving(&[]).await;
    let mut stream = serving.connect().await;
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\n{KEY}\r\n\r\n"
    );
    let eager = [request.as_bytes(), b"\x82\x81\0\0\0\0!"].concat();
    stream.write_all(&eager).await.unwrap();
    assert_eq!(head(&mut stream).await.status, 101);
    let mut client = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    assert_eq!(client.next().await.unwrap().unwrap(), Message::binary("!"));
}

#[tokio::test]
async fn subprotocols_may_be_offered_in_several_lines() {
    let serving = serving(&[]).await;
    let lines = [
        "Sec-WebSocket-Protocol: v10.stomp,mqtt",
        "Sec-WebSocket-Protocol: v11.stomp",
    ];
    let (answer, _) = upgrade(&serving, &lines).await;
    assert_eq!(answer.header("Sec-WebSocket-Protocol"), Some("v11.stomp"));
}

#[tokio::test]
async fn a_request_that_is_no_upgrade_is_told_what_is_missing() {
    let serving = serving(&[]).await;
    for (headers, status, code) in [
        (["Upgrade:"], 426, "upgrade-required"),
        (["Upgrade: h2c"], 426, "upgrade-required"),
        (["Connection:"], 426, "upgrade-required"),
        (["Connection: close"], 426, "upgrade-required"),
        (["Sec-WebSocket-Version: 8"], 426, "upgrade-required"),
        (["Sec-WebSocket-Version:"], 426, "upgrade-required"),
        (["Sec-WebSocket-Key:"], 400, "bad-websocket-key"),
        (["Sec-WebSocket-Key: c2hvcnQ="], 400, "bad-websocket-key"),
        (["Sec-WebSocket-Key: ***"], 400, "bad-websocket-key"),
        (["Host:"], 400, "bad-host"),
    ] {
        let (answer, mut stream) = upgrade(&serving, &headers).await;
        assert_eq!(answer.status, status, "{headers:?}");
        if status == 426 {
            assert_eq!(
                answer.header("Sec-WebSocket-Version"),
                Some("13"),
                "{headers:?}"
            );
            assert_eq!(answer.header("Upgrade"), Some("websocket"), "{headers:?}");
        }
        let length = answer.header("Content-Length").unwrap().parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["error"]["code"], code, "{headers:?}");
    }
    let answer = serving.ask(&["POST /ws HTTP/1.1"]).await;
    assert_eq!((answer.status, answer.header("Allow")), (405, Some("GET")));
}

#[tokio::test]
async fn a_server_that_stops_takes_no_new_web_socket_and_leaves_the_old_ones() {
    let serving = serving(&[]).await;
    let (_, old) = upgrade(&serving, &[]).await;
    // Its request is under way when the server stops.
    let mut late = serving.connect().await;
    late.write_all(b"GET /ws HTTP/1.1\r\n").await.unwrap();
    serving.stop.cancel();
    serving.tasks.close();
    let rest = format!(
        "Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         {KEY}\r\n\r\n"
    );
    // The connection may be closed already, which is an answer too.
    if late.write_all(rest.as_bytes()).await.is_ok() {
        let mut octets = Vec::new();
        let read = late.read_to_end(&mut octets);
        let _reset_or_end = timeout(DEADLINE, read).await.unwrap();
        assert!(
            !octets.starts_with(b"HTTP/1.1 101"),
            "{}",
            String::from_utf8_lossy(&octets)
        );
    }
    let mut old = WebSocketStream::from_raw_socket(old, Role::Client, None).await;
    old.send(Message::text("still")).await.unwrap();
    assert_eq!(old.next().await.unwrap().unwrap(), Message::binary("still"));
    old.close(None).await.unwrap();
    timeout(DEADLINE, serving.tasks.wait()).await.unwrap();
    assert!(TcpStream::connect(&serving.address).await.is_err());
}
