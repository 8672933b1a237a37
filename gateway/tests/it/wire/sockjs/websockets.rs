//! SockJS's frames on a WebSocket, and a WebSocket without them.

use futures_util::StreamExt;
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Message};

use super::http::request;
use crate::running::{Running, backend};
use crate::wire::Wire;

async fn open(gateway: &Running, path: &str) -> Wire {
    let stream = TcpStream::connect(&gateway.address).await.unwrap();
    let url = format!("ws://{}{path}", gateway.address);
    let request = ClientRequestBuilder::new(url.parse().unwrap());
    let (socket, _) = client_async(request, stream).await.unwrap();
    Wire { socket }
}

#[tokio::test]
async fn a_web_socket_carries_the_frames_of_sockjs() {
    let backend = backend(&["--recent-max", "10"]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&[]).await;
    let mut wire = open(&gateway, "/sockjs/000/a/websocket").await;
    wire.expect("o").await;
    // Nothing, an empty array, one string alone, and an array.
    wire.send("").await;
    wire.send("[]").await;
    wire.send(r#""CONNECT\naccept-version:1.2\n""#).await;
    wire.send(r#"["login:kim\n\n\u0000SUBSCRIBE\nid:0\n","destination:/topic/rooms/r\nreceipt:s\n\n\u0000"]"#)
        .await;
    wire.expect(
        r#"a["CONNECTED\nversion:1.2\nheart-beat:10000,10000\nsession:*\nserver:roomcast/*\nuser-name:kim\n\n\u0000"]"#,
    )
    .await;
    wire.expect(r#"a["RECEIPT\nreceipt-id:s\n\n\u0000"]"#).await;
    wire.send(r#"["SEND\ndestination:/app/rooms/r\n\n\u2028\u0000"]"#)
        .await;
    wire.expect(
        r#"a["MESSAGE\nsubscription:0\nmessage-id:*\ndestination:/topic/rooms/r\nsender:kim\ncreated-at:*\ncontent-length:3\n\n\u2028\u0000"]"#,
    )
    .await;
    wire.send(r#"["DISCONNECT\nreceipt:bye\n\n\u0000"]"#).await;
    wire.expect(r#"a["RECEIPT\nreceipt-id:bye\n\n\u0000"]"#)
        .await;
    wire.expect(r#"c[1000,"The client disconnected."]"#).await;
    wire.expect_close(1000).await;
    let served = &gateway.metrics.gateway.connections_total;
    assert_eq!(served.with_label_values(&["sockjs-websocket"]).get(), 1);
    storing.abort();
}

#[tokio::test]
async fn broken_json_is_an_error_and_ends_the_web_socket() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for broken in ["[\"a", "{}", "[1]", "x"] {
        let mut wire = open(&gateway, "/sockjs/000/a/websocket").await;
        wire.expect("o").await;
        wire.send(broken).await;
        wire.expect(r#"a["ERROR\nmessage:*\ncode:malformed-frame\ncontent-type:text/plain\ncontent-length:*"]"#)
            .await;
        wire.expect(r#"c[1002,"The frame is malformed."]"#).await;
        wire.expect_close(1002).await;
    }
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_web_socket() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let mut wire = open(&gateway, "/sockjs/000/a/websocket").await;
    wire.expect("o").await;
    // Escapes do not count.
    let fits = "\\u000a".repeat(60 << 10);
    wire.send(&format!(
        "[\"CONNECT\\naccept-version:1.2\\nlogin:kim\\n\\n\\u0000{fits}\"]"
    ))
    .await;
    wire.expect("a[\"CONNECTED*\"]").await;
    wire.send(&format!("[\"{}\"]", "x".repeat(70 << 10))).await;
    wire.expect(
        r#"a["ERROR\nmessage:*\ncode:frame-too-large\ncontent-type:text/plain\ncontent-length:*"]"#,
    )
    .await;
    wire.expect(r#"c[1009,"The frame is larger than this server allows."]"#)
        .await;
    wire.expect_close(1009).await;
}

#[tokio::test]
async fn many_small_messages_at_once_end_the_web_socket() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let mut wire = open(&gateway, "/sockjs/000/a/websocket").await;
    wire.expect("o").await;
    wire.send(&format!("[{}\"\"]", "\"\",".repeat(100_000)))
        .await;
    wire.expect(
        r#"a["ERROR\nmessage:*\ncode:frame-too-large\ncontent-type:text/plain\ncontent-length:*"]"#,
    )
    .await;
    wire.expect(r#"c[1009,"The frame is larger than this server allows."]"#)
        .await;
    wire.expect_close(1009).await;
}

#[tokio::test]
async fn two_web_sockets_may_have_one_id() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let mut first = open(&gateway, "/sockjs/000/a/websocket").await;
    let mut second = open(&gateway, "/sockjs/000/a/websocket").await;
    for wire in [&mut first, &mut second] {
        wire.expect("o").await;
        wire.send(r#"["CONNECT\naccept-version:1.2\nlogin:kim\n\n\u0000"]"#)
            .await;
        wire.expect("a[\"CONNECTED*\"]").await;
    }
}

#[tokio::test]
async fn the_raw_web_socket_has_no_frames_of_sockjs() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let mut wire = open(&gateway, "/sockjs/websocket").await;
    wire.send("CONNECT\naccept-version:1.2\nlogin:kim\n\n\0")
        .await;
    wire.expect(
        "CONNECTED\nversion:1.2\nheart-beat:10000,10000\nsession:*\nserver:roomcast/*\nuser-name:kim\n\n\0",
    )
    .await;
    wire.send("DISCONNECT\n\n\0").await;
    wire.expect_close(1000).await;
    let served = &gateway.metrics.gateway.connections_total;
    assert_eq!(served.with_label_values(&["raw-websocket"]).get(), 1);
}

#[tokio::test]
async fn a_server_that_stops_says_so_in_a_frame_of_sockjs() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let mut wire = open(&gateway, "/sockjs/000/a/websocket").await;
    wire.expect("o").await;
    gateway.stop.cancel();
    wire.expect(r#"c[1012,"This server is restarting."]"#).await;
    match wire.socket.next().await {
        Some(Ok(Message::Close(Some(frame)))) => assert_eq!(u16::from(frame.code), 1012),
        other => panic!("a Close was expected, not {other:?}"),
    }
}

#[tokio::test]
async fn a_request_that_is_no_upgrade_or_of_a_foreign_page_is_refused() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for path in ["/sockjs/websocket", "/sockjs/0/a/websocket"] {
        let line = format!("GET {path}");
        let mut reply = request(&gateway.address, &line, &[], b"").await;
        let told = "Can \"Upgrade\" only to \"WebSocket\".\n";
        assert_eq!((reply.status, &*reply.text().await), (400, told));
        let headers = [
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Origin: https://evil.example",
        ];
        assert_eq!(
            request(&gateway.address, &line, &headers, b"").await.status,
            403
        );
    }
}
