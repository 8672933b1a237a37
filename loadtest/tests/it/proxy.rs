//! A WebSocket proxy that spoils one frame on its way from the gateway to a client. What is asked of
//! the HTTP API passes as it is.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{accept_hdr_async, client_async};

/// What happens to the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// Every frame passes as it is.
    None,
    /// It never arrives.
    Drop,
    /// It arrives twice.
    Repeat,
    /// It arrives after the one that follows it.
    Swap,
    /// It never arrives, and its connection ends.
    End,
}

/// Passes connections on to a gateway and does the damage once: to the frame of `command` with
/// this number, counted over all connections.
pub(crate) async fn start(
    gateway: SocketAddr,
    command: &'static str,
    nth: usize,
    damage: Damage,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/ws", listener.local_addr().unwrap());
    let counted = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let spoiler = Spoiler {
                command,
                nth,
                damage,
                counted: Arc::clone(&counted),
                kept: VecDeque::new(),
            };
            // An error ends the connection on both sides, which is all that a proxy can do.
            tokio::spawn(async move { pass(client, gateway, spoiler).await });
        }
    });
    url
}

struct Spoiler {
    command: &'static str,
    nth: usize,
    damage: Damage,
    counted: Arc<AtomicUsize>,
    kept: VecDeque<Message>,
}

impl Spoiler {
    /// What to pass on for a message from the gateway; `None` where the connection ends.
    fn spoil(&mut self, message: Message) -> Option<Vec<Message>> {
        let is_counted = message
            .to_text()
            .is_ok_and(|text| text.starts_with(self.command));
        let is_chosen = is_counted && self.counted.fetch_add(1, Ordering::SeqCst) == self.nth;
        if is_chosen && self.damage == Damage::End {
            return None;
        }
        Some(match self.damage {
            Damage::Drop if is_chosen => Vec::new(),
            Damage::Repeat if is_chosen => vec![message.clone(), message],
            Damage::Swap if is_chosen => {
                self.kept.push_back(message);
                Vec::new()
            }
            _ if is_counted => [message].into_iter().chain(self.kept.drain(..)).collect(),
            _ => vec![message],
        })
    }
}

async fn pass(
    mut client: TcpStream,
    gateway: SocketAddr,
    mut spoiler: Spoiler,
) -> Result<(), Box<Error>> {
    let mut server = TcpStream::connect(gateway).await.map_err(Error::Io)?;
    let mut start = [0; 9];
    let length = client.peek(&mut start).await.map_err(Error::Io)?;
    if start[..length].starts_with(b"GET /api/") {
        let copied = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        copied.map_err(Error::Io)?;
        return Ok(());
    }
    #[expect(
        clippy::result_large_err,
        reason = "the library's callback has this type"
    )]
    let select = |_: &Request, mut response: Response| {
        let protocol = HeaderValue::from_static("v12.stomp");
        response
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", protocol);
        Ok(response)
    };
    let mut client = accept_hdr_async(client, select).await?;
    let uri: Uri = format!("ws://{gateway}/ws").parse().unwrap();
    let request = ClientRequestBuilder::new(uri).with_sub_protocol("v12.stomp");
    let (mut server, _) = client_async(request, server).await?;
    loop {
        tokio::select! {
            message = client.next() => match message {
                Some(message) => server.send(message?).await?,
                None => return Ok(()),
            },
            message = server.next() => match message {
                Some(message) => {
                    let Some(passed) = spoiler.spoil(message?) else {
                        return Ok(());
                    };
                    for message in passed {
                        client.send(message).await?;
                    }
                }
                None => return Ok(()),
            },
        }
    }
}
