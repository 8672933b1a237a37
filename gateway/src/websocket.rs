//! One WebSocket, driven by one task: the only thing between a session and its client's octets.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::metered::Metered;
use crate::session::output::Outgoing;
use crate::transport::{Incoming, Transport, TransportError, TransportName};

/// Frames are gathered up to this many octets before they are written.
pub const WRITE_BUFFER: usize = 32 << 10;

/// The library allocates its read buffer for every connection and zero-fills what is free of it
/// at every read.
const READ_BUFFER: usize = 4 << 10;

/// The longest header of a frame that a server sends (RFC 6455, section 5.2).
const FRAME_HEADER: usize = 10;

/// The longest header of a frame that a client sends: the mask is four octets more.
const MASKED_HEADER: usize = 14;

/// What the fragments of a message may cost on the socket, in messages of the largest size: enough
/// to send it octet by octet, and an end to fragments without any.
const FRAGMENTATION: usize = 8;

/// The longest reason that a Close frame has room for (RFC 6455, section 5.5).
const CLOSE_REASON: usize = 123;

/// The server's end of a WebSocket (RFC 6455), without extensions.
///
/// Reading never waits for writing: a client that does not read is still heard. Pings are answered
/// and fragments joined here. Nothing is written until [`next`](Self::next) or
/// [`flush`](Self::flush) is awaited, or more than [`WRITE_BUFFER`] is pending.
pub struct Socket<S> {
    stream: WebSocketStream<Metered<S>>,
    /// Octets queued since everything was last known to be written.
    pending: usize,
    name: TransportName,
    /// The library has reported an error and will not read again.
    broken: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Takes a connection over after the opening handshake. `read_ahead` is what was read from it
    /// already, `max_message_bytes` bounds a message from the client and the bound of what may be
    /// pending follows `max_queued_bytes`, the largest sum that is queued between two flushes.
    pub async fn new(
        stream: S,
        read_ahead: &[u8],
        name: TransportName,
        max_message_bytes: usize,
        max_queued_bytes: usize,
    ) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_write_buffer_size(WRITE_BUFFER + max_queued_bytes)
            .max_message_size(Some(max_message_bytes))
            .max_frame_size(Some(max_message_bytes));
        let stream = WebSocketStream::from_partially_read(
            Metered::new(stream, FRAGMENTATION * max_message_bytes),
            read_ahead.to_vec(),
            Role::Server,
            Some(config),
        )
        .await;
        Self {
            stream,
            pending: 0,
            name,
            broken: false,
        }
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        if self.pending > 0
            && let Poll::Ready(flushed) = Pin::new(&mut self.stream).poll_flush(cx)
        {
            self.pending = 0;
            return Poll::Ready(match flushed {
                Ok(()) => Incoming::Flushed,
                Err(error) => self.failed(error),
            });
        }
        loop {
            let incoming = match ready!(Pin::new(&mut self.stream).poll_next(cx)) {
                Some(Ok(Message::Text(text))) => self.data(text.into()),
                Some(Ok(Message::Binary(octets))) => self.data(octets),
                Some(Ok(Message::Ping(octets) | Message::Pong(octets))) => {
                    // One may come among the fragments of a message, which go on counting.
                    let meter = self.stream.get_mut();
                    meter.read = meter.read.saturating_sub(octets.len() + MASKED_HEADER);
                    Incoming::Alive
                }
                Some(Ok(Message::Frame(_))) => continue,
                Some(Ok(Message::Close(_))) | None => Incoming::Closed,
                Some(Err(error)) => self.failed(error),
            };
            return Poll::Ready(incoming);
        }
    }

    fn data(&mut self, octets: Bytes) -> Incoming {
        self.stream.get_mut().read = 0;
        Incoming::Data(octets)
    }

    fn failed(&mut self, error: Error) -> Incoming {
        self.broken = true;
        match error {
            Error::Capacity(CapacityError::MessageTooLong { .. }) => Incoming::TooLarge,
            Error::Io(_) if self.stream.get_ref().is_exhausted() => Incoming::TooLarge,
            Error::Io(_)
            | Error::ConnectionClosed
            | Error::AlreadyClosed
            | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Incoming::Closed,
            other => Incoming::Failed(other.to_string()),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Transport for Socket<S> {
    fn name(&self) -> TransportName {
        self.name
    }

    async fn next(&mut self) -> Incoming {
        poll_fn(|cx| self.poll_incoming(cx)).await
    }

    fn queue(&mut self, message: Outgoing) -> Result<(), TransportError> {
        let message = match message {
            // As a frame it is not checked again for being UTF-8.
            Outgoing::Text(text) => {
                Message::Frame(Frame::message(text, OpCode::Data(Data::Text), true))
            }
            Outgoing::Binary(octets) => Message::Binary(octets),
            Outgoing::Ping => Message::Ping(Bytes::new()),
        };
        let octets = message.len() + FRAME_HEADER;
        Pin::new(&mut self.stream)
            .start_send(message)
            .map_err(|error| match error {
                Error::WriteBufferFull(_) => TransportError::Full,
                other => TransportError::Gone(other.to_string()),
            })?;
        self.pending += octets;
        Ok(())
    }

    fn is_flushed(&self) -> bool {
        self.pending == 0
    }

    fn has_room(&self) -> bool {
        self.pending < WRITE_BUFFER
    }

    async fn flush(&mut self) -> Result<(), TransportError> {
        self.stream
            .flush()
            .await
            .map_err(|error| TransportError::Gone(error.to_string()))?;
        self.pending = 0;
        Ok(())
    }

    /// Ends the connection in order (RFC 6455, section 7): writes what is queued, sends Close,
    /// and waits for the client's Close while reading past what it still sends, so that the
    /// operating system does not answer that with a reset, which would take the last messages
    /// from the client. All of it takes at most `deadline`. A Close of the client is answered with
    /// its own code.
    async fn close(mut self, code: u16, reason: &str, deadline: Duration) {
        let reason = Utf8Bytes::from(&reason[..reason.floor_char_boundary(CLOSE_REASON)]);
        // What comes now is thrown away, however much it is: the deadline bounds it.
        self.stream.get_mut().most = usize::MAX;
        // Who has gone, or does not read in time, is not told.
        let _ = timeout(deadline, async move {
            let close = Message::Close(Some(CloseFrame {
                code: code.into(),
                reason,
            }));
            let told = match self.stream.flush().await {
                Ok(()) => self.stream.send(close).await,
                failed => failed,
            };
            match told {
                Ok(()) => {}
                // The client's Close came first: once it is answered, both have said all.
                Err(
                    Error::ConnectionClosed
                    | Error::AlreadyClosed
                    | Error::Protocol(ProtocolError::SendAfterClosing),
                ) => {
                    let _ = self.stream.flush().await;
                    return self.stream.get_mut().shutdown().await.ok();
                }
                Err(_) => return None,
            }
            while !self.broken {
                match self.stream.next().await {
                    Some(Ok(_)) => {}
                    Some(Err(_)) => self.broken = true,
                    None => break,
                }
            }
            let stream = self.stream.get_mut();
            stream.shutdown().await.ok()?;
            if self.broken {
                let mut scrap = vec![0; READ_BUFFER];
                while stream.read(&mut scrap).await.ok()? > 0 {}
            }
            Some(())
        })
        .await;
    }
}
