//! Counts what one message takes on its socket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::framing::Framing;

/// A stream of which only so much is read until somebody resets `read`.
///
/// The WebSocket library joins fragments by itself and bounds the octets that they carry. Those
/// that carry none it would take for ever.
#[derive(Debug)]
pub(crate) struct Metered<S> {
    stream: S,
    /// The most that `read` may be when more is asked for.
    pub(crate) most: usize,
    /// Octets read since the last reset.
    pub(crate) read: usize,
    framing: Framing,
}

impl<S> Metered<S> {
    /// A stream that goes on after what was `read_ahead`.
    pub(crate) fn new(stream: S, read_ahead: &[u8], most: usize) -> Self {
        let mut framing = Framing::default();
        framing.feed(read_ahead);
        Self {
            stream,
            most,
            read: 0,
            framing,
        }
    }

    /// Whether what has been read ends within a message.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.framing.is_unfinished()
    }

    /// Whether as much has been read as may be.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.read > self.most
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_exhausted() {
            return Poll::Ready(Err(io::Error::other("too many fragments")));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.read += buf.filled().len() - before;
        self.framing.feed(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
