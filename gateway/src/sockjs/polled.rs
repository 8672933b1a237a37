//! The transport of a session over HTTP, as its task sees it.

use std::sync::Arc;
use std::time::Duration;

use super::frame;
use super::session::{Event, Session};
use crate::session::output::Outgoing;
use crate::transport::{Incoming, Transport, TransportError, TransportName};
use crate::websocket::WRITE_BUFFER;

/// A session's only task holds this.
///
/// While nobody receives, what is queued counts as handed on as long as there is room for more: a
/// client between two polls is not a slow one. One that does not come back is gone after 5 s.
pub(super) struct Polled {
    session: Arc<Session>,
    name: TransportName,
    max_queued_bytes: usize,
    /// Something was queued since everything was last known to be taken.
    unflushed: bool,
    closed: bool,
}

impl Polled {
    /// The bound of what may be pending follows `max_queued_bytes`, the largest sum that is queued
    /// between two flushes.
    pub(super) fn new(session: Arc<Session>, name: TransportName, max_queued_bytes: usize) -> Self {
        Self {
            session,
            name,
            max_queued_bytes,
            unflushed: false,
            closed: false,
        }
    }
}

impl Transport for Polled {
    fn name(&self) -> TransportName {
        self.name
    }

    async fn next(&mut self) -> Incoming {
        match self.session.event(self.unflushed).await {
            Some(Event::Message(octets)) => Incoming::Data(octets),
            Some(Event::TooLarge) => Incoming::TooLarge,
            Some(Event::Alive) => Incoming::Alive,
            Some(Event::Gone) => Incoming::Closed,
            None => {
                self.unflushed = false;
                Incoming::Flushed
            }
        }
    }

    fn queue(&mut self, message: Outgoing) -> Result<(), TransportError> {
        match message {
            Outgoing::Text(octets) | Outgoing::Binary(octets) => {
                if !self
                    .session
                    .queue(octets, WRITE_BUFFER + self.max_queued_bytes)
                {
                    return Err(TransportError::Full);
                }
            }
            Outgoing::Ping => self.session.queue_heart_beat(),
        }
        self.unflushed = true;
        Ok(())
    }

    fn is_flushed(&self) -> bool {
        match self.session.pending() {
            Some((pending, receives)) => !receives && pending < WRITE_BUFFER,
            None => true,
        }
    }

    fn has_room(&self) -> bool {
        self.session
            .pending()
            .is_none_or(|(pending, _)| pending < WRITE_BUFFER)
    }

    async fn flush(&mut self) -> Result<(), TransportError> {
        if !self.session.flushed().await {
            return Err(TransportError::Gone("the session has expired".into()));
        }
        self.unflushed = false;
        Ok(())
    }

    /// Ends the session: whoever receives it gets what is queued and the reason, within `deadline`.
    /// Who comes for it later gets that for as long as an ended session is kept.
    async fn close(mut self, code: u16, reason: &str, deadline: Duration) {
        self.closed = true;
        let end = frame::close(code, reason);
        self.session.close(end, deadline).await;
    }
}

impl Drop for Polled {
    fn drop(&mut self) {
        if !self.closed {
            self.session.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::FutureExt;
    use http_body_util::BodyExt;
    use tokio::sync::Semaphore;
    use tokio::time::{Instant, advance, timeout};
    use tokio_util::sync::CancellationToken;

    use super::Polled;
    use crate::place::Place;
    use crate::session::output::Outgoing;
    use crate::sockjs::envelope::Envelope;
    use crate::sockjs::receiver::Receiver;
    use crate::sockjs::session::{ReceiveError, Session};
    use crate::transport::{Incoming, Transport, TransportName};
    use crate::websocket::WRITE_BUFFER;

    const SECOND: Duration = Duration::from_secs(1);

    struct Fixture {
        session: Arc<Session>,
        polled: Polled,
    }

    /// A session whose task may leave 1000 octets waiting.
    fn fixture() -> Fixture {
        let session = Arc::new(Session::new(1000));
        let polled = Polled::new(Arc::clone(&session), TransportName::Xhr, 100);
        Fixture { session, polled }
    }

    impl Fixture {
        fn attach(&self) -> Option<u64> {
            let slots = Arc::new(Semaphore::new(1));
            self.session
                .attach(Place::new(slots.try_acquire_owned().unwrap()))
        }

        async fn frame(&self) -> String {
            poll_fn(|cx| self.session.poll_frame(cx)).await.0
        }

        /// Polls once.
        async fn poll(&self) -> String {
            let number = self.attach().unwrap();
            let frame = self.frame().await;
            self.session.detach(number, false);
            frame
        }

        fn queue(&mut self, text: &'static str) {
            let text = Outgoing::Text(Bytes::from_static(text.as_bytes()));
            self.polled.queue(text).unwrap();
        }
    }

    #[tokio::test]
    async fn what_waits_for_a_poll_comes_in_one_frame() {
        let mut it = fixture();
        it.queue("a");
        it.queue("b");
        assert_eq!(it.poll().await, "o");
        assert_eq!(it.poll().await, "a[\"a\",\"b\"]");
        it.queue("c");
        assert_eq!(it.poll().await, "a[\"c\"]");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_between_two_polls_is_not_slow_and_what_waits_for_it_is_bounded() {
        const PART: [u8; 1 << 10] = [b'x'; 1 << 10];
        let mut it = fixture();
        assert_eq!(it.poll().await, "o");
        let mut octets = 0;
        while it.polled.has_room() {
            assert!(it.polled.is_flushed());
            it.polled
                .queue(Outgoing::Text(Bytes::from_static(&PART)))
                .unwrap();
            octets += PART.len();
        }
        assert_eq!(octets, WRITE_BUFFER);
        assert!(!it.polled.is_flushed());
        it.polled
            .queue(Outgoing::Text(Bytes::from_static(&PART)))
            .unwrap();
        assert!(
            it.polled
                .queue(Outgoing::Text(Bytes::from_static(&PART)))
                .is_err()
        );
        assert!(it.polled.flush().now_or_never().is_none());
        assert!(it.poll().await.len() > octets);
        assert!(it.polled.is_flushed() && it.polled.has_room());
        it.polled.flush().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_has_gone_5_seconds_after_its_last_receiver() {
        let mut it = fixture();
        let number = it.attach().unwrap();
        assert_eq!(it.polled.next().await, Incoming::Alive);
        advance(SECOND * 600).await;
        assert_eq!(it.polled.next().now_or_never(), None);
        it.session.detach(number, false);
        let since = Instant::now();
        assert_eq!(it.polled.next().await, Incoming::Closed);
        assert_eq!(since.elapsed().as_secs(), 5);
        it.queue("late");
        assert!(it.polled.flush().await.is_err());
    }

    #[tokio::test]
    async fn a_heart_beat_is_for_who_receives_and_has_heard_nothing_else() {
        let mut it = fixture();
        assert_eq!(it.poll().await, "o");
        it.polled.queue(Outgoing::Ping).unwrap();
        it.attach().unwrap();
        it.polled.queue(Outgoing::Ping).unwrap();
        assert_eq!(it.frame().await, "h");
        it.queue("a");
        it.polled.queue(Outgoing::Ping).unwrap();
        it.queue("b");
        assert_eq!(it.frame().await, "a[\"a\",\"b\"]");
    }

    #[tokio::test(start_paused = true)]
    async fn signs_of_life_are_told_once_a_second() {
        let mut it = fixture();
        for _ in 0..3 {
            let number = it.attach().unwrap();
            assert_eq!(it.polled.next().await, Incoming::Alive);
            it.session.detach(number, false);
            let number = it.attach().unwrap();
            assert_eq!(it.polled.next().now_or_never(), None);
            it.session.detach(number, false);
            advance(SECOND).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_in_waits_for_room_and_is_refused_after_that() {
        let mut it = fixture();
        it.attach().unwrap();
        let send = |octets: usize| {
            let messages = vec![Bytes::from(vec![b'x'; octets])];
            let session = Arc::clone(&it.session);
            async move { session.receive(messages, SECOND).await }
        };
        assert_eq!(send(1000).await, Err(ReceiveError::TooLarge));
        send(800).await.unwrap();
        assert_eq!(send(800).await, Err(ReceiveError::Busy));
        let waits = tokio::spawn(send(700));
        tokio::task::yield_now().await;
        for octets in [800, 700] {
            let mut next = it.polled.next().await;
            if next == Incoming::Alive {
                next = it.polled.next().await;
            }
            assert!(matches!(next, Incoming::Data(data) if data.len() == octets));
        }
        waits.await.unwrap().unwrap();
        it.polled.close(1000, "bye", SECOND).await;
        // Nobody reads it any more, and the client reads why.
        send(900).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_of_a_receiver_that_takes_nothing_is_cut() {
        for in_order in [true, false] {
            let Fixture { session, polled } = fixture();
            let slots = Arc::new(Semaphore::new(1));
            let place = Place::new(slots.try_acquire_owned().unwrap());
            session.attach(Arc::clone(&place)).unwrap();
            assert!(place.is_streaming());
            assert_eq!(place.until_cut().now_or_never(), None);
            if in_order {
                polled.close(1000, "bye", SECOND).await;
            } else {
                drop(polled);
            }
            assert_eq!(place.until_cut().now_or_never(), Some(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_ended_session_is_remembered_for_5_seconds_after_who_asked_last_and_for_15_at_most()
    {
        for (asks, seconds) in [(0, 5), (1, 8), (9, 15)] {
            let it = fixture();
            assert_eq!(it.poll().await, "o");
            let Fixture { session, polled } = it;
            polled.close(3000, "Go away!", SECOND).await;
            let since = Instant::now();
            let stop = CancellationToken::new();
            let lingering = tokio::spawn({
                let session = Arc::clone(&session);
                async move {
                    session.linger(&stop).await;
                    since.elapsed().as_secs()
                }
            });
            let other = fixture();
            let it = Fixture {
                session,
                polled: other.polled,
            };
            for _ in 0..asks {
                tokio::time::sleep(SECOND * 3).await;
                if !lingering.is_finished() {
                    assert_eq!(it.poll().await, "c[3000,\"Go away!\"]");
                }
            }
            assert_eq!(lingering.await.unwrap(), seconds);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn what_goes_out_and_comes_in_is_whole_and_in_order_on_several_threads() {
        const EACH: usize = 3000;
        // Long enough to fill what may wait many times.
        let numbers = || (0..EACH).map(|number| format!("{number:0400}"));
        for envelope in [Envelope::Xhr, Envelope::XhrStreaming] {
            let Fixture {
                session,
                mut polled,
            } = fixture();
            let task = tokio::spawn(async move {
                let (mut out, mut taken) = (numbers(), Vec::new());
                while out.len() > 0 || taken.len() < EACH {
                    while polled.is_flushed()
                        && polled.has_room()
                        && let Some(number) = out.next()
                    {
                        polled.queue(Outgoing::Text(number.into())).unwrap();
                    }
                    match polled.next().await {
                        Incoming::Data(octets) => taken.push(octets),
                        Incoming::Alive | Incoming::Begun | Incoming::Flushed => {}
                        ended => panic!("{ended:?}"),
                    }
                }
                polled.close(3000, "bye", SECOND * 60).await;
                taken
            });
            let sends = Arc::clone(&session);
            let sender = tokio::spawn(async move {
                for number in numbers() {
                    let message = vec![Bytes::from(number)];
                    sends.receive(message, SECOND * 60).await.unwrap();
                }
            });
            let received = async {
                let mut received: Vec<String> = Vec::new();
                loop {
                    let slots = Arc::new(Semaphore::new(1));
                    let place = Place::new(slots.try_acquire_owned().unwrap());
                    let number = session.attach(place);
                    let receiver =
                        Receiver::new(Arc::clone(&session), number, envelope.clone(), 5000);
                    let answer = receiver.collect().await.unwrap().to_bytes();
                    for frame in str::from_utf8(&answer).unwrap().lines() {
                        match frame.split_at(1) {
                            ("a", array) => {
                                let array: Vec<String> = serde_json::from_str(array).unwrap();
                                received.extend(array);
                            }
                            ("c", _) => return received,
                            _ => {}
                        }
                    }
                }
            };
            let received = timeout(SECOND * 60, received).await.expect("an end");
            assert!(received.into_iter().eq(numbers()));
            sender.await.unwrap();
            assert!(task.await.unwrap().into_iter().eq(numbers()));
        }
    }
}
