use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use gateway::session::output::Outgoing;
use gateway::transport::{Incoming, Transport, TransportError, TransportName};
use gateway::websocket::{Socket, WRITE_BUFFER};
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

const LIMIT: usize = 64 << 10;
const QUEUED: usize = 128 << 10;
const DEADLINE: Duration = Duration::from_secs(20);

/// Both ends over a pipe that holds `pipe` octets each way.
async fn piped(pipe: usize) -> (Socket<DuplexStream>, WebSocketStream<DuplexStream>) {
    let (server, client) = tokio::io::duplex(pipe);
    let server = Socket::new(server, &[], TransportName::WebSocket, LIMIT, QUEUED);
    (
        server,
        WebSocketStream::from_raw_socket(client, Role::Client, None).await,
    )
}

async fn over_tcp() -> (Socket<TcpStream>, WebSocketStream<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let server = Socket::new(server, &[], TransportName::WebSocket, LIMIT, QUEUED);
    (
        server,
        WebSocketStream::from_raw_socket(client, Role::Client, None).await,
    )
}

async fn soon<F: Future>(future: F) -> F::Output {
    timeout(DEADLINE, future)
        .await
        .expect("within the test's deadline")
}

#[tokio::test]
async fn text_stays_text_and_octets_stay_octets() {
    let (mut server, mut client) = piped(4096).await;
    server
        .queue(Outgoing::Text(Bytes::from_static("가\0".as_bytes())))
        .unwrap();
    server
        .queue(Outgoing::Binary(Bytes::from_static(b"\xff\0")))
        .unwrap();
    assert!(!server.is_flushed());
    assert_eq!(soon(server.next()).await, Incoming::Flushed);
    assert!(server.is_flushed());
    assert_eq!(
        soon(client.next()).await.unwrap().unwrap(),
        Message::text("가\0")
    );
    assert_eq!(
        soon(client.next()).await.unwrap().unwrap(),
        Message::binary(&b"\xff\0"[..])
    );

    client.send(Message::text("가\0")).await.unwrap();
    client.send(Message::binary(&b"\xff\0"[..])).await.unwrap();
    assert_eq!(
        soon(server.next()).await,
        Incoming::Data(Bytes::from_static("가\0".as_bytes()))
    );
    assert_eq!(
        soon(server.next()).await,
        Incoming::Data(Bytes::from_static(b"\xff\0"))
    );
}

#[tokio::test]
async fn what_was_read_ahead_of_the_upgrade_comes_first() {
    let (server, client) = tokio::io::duplex(4096);
    let ahead = [0x82, 0x81, 0, 0, 0, 0, b'1'];
    let mut server = Socket::new(server, &ahead, TransportName::WebSocket, LIMIT, QUEUED);
    let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
    client.send(Message::text("2")).await.unwrap();
    assert_eq!(
        soon(server.next()).await,
        Incoming::Data(Bytes::from_static(b"1"))
    );
    assert_eq!(
        soon(server.next()).await,
        Incoming::Data(Bytes::from_static(b"2"))
    );
}

#[tokio::test]
async fn a_client_that_does_not_read_is_still_heard() {
    let (mut server, mut client) = piped(1024).await;
    server
        .queue(Outgoing::Binary(vec![0; 20_000].into()))
        .unwrap();
    client.send(Message::text("still here")).await.unwrap();
    assert_eq!(
        soon(server.next()).await,
        Incoming::Data(Bytes::from_static(b"still here"))
    );
    assert!(!server.is_flushed());

    let reading = tokio::spawn(async move { client.next().await.unwrap().unwrap().len() });
    assert_eq!(soon(server.next()).await, Incoming::Flushed);
    assert_eq!(soon(reading).await.unwrap(), 20_000);
}

#[tokio::test]
async fn what_is_pending_for_a_client_that_does_not_read_is_bounded() {
    let (mut server, _client) = piped(1024).await;
    let mut queued = 0;
    let refused = loop {
        match server.queue(Outgoing::Binary(vec![0; 1000].into())) {
            Ok(()) => queued += 1000,
            Err(error) => break error,
        }
        assert_eq!(
            server.has_room(),
            queued + 10 * (queued / 1000) < WRITE_BUFFER
        );
        assert!(queued <= WRITE_BUFFER + QUEUED + 1024);
    };
    assert_eq!(refused, TransportError::Full);
    assert!(queued >= QUEUED);
}

#[tokio::test]
async fn a_ping_is_answered_while_nothing_else_happens() {
    let (mut server, mut client) = piped(4096).await;
    let serving = tokio::spawn(async move {
        let first = server.next().await;
        (first, server.next().await)
    });
    client
        .send(Message::Ping(Bytes::from_static(b"?")))
        .await
        .unwrap();
    let answer = soon(client.next()).await.unwrap().unwrap();
    assert_eq!(answer, Message::Pong(Bytes::from_static(b"?")));
    client.close(None).await.unwrap();
    let heard = soon(serving).await.unwrap();
    assert_eq!(heard, (Incoming::Alive, Incoming::Closed));
}

#[tokio::test]
async fn a_client_can_be_asked_for_a_sign_of_life() {
    let (mut server, mut client) = piped(4096).await;
    server.queue(Outgoing::Ping).unwrap();
    soon(server.flush()).await.unwrap();
    assert!(matches!(
        soon(client.next()).await.unwrap().unwrap(),
        Message::Ping(_)
    ));
    soon(client.flush()).await.unwrap();
    assert_eq!(soon(server.next()).await, Incoming::Alive);
}

#[tokio::test]
async fn the_last_message_reaches_a_client_that_sends_too_much() {
    let (mut server, client) = over_tcp().await;
    let (mut sink, mut stream) = client.split();
    // It never stops sending by itself, so octets are always unread when the server closes.
    let sending = tokio::spawn(async move {
        while sink.send(Message::binary(vec![0; LIMIT + 1])).await.is_ok() {}
    });
    assert_eq!(soon(server.next()).await, Incoming::TooLarge);
    let closing = tokio::spawn(async move {
        server
            .queue(Outgoing::Text(Bytes::from_static(b"ERROR")))
            .unwrap();
        server
            .close(1009, "too large", Duration::from_secs(1))
            .await;
    });
    assert_eq!(
        soon(stream.next()).await.unwrap().unwrap(),
        Message::text("ERROR")
    );
    let Message::Close(Some(close)) = soon(stream.next()).await.unwrap().unwrap() else {
        panic!("no Close after ERROR");
    };
    assert_eq!(
        (u16::from(close.code), close.reason.as_str()),
        (1009, "too large")
    );
    soon(closing).await.unwrap();
    soon(sending).await.unwrap();
}

#[tokio::test]
async fn a_close_waits_for_the_client_to_read_everything() {
    let (mut server, mut client) = piped(64).await;
    for _ in 0..100 {
        server
            .queue(Outgoing::Text(Bytes::from_static(&[b'x'; 500])))
            .unwrap();
    }
    let closing = tokio::spawn(async move {
        server.close(1012, &"가".repeat(100), DEADLINE).await;
    });
    for _ in 0..100 {
        assert_eq!(soon(client.next()).await.unwrap().unwrap().len(), 500);
    }
    let Message::Close(Some(close)) = soon(client.next()).await.unwrap().unwrap() else {
        panic!("no Close after the messages");
    };
    assert_eq!(close.reason.as_str(), "가".repeat(41));
    assert!(soon(client.next()).await.is_none());
    soon(closing).await.unwrap();
}

#[tokio::test]
async fn a_close_does_not_wait_for_ever_for_a_client_that_is_silent() {
    let (mut server, client) = piped(64).await;
    server
        .queue(Outgoing::Binary(vec![0; 1000].into()))
        .unwrap();
    soon(server.close(1000, "", Duration::from_millis(20))).await;
    drop(client);
}

#[tokio::test]
async fn the_close_of_a_client_is_answered() {
    let (mut server, mut client) = piped(4096).await;
    client.close(None).await.unwrap();
    assert_eq!(soon(server.next()).await, Incoming::Closed);
    soon(server.close(1000, "", DEADLINE)).await;
    assert!(matches!(
        soon(client.next()).await,
        Some(Ok(Message::Close(None)))
    ));
    assert!(soon(client.next()).await.is_none());
}

#[tokio::test]
async fn a_client_that_vanishes_has_closed() {
    let (mut server, client) = over_tcp().await;
    drop(client);
    assert_eq!(soon(server.next()).await, Incoming::Closed);
    soon(server.close(1000, "", DEADLINE)).await;
}

#[tokio::test]
async fn a_breach_of_the_protocol_is_told_from_a_closed_connection() {
    let (server, mut client) = tokio::io::duplex(4096);
    let mut server = Socket::new(server, &[], TransportName::WebSocket, LIMIT, QUEUED);
    // RFC 6455, section 5.1: a client masks its frames.
    tokio::io::AsyncWriteExt::write_all(&mut client, b"\x81\x01x")
        .await
        .unwrap();
    assert!(matches!(soon(server.next()).await, Incoming::Failed(_)));
}
