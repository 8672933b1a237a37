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
    /// The session's last frame has been given.
    is_over: bool,
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
            is_over: false,
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
            Source::Session(session, number) if self.is_over || self.left == 0 => {
                // The connection asks for more when it has written what is large. Until then the
                // client is here, and an answer that breaks off ends its session.
                session.detach(*number, false);
                self.source = Source::Ended;
                return Poll::Ready(None);
            }
            Source::Session(session, _) => ready!(session.poll_frame(cx)),
            Source::Refused => (frame::close(2010, "Another connection still open"), true),
            Source::Ended => return Poll::Ready(None),
        };
        let octets = self.envelope.wrap(&frame);
        self.left = self.left.saturating_sub(octets.len());
        self.is_over = is_last;
        if matches!(self.source, Source::Refused) {
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::time::Duration;

    use futures_util::FutureExt;
    use http_body_util::BodyExt;
    use tokio::sync::Semaphore;
    use tokio::time::{Instant, advance};

    use super::Receiver;
    use crate::place::Place;
    use crate::sockjs::envelope::Envelope;
    use crate::sockjs::session::{Event, Session};

    fn attach(session: &Session) -> Option<u64> {
        let slots = Arc::new(Semaphore::new(1));
        session.attach(Place::new(slots.try_acquire_owned().unwrap()))
    }

    /// An answer of one frame, which has been given to the connection to be written.
    async fn unfinished(session: &Arc<Session>, envelope: Envelope) -> Receiver {
        let number = attach(session);
        assert!(number.is_some());
        let mut answer = Receiver::new(Arc::clone(session), number, envelope.clone(), 1);
        if envelope.prelude().is_some() {
            answer.frame().await.unwrap().unwrap();
        }
        let frame = answer.frame().await.unwrap().unwrap();
        assert!(frame.into_data().unwrap().ends_with(b"o\n"));
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_its_answer_for_long_has_not_gone() {
        for envelope in [Envelope::Xhr, Envelope::XhrStreaming] {
            let session = Arc::new(Session::new(1000));
            let mut answer = unfinished(&session, envelope).await;
            assert_eq!(session.event(false).await, Some(Event::Alive));
            advance(Duration::from_secs(8)).await;
            assert_eq!(session.event(false).now_or_never(), None);
            assert_eq!(attach(&session), None);
            assert!(answer.frame().await.is_none());
            let since = Instant::now();
            assert_eq!(session.event(false).await, Some(Event::Gone));
            assert_eq!(since.elapsed().as_secs(), 5);
        }
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_ends_the_session_in_its_last_frame_too() {
        for envelope in [Envelope::Xhr, Envelope::XhrStreaming] {
            let session = Arc::new(Session::new(1000));
            drop(unfinished(&session, envelope).await);
            assert!(attach(&session).is_some());
            let told = poll_fn(|cx| session.poll_frame(cx)).now_or_never();
            let (frame, is_last) = told.expect("the session has ended");
            assert_eq!(frame, "c[1002,\"Connection interrupted\"]");
            assert!(is_last);
        }
    }
}
