//! A session over HTTP: what lies between the one task that serves the client and the requests in
//! which the client's side of it comes and goes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::frame;
use crate::place::Place;

/// How long a session is kept after its last receiver has gone (SockJS 0.3.3, "Protocol and
/// framing").
pub(crate) const KEPT: Duration = Duration::from_secs(5);

/// How long a session that has ended can still be asked why at most, however often it is asked.
const REMEMBERED: Duration = Duration::from_secs(15);

/// How often the session's task hears of signs of life at most.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// What a waiting message costs beside its octets.
const OVERHEAD: usize = 64;

/// The state that a session's task, its receiver and its senders share.
pub(super) struct Session {
    state: Mutex<State>,
    /// Octets that may still come in before the task has taken some.
    room: Semaphore,
    most_inbound: usize,
    /// Wakes the session's task.
    changed: Notify,
}

struct State {
    inbound: VecDeque<Bytes>,
    /// A message was too large, after all that is in `inbound`.
    too_large: bool,
    /// A sign of life has come that the task has not heard of.
    alive: bool,
    /// When it last heard of one. How often a client asks is how often it is answered: that is no
    /// flood.
    heard: Option<Instant>,
    outbound: VecDeque<Waiting>,
    /// Octets of the messages in `outbound`.
    pending: usize,
    /// The last frame, once there is one, and since when.
    end: Option<(Box<str>, Instant)>,
    /// A receiver's connection broke, and with it the session.
    interrupted: bool,
    receiver: Option<Attached>,
    receivers: u64,
    /// Since when there is no receiver.
    alone_since: Instant,
}

enum Waiting {
    Open,
    Message(Bytes),
    HeartBeat,
}

struct Attached {
    number: u64,
    place: Arc<Place>,
    waker: Option<Waker>,
}

/// What a session's task has to see to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Message(Bytes),
    TooLarge,
    Alive,
    /// The client has gone.
    Gone,
}

impl Session {
    /// A session that nobody receives yet. `most_inbound` bounds what waits for its task.
    pub(super) fn new(most_inbound: usize) -> Self {
        Self {
            state: Mutex::new(State {
                inbound: VecDeque::new(),
                too_large: false,
                alive: false,
                heard: None,
                outbound: VecDeque::from([Waiting::Open]),
                pending: 0,
                end: None,
                interrupted: false,
                receiver: None,
                receivers: 0,
                alone_since: Instant::now(),
            }),
            room: Semaphore::new(most_inbound),
            most_inbound,
            changed: Notify::new(),
        }
    }

    // The receiver's side.

    /// Makes a receiver the one of this session, and gives its number; `None` when there is another.
    pub(super) fn attach(&self, place: Arc<Place>) -> Option<u64> {
        let mut state = self.state();
        if state.receiver.is_some() {
            return None;
        }
        state.receivers += 1;
        let number = state.receivers;
        state.receiver = Some(Attached {
            number,
            place,
            waker: None,
        });
        state.hear();
        drop(state);
        self.changed.notify_one();
        Some(number)
    }

    /// The next frame for the receiver, and whether it is the session's last.
    pub(super) fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<(String, bool)> {
        let mut state = self.state();
        let frame = match state.outbound.pop_front() {
            Some(Waiting::Open) => frame::OPEN.to_owned(),
            Some(Waiting::HeartBeat) => frame::HEART_BEAT.to_owned(),
            Some(Waiting::Message(first)) => {
                let mut messages = vec![first];
                while let Some(Waiting::Message(_)) = state.outbound.front()
                    && let Some(Waiting::Message(message)) = state.outbound.pop_front()
                {
                    messages.push(message);
                }
                state.pending -= messages.iter().map(Bytes::len).sum::<usize>();
                state.hear();
                drop(state);
                // Outside the lock: this is where a message's octets are looked at.
                let frame = frame::messages(messages.iter().map(|message| &message[..]));
                self.changed.notify_one();
                return Poll::Ready((frame, false));
            }
            None => {
                if let Some((end, _)) = &state.end {
                    return Poll::Ready((end.to_string(), true));
                }
                if let Some(receiver) = &mut state.receiver {
                    receiver.waker = Some(cx.waker().clone());
                }
                return Poll::Pending;
            }
        };
        // Its connection takes something: a half-open one would be ended by the system.
        state.hear();
        drop(state);
        self.changed.notify_one();
        Poll::Ready((frame, false))
    }

    /// A receiver has gone. When it was `interrupted` nobody knows what of its last frames has
    /// arrived, and the session has ended.
    pub(super) fn detach(&self, number: u64, interrupted: bool) {
        let mut state = self.state();
        if state
            .receiver
            .as_ref()
            .is_none_or(|receiver| receiver.number != number)
        {
            return;
        }
        state.receiver = None;
        state.alone_since = Instant::now();
        if interrupted && state.end.is_none() {
            state.interrupt();
            self.room.close();
        }
        drop(state);
        self.changed.notify_one();
    }

    // The senders' side.

    /// Hands messages on to the session's task, waiting `patience` for room among those that it
    /// has not taken yet. A session that has ended takes and forgets them: its client is told by
    /// the last frame.
    pub(super) async fn receive(
        &self,
        messages: Vec<Bytes>,
        patience: Duration,
    ) -> Result<(), ReceiveError> {
        let octets = messages.iter().map(cost).sum::<usize>();
        let permits = u32::try_from(octets).map_err(|_| ReceiveError::TooLarge)?;
        if octets > self.most_inbound {
            return Err(ReceiveError::TooLarge);
        }
        match timeout(patience, self.room.acquire_many(permits)).await {
            Err(_) => return Err(ReceiveError::Busy),
            Ok(Err(_)) => return Ok(()),
            Ok(Ok(permit)) => permit.forget(),
        }
        let mut state = self.state();
        if messages.is_empty() {
            state.hear();
        }
        if !state.too_large {
            state.inbound.extend(messages);
        }
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// A message was too large: the session's task is told after all that came before.
    pub(super) fn too_large(&self) {
        self.state().too_large = true;
        self.changed.notify_one();
    }

    // The task's side.

    /// Waits for what the client sends, or for everything queued to be taken where `unflushed`.
    pub(super) async fn event(&self, unflushed: bool) -> Option<Event> {
        loop {
            let due = {
                let mut state = self.state();
                if unflushed && state.outbound.is_empty() {
                    return None;
                }
                if let Some(message) = state.inbound.pop_front() {
                    self.room.add_permits(cost(&message));
                    return Some(Event::Message(message));
                }
                if state.too_large {
                    return Some(Event::TooLarge);
                }
                if std::mem::take(&mut state.alive) {
                    state.heard = Some(Instant::now());
                    return Some(Event::Alive);
                }
                let due = state.due();
                if state.interrupted || due.is_some_and(|due| due <= Instant::now()) {
                    return Some(Event::Gone);
                }
                due
            };
            self.until_changed(due).await;
        }
    }

    /// Waits until everything queued is taken; false when nobody will.
    pub(super) async fn flushed(&self) -> bool {
        loop {
            let due = {
                let state = self.state();
                if state.outbound.is_empty() {
                    return true;
                }
                let due = state.due();
                if state.interrupted || due.is_some_and(|due| due <= Instant::now()) {
                    return false;
                }
                due
            };
            self.until_changed(due).await;
        }
    }

    /// Queues a message, unless `most` octets wait already.
    pub(super) fn queue(&self, message: Bytes, most: usize) -> bool {
        let mut state = self.state();
        if state.end.is_some() {
            return true;
        }
        if state.pending >= most {
            return false;
        }
        state.pending += message.len();
        state.push(Waiting::Message(message));
        true
    }

    /// Queues a heart-beat where somebody would take it.
    pub(super) fn queue_heart_beat(&self) {
        let mut state = self.state();
        if state.receiver.is_some() && state.outbound.is_empty() && state.end.is_none() {
            state.push(Waiting::HeartBeat);
        }
    }

    /// How many octets wait, and whether anybody receives; `None` when nothing waits.
    pub(super) fn pending(&self) -> Option<(usize, bool)> {
        let state = self.state();
        (!state.outbound.is_empty()).then(|| (state.pending, state.receiver.is_some()))
    }

    /// Ends the session with its last frame, and lets the receiver take what is left within the
    /// deadline.
    pub(super) async fn close(&self, end: String, deadline: Duration) {
        self.end(end);
        let taken = async {
            while self.state().receiver.is_some() {
                self.changed.notified().await;
            }
        };
        if timeout(deadline, taken).await.is_err() {
            self.cut();
        }
    }

    /// Ends the session without waiting, and drops the connection of a receiver that takes nothing.
    pub(super) fn abandon(&self) {
        self.end(frame::close(1002, "Connection interrupted"));
        self.cut();
    }

    /// Waits for as long as the session can be asked why it has ended.
    pub(super) async fn linger(&self, stop: &CancellationToken) {
        loop {
            let due = {
                let state = self.state();
                let Some((_, since)) = &state.end else {
                    return;
                };
                let most = *since + REMEMBERED;
                state.due().map_or(most, |due| due.min(most))
            };
            if due <= Instant::now() {
                return;
            }
            tokio::select! {
                () = self.until_changed(Some(due)) => {}
                // Nobody can come back to ask.
                () = stop.cancelled() => return,
            }
        }
    }

    fn end(&self, end: String) {
        let mut state = self.state();
        if state.end.is_none() {
            state.end = Some((end.into(), Instant::now()));
        }
        state.wake();
        self.room.close();
    }

    fn cut(&self) {
        if let Some(receiver) = &self.state().receiver {
            receiver.place.cut();
        }
    }

    /// Waits until something has changed, at most until `due`.
    async fn until_changed(&self, due: Option<Instant>) {
        let changed = self.changed.notified();
        match due {
            Some(due) => drop(tokio::time::timeout_at(due, changed).await),
            None => changed.await,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, waiting: Waiting) {
        self.outbound.push_back(waiting);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.receiver.as_mut().and_then(|one| one.waker.take()) {
            waker.wake();
        }
    }

    fn hear(&mut self) {
        let is_news = self
            .heard
            .is_none_or(|heard| heard.elapsed() >= SIGN_OF_LIFE);
        self.alive |= is_news;
    }

    /// When the session is given up unless a receiver comes.
    fn due(&self) -> Option<Instant> {
        self.receiver.is_none().then(|| self.alone_since + KEPT)
    }

    fn interrupt(&mut self) {
        self.interrupted = true;
        self.outbound.clear();
        self.pending = 0;
        let end = frame::close(1002, "Connection interrupted");
        self.end = Some((end.into(), Instant::now()));
    }
}

/// What a message counts that waits to be handled.
pub(super) fn cost(message: &Bytes) -> usize {
    message.len() + OVERHEAD
}

/// Why a session does not take messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReceiveError {
    #[error("These are more messages than this server takes at once.")]
    TooLarge,
    #[error("What was sent before is not handled yet.")]
    Busy,
}
