//! What clients rely on, octet by octet, through real WebSockets: one test for each line of the
//! protocol's contract.

mod acknowledgements;
mod clients;
mod connect;
mod destinations;
mod frames;
mod heartbeats;
mod limits;
mod message;
mod past;
pub(crate) mod raw;
mod receipts;
mod sockjs;
mod transactions;
mod websocket;

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::running::Running;

const VERSIONS: [&str; 3] = ["1.0", "1.1", "1.2"];

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A client without any knowledge of STOMP.
pub(crate) struct Wire {
    socket: WebSocketStream<TcpStream>,
}

impl Wire {
    /// Upgrades on `/ws` without a subprotocol.
    pub(crate) async fn open(gateway: &Running) -> Self {
        Self::open_at(&gateway.address).await
    }

    pub(crate) async fn open_at(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let url = format!("ws://{address}/ws");
        let request = ClientRequestBuilder::new(url.parse().unwrap());
        let (socket, _) = client_async(request, stream).await.unwrap();
        Self { socket }
    }

    /// Upgrades and connects with this version, without heart-beats.
    pub(crate) async fn connected(gateway: &Running, version: &str) -> Self {
        Self::connected_as(gateway, version, "kim").await
    }

    /// The same as this user.
    pub(crate) async fn connected_as(gateway: &Running, version: &str, user: &str) -> Self {
        Self::connected_at(&gateway.address, version, user).await
    }

    /// The same at this address.
    pub(crate) async fn connected_at(address: &str, version: &str, user: &str) -> Self {
        let mut wire = Self::open_at(address).await;
        let connect = format!("CONNECT\naccept-version:{version}\nlogin:{user}\n\n\0");
        wire.send(&connect).await;
        let connected = wire.next().await;
        assert!(connected.starts_with("CONNECTED\n"), "{connected:?}");
        wire
    }

    /// Sends a text message.
    pub(crate) async fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// Sends a message of any kind.
    pub(crate) async fn send_message(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    /// The next message that is no WebSocket control frame.
    pub(crate) async fn next_message(&mut self) -> Message {
        loop {
            let next = timeout(DEADLINE, self.socket.next()).await;
            match next.expect("a message in time").expect("more") {
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(message) => return message,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The next message, which must be text.
    pub(crate) async fn next(&mut self) -> String {
        match self.next_message().await {
            Message::Text(text) => text.to_string(),
            other => panic!("a text message was expected, not {other:?}"),
        }
    }

    /// The next message must be this text; `*` stands for any octets without a line end.
    pub(crate) async fn expect(&mut self, golden: &str) {
        let text = self.next().await;
        assert!(
            is_like(&text, golden),
            "\n     got {text:?}\nexpected {golden:?}"
        );
    }

    /// The server must close with this code, and say nothing more before.
    pub(crate) async fn expect_close(&mut self, code: u16) {
        match self.next_message().await {
            Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), code),
            other => panic!("a Close was expected, not {other:?}"),
        }
    }
}

/// Whether a text is this one, in which `*` stands for any octets without a line end.
pub(crate) fn is_like(text: &str, golden: &str) -> bool {
    let Some((before, after)) = golden.split_once('*') else {
        return text == golden;
    };
    let Some(rest) = text.strip_prefix(before) else {
        return false;
    };
    let line = rest.find('\n').unwrap_or(rest.len());
    (0..=line).any(|end| rest.is_char_boundary(end) && is_like(&rest[end..], after))
}
