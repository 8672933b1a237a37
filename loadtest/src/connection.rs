//! One STOMP connection over WebSocket, as a user's program has it.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use shared::stomp::{
    Command, DecodeError, Decoded, Decoder, Frame, Limits, Version, encode, heartbeat,
};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::http::uri::InvalidUri;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::config::GatewayUrl;
use crate::pass::{Octets, Pass};

/// What a gateway that does not read may make one user hold back, in octets.
const MAX_UNSENT: usize = 16 << 20;

/// How long a DISCONNECT may take to leave.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why a user could not connect, or was cut off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The URL has characters that no URL has.
    #[error("{0}")]
    Url(#[from] InvalidUri),
    /// The connection failed.
    #[error("{0}")]
    WebSocket(Box<tungstenite::Error>),
    /// The gateway closed, with the code where it gave one.
    #[error("the gateway closed the connection{}", .0.map(|code| format!(" with code {code}")).unwrap_or_default())]
    Closed(Option<u16>),
    /// The gateway sent ERROR.
    #[error("ERROR from the gateway: {message}{}", .code.as_deref().map(|code| format!(" ({code})")).unwrap_or_default())]
    Refused {
        /// For people.
        message: String,
        /// For programs, where there is one.
        code: Option<String>,
    },
    /// The gateway sent what is no STOMP, or not what should come.
    #[error("{0}")]
    Protocol(#[from] DecodeError),
    /// The same, as the light path sees it.
    #[error("the server sent {0}")]
    Wire(&'static str),
    /// The answer to the WebSocket's opening has another status than 101.
    #[error("the server answered the WebSocket's opening with status {0}")]
    Upgrade(u16),
    /// All ports of a source are in use.
    #[error(
        "{address}: no port is left at {from} ({error}); --source ADDRESS adds some 28,000 each"
    )]
    Ports {
        /// Where it was to leave from.
        from: IpAddr,
        /// Where it was to go.
        address: SocketAddr,
        /// As the system says it.
        error: std::io::Error,
    },
    /// An address to leave from is not this machine's.
    #[error("--source {0}: {1}")]
    Source(IpAddr, std::io::Error),
    /// This process may open no more files.
    #[error("no descriptor is left: this process may have {0} (ulimit -Hn)")]
    Descriptors(u64),
    /// More waits than one user may hold back.
    #[error("the server has not read what it was sent, 16 MiB by now")]
    Unread,
    /// It did not come about in time.
    #[error("no answer in time")]
    Late,
}

impl From<tungstenite::Error> for ClientError {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
                Self::Closed(None)
            }
            other => Self::WebSocket(Box::new(other)),
        }
    }
}

impl From<std::io::Error> for ClientError {
    fn from(error: std::io::Error) -> Self {
        tungstenite::Error::Io(error).into()
    }
}

impl ClientError {
    /// What an ERROR frame says.
    pub(crate) fn refused(frame: &Frame) -> Self {
        Self::Refused {
            message: frame.header("message").unwrap_or("(no message)").to_owned(),
            code: frame.header("code").map(str::to_owned),
        }
    }
}

/// A connection to a gateway. It writes while it is read.
pub(crate) struct Connection {
    socket: WebSocketStream<Box<dyn Octets>>,
    /// Since when what was queued has been on its way to the socket.
    unflushed: Option<Instant>,
    decoder: Decoder,
}

impl Connection {
    /// Connects to a gateway, up to the end of the WebSocket's opening. The kernel holds back about
    /// `receive_buffer` octets from a user who does not read; as many as it likes where there is
    /// none.
    ///
    /// # Errors
    /// [`ClientError`] of whichever step failed. There is no deadline here.
    pub(crate) async fn dial(
        gateway: &GatewayUrl,
        pass: &Pass,
        receive_buffer: Option<u32>,
    ) -> Result<Self, ClientError> {
        let request =
            ClientRequestBuilder::new(gateway.as_str().parse()?).with_sub_protocol("v12.stomp");
        let stream = match receive_buffer {
            None => TcpStream::connect(gateway.authority()).await?,
            Some(octets) => {
                let mut addresses = lookup_host(gateway.authority()).await?;
                let Some(address) = addresses.next() else {
                    return Err(std::io::Error::from(std::io::ErrorKind::NotFound).into());
                };
                let socket = match address.is_ipv4() {
                    true => TcpSocket::new_v4()?,
                    false => TcpSocket::new_v6()?,
                };
                socket.set_recv_buffer_size(octets)?;
                socket.connect(address).await?
            }
        };
        stream.set_nodelay(true)?;
        let stream = pass.secure(gateway, stream).await?;
        // The library's own buffers are 128 KiB each, which many users cannot afford.
        let config = WebSocketConfig::default()
            .read_buffer_size(4096)
            .write_buffer_size(4096)
            .max_write_buffer_size(MAX_UNSENT);
        let (socket, _) = client_async_with_config(request, stream, Some(config)).await?;
        let limits = Limits {
            frame_bytes: 32 << 20,
            ..Limits::default()
        };
        let mut decoder = Decoder::new(limits);
        decoder.set_version(Version::V1_2);
        Ok(Self {
            socket,
            unflushed: None,
            decoder,
        })
    }

    /// CONNECT as `user`, with its token where it needs one, offering and wanting heart-beats of this interval, none where it is zero.
    /// Returns how often each side is to show that it lives: this one first.
    ///
    /// # Errors
    /// [`ClientError`] where CONNECTED does not come. There is no deadline here.
    pub(crate) async fn connect(
        &mut self,
        user: &str,
        pass: &Pass,
        interval: Duration,
    ) -> Result<(Option<Duration>, Option<Duration>), ClientError> {
        let ms = u32::try_from(interval.as_millis()).unwrap_or(u32::MAX);
        let frame = Frame::new(Command::Connect)
            .with("accept-version", "1.2")
            .with("heart-beat", &format!("{ms},{ms}"));
        self.queue(&match pass.token(user) {
            Some(token) => frame.with("Authorization", &format!("Bearer {token}")),
            None => frame.with("login", user),
        })?;
        let connected = self.confirmed(Command::Connected).await?;
        let server = connected
            .header("heart-beat")
            .and_then(|header| heartbeat::parse_header(header).ok())
            .unwrap_or((0, 0));
        // Negotiated as the server does it: what goes out there comes in here.
        let agreed = heartbeat::negotiate(server, (ms, ms));
        Ok((agreed.incoming, agreed.outgoing))
    }

    /// The next frame that is `command`; those before it are dropped.
    ///
    /// # Errors
    /// [`ClientError`], also where an ERROR comes instead. There is no deadline here.
    pub(crate) async fn confirmed(&mut self, command: Command) -> Result<Frame, ClientError> {
        loop {
            match self.next().await? {
                Decoded::Frame(frame) if frame.command == command => return Ok(frame),
                Decoded::Frame(frame) if frame.command == Command::Error => {
                    return Err(ClientError::refused(&frame));
                }
                Decoded::Frame(_) | Decoded::HeartBeat => {}
            }
        }
    }

    /// Hands a frame over; [`next`](Self::next) and [`flush`](Self::flush) write it.
    ///
    /// # Errors
    /// [`ClientError`] where the connection has ended, or more waits than it may.
    pub(crate) fn queue(&mut self, frame: &Frame) -> Result<(), ClientError> {
        let octets = encode(frame, Version::V1_2);
        let message = match octets.try_into() {
            Ok(text) => Message::Text(text),
            Err(_) => Message::Binary(encode(frame, Version::V1_2)),
        };
        self.start(message)
    }

    /// Hands over a heart-beat (STOMP 1.2, Heart-beating).
    ///
    /// # Errors
    /// As [`queue`](Self::queue).
    pub(crate) fn beat(&mut self) -> Result<(), ClientError> {
        self.start(Message::Text("\n".into()))
    }

    /// Since when what was queued has not all been taken by the socket.
    pub(crate) fn unflushed_since(&self) -> Option<Instant> {
        self.unflushed
    }

    /// The next frame or heart-beat. Writes what is queued meanwhile, so that a gateway which waits
    /// for this side to read cannot make both wait for ever. Safe to cancel.
    ///
    /// # Errors
    /// [`ClientError`] when the connection has ended.
    pub(crate) async fn next(&mut self) -> Result<Decoded, ClientError> {
        loop {
            if let Some(decoded) = self.decoder.next()? {
                return Ok(decoded);
            }
            let octets = self.octets().await?;
            self.decoder.feed(&octets);
        }
    }

    /// Writes what is queued, and reads nothing. Safe to cancel.
    ///
    /// # Errors
    /// [`ClientError`] when the connection has ended.
    pub(crate) async fn flush(&mut self) -> Result<(), ClientError> {
        poll_fn(|cx| match self.poll_flush(cx) {
            Err(error) => Poll::Ready(Err(error)),
            Ok(()) if self.unflushed.is_none() => Poll::Ready(Ok(())),
            Ok(()) => Poll::Pending,
        })
        .await?;
        Ok(())
    }

    /// Leaves with DISCONNECT. Whether it arrives makes no difference to who leaves.
    pub(crate) async fn leave(mut self) {
        let _ = self.queue(&Frame::new(Command::Disconnect));
        let _ = timeout(FAREWELL, self.socket.close(None)).await;
    }

    fn start(&mut self, message: Message) -> Result<(), ClientError> {
        self.socket.start_send_unpin(message)?;
        self.unflushed.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Result<(), tungstenite::Error> {
        if self.unflushed.is_some()
            && let Poll::Ready(flushed) = self.socket.poll_flush_unpin(cx)
        {
            self.unflushed = None;
            flushed?;
        }
        Ok(())
    }

    /// The next WebSocket message with data.
    async fn octets(&mut self) -> Result<Bytes, ClientError> {
        loop {
            let message = poll_fn(|cx| {
                if let Err(error) = self.poll_flush(cx) {
                    return Poll::Ready(Some(Err(error)));
                }
                self.socket.poll_next_unpin(cx)
            });
            match message.await.transpose()? {
                Some(Message::Text(text)) => return Ok(text.into()),
                Some(Message::Binary(octets)) => return Ok(octets),
                Some(Message::Close(frame)) => {
                    return Err(ClientError::Closed(frame.map(|frame| frame.code.into())));
                }
                Some(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                None => return Err(ClientError::Closed(None)),
            }
        }
    }
}
