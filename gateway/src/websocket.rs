//! One WebSocket, driven by one task: the only thing between a session and its client's octets.

use std::future::poll_fn;
use std::io::{self, ErrorKind, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{
    CloseFrame, Role, WebSocketConfig, WebSocketContext,
};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::metered::Metered;
use crate::session::output::Outgoing;
use crate::transport::{Incoming, Transport, TransportError, TransportName};

/// Frames are gathered up to this many octets before they are written.
pub const WRITE_BUFFER: usize = 32 << 10;

/// The library allocates so much for every connection, and more for a message that is longer. What
/// it asks for at a time costs no call of the system's.
const READ_BUFFER: usize = 512;

/// What a message, or those that are gathered, may take before the buffers that they took are given
/// back.
const KEPT: usize = 2 << 10;

/// The longest header of a frame that a server sends (RFC 6455, section 5.2).
const FRAME_HEADER: usize = 10;

/// The longest header of a frame that a client sends: the mask is four octets more.
const MASKED_HEADER: usize = 14;

/// What the fragments of a message may cost on the socket, in messages of the largest size: enough
/// to send it octet by octet, and an end to fragments without any.
const FRAGMENTATION: usize = 8;

/// The longest reason that a Close frame has room for (RFC 6455, section 5.5).
const CLOSE_REASON: usize = 123;

/// What still comes after an error is read past in pieces of this size.
const SCRAP: usize = 4 << 10;

/// The server's end of a WebSocket (RFC 6455), without extensions.
///
/// Reading never waits for writing: a client that does not read is still heard. Pings are answered
/// and fragments joined here. Nothing is written until [`next`](Self::next) or
/// [`flush`](Self::flush) is awaited. What large messages took, either way, is given back while there
/// are none.
pub struct Socket<S> {
    stream: Metered<S>,
    frames: WebSocketContext,
    /// Octets queued since everything was last known to be written.
    pending: usize,
    name: TransportName,
    /// The library has reported an error and will not read again.
    broken: bool,
    /// It was told of that a message has begun.
    begun: bool,
    /// The library's buffers have more than they are to keep.
    grown: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Takes a connection over after the opening handshake. `read_ahead` is what was read from it
    /// already, `max_message_bytes` bounds a message from the client and the bound of what may be
    /// pending follows `max_queued_bytes`, the largest sum that is queued between two flushes.
    pub fn new(
        stream: S,
        read_ahead: &[u8],
        name: TransportName,
        max_message_bytes: usize,
        max_queued_bytes: usize,
    ) -> Self {
        let most = WRITE_BUFFER + max_queued_bytes;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            // Nothing is written before somebody waits for it.
            .write_buffer_size(most)
            .max_write_buffer_size(most + 1)
            .max_message_size(Some(max_message_bytes))
            .max_frame_size(Some(max_message_bytes));
        Self {
            stream: Metered::new(stream, read_ahead, FRAGMENTATION * max_message_bytes),
            frames: WebSocketContext::new(Role::Server, Some(config)),
            pending: 0,
            name,
            broken: false,
            begun: false,
            grown: false,
        }
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        if self.pending > 0
            && let Poll::Ready(flushed) = self.poll_flush(cx)
        {
            return Poll::Ready(match flushed {
                Ok(()) => Incoming::Flushed,
                Err(error) => self.failed(error),
            });
        }
        loop {
            let Poll::Ready(next) = self.poll_message(cx) else {
                self.give_back(cx);
                if self.begun || !self.stream.is_unfinished() {
                    return Poll::Pending;
                }
                self.begun = true;
                return Poll::Ready(Incoming::Begun);
            };
            let incoming = match next {
                Some(Ok(Message::Text(text))) => self.data(text.into()),
                Some(Ok(Message::Binary(octets))) => self.data(octets),
                Some(Ok(Message::Ping(octets) | Message::Pong(octets))) => {
                    // One may come among the fragments of a message, which go on counting.
                    let read = &mut self.stream.read;
                    *read = read.saturating_sub(octets.len() + MASKED_HEADER);
                    Incoming::Alive
                }
                Some(Ok(Message::Frame(_))) => continue,
                Some(Ok(Message::Close(_))) | None => Incoming::Closed,
                Some(Err(error)) => self.failed(error),
            };
            return Poll::Ready(incoming);
        }
    }

    /// The next message; `None` when none comes any more.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        if self.broken {
            return Poll::Ready(None);
        }
        let stream = &mut self.stream;
        match self.frames.read(&mut Polled { stream, cx }) {
            Ok(message) => Poll::Ready(Some(Ok(message))),
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
            Err(Error::ConnectionClosed | Error::AlreadyClosed) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }

    /// Writes everything queued, and answers to pings.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let stream = &mut self.stream;
        match self.frames.flush(&mut Polled { stream, cx }) {
            Ok(()) | Err(Error::ConnectionClosed) => {
                self.pending = 0;
                Poll::Ready(Ok(()))
            }
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// To be called when everything that has come was read. The library never makes a buffer smaller:
    /// where nothing is in them, it begins anew.
    fn give_back(&mut self, cx: &mut Context<'_>) {
        if self.grown
            && self.pending == 0
            && !self.stream.is_unfinished()
            && self.frames.can_write()
            && matches!(self.poll_flush(cx), Poll::Ready(Ok(())))
        {
            let config = *self.frames.get_config();
            self.frames = WebSocketContext::new(Role::Server, Some(config));
            self.grown = false;
        }
    }

    /// Queues a message in memory.
    fn put(&mut self, message: Message) -> Result<(), Error> {
        match self.frames.write(&mut Nowhere, message) {
            // It would write an answer to a ping at once.
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }

    fn data(&mut self, octets: Bytes) -> Incoming {
        self.stream.read = 0;
        self.begun = false;
        self.grown |= octets.len() > KEPT;
        Incoming::Data(octets)
    }

    fn failed(&mut self, error: Error) -> Incoming {
        self.broken = true;
        match error {
            Error::Capacity(CapacityError::MessageTooLong { .. }) => Incoming::TooLarge,
            Error::Io(_) if self.stream.is_exhausted() => Incoming::TooLarge,
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
        self.put(message).map_err(|error| match error {
            Error::WriteBufferFull(_) => TransportError::Full,
            other => TransportError::Gone(other.to_string()),
        })?;
        self.pending += octets;
        self.grown |= self.pending > KEPT;
        Ok(())
    }

    fn is_flushed(&self) -> bool {
        self.pending == 0
    }

    fn has_room(&self) -> bool {
        self.pending < WRITE_BUFFER
    }

    async fn flush(&mut self) -> Result<(), TransportError> {
        poll_fn(|cx| self.poll_flush(cx))
            .await
            .map_err(|error| TransportError::Gone(error.to_string()))
    }

    /// Ends the connection in order (RFC 6455, section 7): writes what is queued, sends Close,
    /// and waits for the client's Close while reading past what it still sends, so that the
    /// operating system does not answer that with a reset, which would take the last messages
    /// from the client. All of it takes at most `deadline`. A Close of the client is answered with
    /// its own code.
    async fn close(mut self, code: u16, reason: &str, deadline: Duration) {
        let reason = Utf8Bytes::from(&reason[..reason.floor_char_boundary(CLOSE_REASON)]);
        // What comes now is thrown away, however much it is: the deadline bounds it.
        self.stream.most = usize::MAX;
        let ending = async {
            let close = Message::Close(Some(CloseFrame {
                code: code.into(),
                reason,
            }));
            let mut told = poll_fn(|cx| self.poll_flush(cx)).await;
            if told.is_ok() {
                told = self.put(close);
            }
            if told.is_ok() {
                told = poll_fn(|cx| self.poll_flush(cx)).await;
            }
            match told {
                Ok(()) => {}
                // The client's Close came first: once it is answered, both have said all.
                Err(
                    Error::ConnectionClosed
                    | Error::AlreadyClosed
                    | Error::Protocol(ProtocolError::SendAfterClosing),
                ) => {
                    let _ = poll_fn(|cx| self.poll_flush(cx)).await;
                    return self.stream.shutdown().await.ok();
                }
                Err(_) => return None,
            }
            while !self.broken {
                match poll_fn(|cx| self.poll_message(cx)).await {
                    Some(Ok(_)) => {}
                    Some(Err(_)) => self.broken = true,
                    None => break,
                }
            }
            self.stream.shutdown().await.ok()?;
            if self.broken {
                let mut scrap = vec![0; SCRAP];
                while self.stream.read(&mut scrap).await.ok()? > 0 {}
            }
            Some(())
        };
        // Who has gone, or does not read in time, is not told.
        let _ = timeout(deadline, ending).await;
    }
}

/// A stream as the library wants it, which says that it would block where the task is to wait.
struct Polled<'a, 'b, S> {
    stream: &'a mut Metered<S>,
    cx: &'a mut Context<'b>,
}

impl<S: AsyncRead + Unpin> Read for Polled<'_, '_, S> {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(octets);
        match Pin::new(&mut *self.stream).poll_read(self.cx, &mut buffer) {
            Poll::Ready(read) => read.map(|()| buffer.filled().len()),
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

impl<S: AsyncWrite + Unpin> Write for Polled<'_, '_, S> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut *self.stream).poll_write(self.cx, octets) {
            Poll::Ready(written) => written,
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match Pin::new(&mut *self.stream).poll_flush(self.cx) {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

/// A stream that takes nothing, for what is only to be queued.
struct Nowhere;

impl Read for Nowhere {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }
}

impl Write for Nowhere {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(ErrorKind::WouldBlock.into())
    }
}
