//! One user: a connection that sends when its messages are due and reports what comes.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use shared::message::MessageId;
use shared::stomp::{Command, DecodeError, Decoded, Decoder, Frame, Limits, Version, encode};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::http::uri::InvalidUri;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::body::Stamp;
use crate::config::{GatewayUrl, ReceiptAfter};
use crate::run::{Run, Seat};

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
    #[error("ERROR from the gateway: {0}")]
    Refused(String),
    /// The gateway sent what is no STOMP, or not what should come.
    #[error("{0}")]
    Protocol(#[from] DecodeError),
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

/// A connection on which a user is subscribed to its room.
pub(crate) struct Connection {
    socket: WebSocketStream<TcpStream>,
    unflushed: bool,
    decoder: Decoder,
}

impl Connection {
    /// Connects as `user` and subscribes to `room`; when it returns, the gateway has confirmed
    /// both.
    ///
    /// # Errors
    /// [`ClientError`] of whichever step failed.
    pub(crate) async fn open(
        gateway: &GatewayUrl,
        user: &str,
        room: &str,
    ) -> Result<Self, ClientError> {
        let request =
            ClientRequestBuilder::new(gateway.as_str().parse()?).with_sub_protocol("v12.stomp");
        let stream = TcpStream::connect(gateway.authority())
            .await
            .map_err(tungstenite::Error::Io)?;
        stream.set_nodelay(true).map_err(tungstenite::Error::Io)?;
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
        let mut connection = Self {
            socket,
            unflushed: false,
            decoder,
        };

        connection.queue(
            &Frame::new(Command::Connect)
                .with("accept-version", "1.2")
                .with("login", user)
                .with("heart-beat", "0,0"),
        )?;
        connection.confirmed(Command::Connected).await?;
        connection.queue(
            &Frame::new(Command::Subscribe)
                .with("id", "0")
                .with("destination", &format!("/topic/rooms/{room}"))
                .with("receipt", "subscribed"),
        )?;
        connection.confirmed(Command::Receipt).await?;
        Ok(connection)
    }

    /// Sends and receives until the run stops.
    ///
    /// # Errors
    /// [`ClientError`] when the user was cut off before.
    pub(crate) async fn drive(mut self, mut user: User, run: Arc<Run>) -> Result<(), ClientError> {
        let stop = run.stop.clone();
        let mut stopped = std::pin::pin!(stop.cancelled());
        loop {
            tokio::select! {
                octets = self.octets() => {
                    let octets = octets?;
                    let now = Instant::now();
                    self.decoder.feed(&octets);
                    while let Some(decoded) = self.decoder.next()? {
                        if let Decoded::Frame(frame) = decoded {
                            user.take(&frame, &run, now)?;
                        }
                    }
                }
                () = user.due.notified() => {
                    while let Some(frame) = user.next_due(&run, Instant::now()) {
                        self.queue(&frame)?;
                    }
                }
                () = &mut stopped => break,
            }
        }
        // The run is over: whether the farewell arrives makes no difference to it.
        let _ = self.queue(&Frame::new(Command::Disconnect));
        let _ = timeout(FAREWELL, self.socket.close(None)).await;
        Ok(())
    }

    /// Waits for the frame that confirms a step.
    async fn confirmed(&mut self, command: Command) -> Result<(), ClientError> {
        loop {
            let octets = self.octets().await?;
            self.decoder.feed(&octets);
            while let Some(decoded) = self.decoder.next()? {
                match decoded {
                    Decoded::Frame(frame) if frame.command == command => return Ok(()),
                    Decoded::Frame(frame) if frame.command == Command::Error => {
                        return Err(refused(&frame));
                    }
                    Decoded::Frame(_) | Decoded::HeartBeat => {}
                }
            }
        }
    }

    /// Hands a frame over; [`octets`](Self::octets) writes it.
    fn queue(&mut self, frame: &Frame) -> Result<(), ClientError> {
        let octets = encode(frame, Version::V1_2);
        let message = match octets.try_into() {
            Ok(text) => Message::Text(text),
            Err(_) => Message::Binary(encode(frame, Version::V1_2)),
        };
        self.socket.start_send_unpin(message)?;
        self.unflushed = true;
        Ok(())
    }

    /// The next WebSocket message with data. Writes what is queued meanwhile, so that a gateway
    /// which waits for this side to read cannot make both wait for ever. Safe to cancel.
    async fn octets(&mut self) -> Result<Bytes, ClientError> {
        loop {
            let message = poll_fn(|cx| {
                if self.unflushed
                    && let Poll::Ready(flushed) = self.socket.poll_flush_unpin(cx)
                {
                    self.unflushed = false;
                    if let Err(error) = flushed {
                        return Poll::Ready(Some(Err(error)));
                    }
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

/// A user's part in the run.
pub(crate) struct User {
    /// Where it sits.
    pub seat: Seat,
    /// Its place in the order in which users take turns.
    pub turn: usize,
    /// How many of its messages have been sent.
    pub sent: usize,
    /// Raised by the pacer when a message is due.
    pub due: Arc<Notify>,
    /// Where it sends to.
    pub destination: String,
    /// What its receipts are to wait for.
    pub receipt_after: Option<ReceiptAfter>,
}

impl User {
    /// The SEND that is due, if one is.
    fn next_due(&mut self, run: &Run, now: Instant) -> Option<Frame> {
        let due = run.schedule.due(self.turn, self.sent)?;
        let late = now.checked_duration_since(run.start + due)?;
        let stamp = Stamp {
            user: self.seat.user,
            seq: u32::try_from(self.sent).ok()?,
            due,
        };
        let mut frame = Frame::new(Command::Send)
            .with("destination", &self.destination)
            .with("content-type", "text/plain")
            .with("receipt", &stamp.seq.to_string())
            .with("idempotency-key", &stamp.seq.to_string());
        if let Some(after) = self.receipt_after {
            frame = frame.with("receipt-after", after.as_str());
        }
        run.sent(self.seat, self.sent, due, late);
        self.sent += 1;
        Some(frame.with_body(run.bodies.write(stamp)))
    }

    fn take(&self, frame: &Frame, run: &Run, now: Instant) -> Result<(), ClientError> {
        let id = frame
            .header("message-id")
            .and_then(|id| id.parse::<MessageId>().ok());
        match frame.command {
            Command::Message => {
                run.delivered(self.seat, id, frame.header("sender"), &frame.body, now);
            }
            Command::Receipt => {
                let seq = frame.header("receipt-id").and_then(|id| id.parse().ok());
                run.receipted(self.seat, self.turn, seq, id, now);
            }
            Command::Error => return Err(refused(frame)),
            _ => {}
        }
        Ok(())
    }
}

fn refused(frame: &Frame) -> ClientError {
    let message = frame.header("message").unwrap_or("(no message)");
    let code = frame
        .header("code")
        .map(|code| format!(" ({code})"))
        .unwrap_or_default();
    ClientError::Refused(format!("{message}{code}"))
}

/// Wakes users when their messages are due, until all are or the run stops.
///
/// It waits on its own thread because a park there ends within some 60 µs of the time asked for,
/// while tokio's timer counts whole milliseconds, which is as long as many a message takes.
pub(crate) fn pace(run: &Run, turns: &[Arc<Notify>]) {
    for (round, turn) in (0..).flat_map(|round| (0..turns.len()).map(move |turn| (round, turn))) {
        let Some(due) = run.schedule.due(turn, round) else {
            return;
        };
        let at = run.start + due;
        loop {
            let wait = at.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                break;
            }
            if run.stop.is_cancelled() {
                return;
            }
            std::thread::park_timeout(wait.min(Duration::from_secs(1)));
        }
        turns[turn].notify_one();
    }
}
