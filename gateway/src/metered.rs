//! Counts what one message takes on its socket.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::framing::Framing;

/// What is read at a time.
const READ: usize = 8 << 10;

thread_local! {
    /// Where octets are read to: a buffer of its own would cost each connection, idle ones too.
    static SCRATCH: RefCell<[u8; READ]> = const { RefCell::new([0; READ]) };
}

/// A stream of which only so much is read until somebody resets `read`.
///
/// It reads as much as has come at a time, however little is asked for, and holds the rest.
///
/// The WebSocket library joins fragments by itself and bounds the octets that they carry. Those
/// that carry none it would take for ever.
#[derive(Debug)]
pub(crate) struct Metered<S> {
    stream: S,
    /// The most that `read` may be when more is asked for.
    pub(crate) most: usize,
    /// Octets handed on since the last reset.
    pub(crate) read: usize,
    framing: Framing,
    /// What has come and was not asked for yet.
    ahead: Bytes,
}

impl<S> Metered<S> {
    /// A stream that begins with what was `read_ahead`.
    pub(crate) fn new(stream: S, read_ahead: &[u8], most: usize) -> Self {
        Self {
            stream,
            most,
            read: 0,
            framing: Framing::default(),
            ahead: Bytes::copy_from_slice(read_ahead),
        }
    }

    /// Whether what was handed on ends within a message.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.framing.is_unfinished()
    }

    /// Whether as much was handed on as may be.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.read > self.most
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let it = self.get_mut();
        if it.is_exhausted() {
            return Poll::Ready(Err(io::Error::other("too many fragments")));
        }
        let before = buf.filled().len();
        if it.ahead.is_empty() {
            ready!(SCRATCH.with_borrow_mut(|scratch| {
                let mut scratch = ReadBuf::new(scratch);
                ready!(Pin::new(&mut it.stream).poll_read(cx, &mut scratch))?;
                let (now, later) = scratch
                    .filled()
                    .split_at(scratch.filled().len().min(buf.remaining()));
                buf.put_slice(now);
                if !later.is_empty() {
                    it.ahead = Bytes::copy_from_slice(later);
                }
                Poll::Ready(io::Result::Ok(()))
            }))?;
        } else {
            let here = it.ahead.len().min(buf.remaining());
            buf.put_slice(&it.ahead[..here]);
            it.ahead.advance(here);
            if it.ahead.is_empty() {
                it.ahead = Bytes::new();
            }
        }
        it.read += buf.filled().len() - before;
        it.framing.feed(&buf.filled()[before..]);
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
