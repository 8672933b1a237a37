//! The answer in which a session's frames reach the client.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame};

use super::envelope::Envelope;
use super::frame;
use super::session::Session;

/// A body that is the session's one receiver until it ends: after one frame where that is how the
/// transport works, else when it has grown beyond a limit, which lets browsers forget it.
pub(super) struct Receiver {
    source: Source,
    envelope: Envelope,
    prelude: Option<Bytes>,
    /// Octets that may be written before the answer is to end.
    left: usize,
}

enum Source {
    /// It is attached to the session by this number.
    Session(Arc<Session>, u64),
    /// There is another receiver; this one is told so.
    Refused,
    Ended,
}

impl Receiver {
    /// The receiver with this number among those of the session; without one it is a second one.
    pub(super) fn new(
        session: Arc<Session>,
        number: Option<u64>,
        envelope: Envelope,
        stream_limit: usize,
    ) -> Self {
        Self {
            source: match number {
                Some(number) => Source::Session(session, number),
                None => Source::Refused,
            },
            prelude: envelope.prelude(),
            left: if envelope.is_polling() {
                1
            } else {
                stream_limit
            },
            envelope,
        }
    }
}

impl Body for Receiver {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(prelude) = self.prelude.take() {
            return Poll::Ready(Some(Ok(Frame::data(prelude))));
        }
        let (frame, is_last) = match &self.source {
            Source::Session(session, _) => ready!(session.poll_frame(cx)),
            Source::Refused => (frame::close(2010, "Another connection still open"), true),
            Source::Ended => return Poll::Ready(None),
        };
        let octets = self.envelope.wrap(&frame);
        self.left = self.left.saturating_sub(octets.len());
        if is_last || self.left == 0 {
            if let Source::Session(session, number) = &self.source {
                session.detach(*number, false);
            }
            self.source = Source::Ended;
        }
        Poll::Ready(Some(Ok(Frame::data(octets))))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Source::Session(session, number) = &self.source {
            session.detach(*number, true);
        }
    }
}
