//! Drives one session: the only place that touches a socket after the upgrade.
//!
//! One task for each connection. It writes only when everything before is flushed, which lets many
//! frames leave in one write and bounds what is buffered; it reads only while the session wants
//! input.

#[cfg(test)]
mod tests;
mod turn;

use std::pin::pin;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep_until;
use uuid::Uuid;

use shared::broker::PublishError;
use shared::message::{RoomName, Span};

use self::turn::Turn;
use crate::Gateway;
use crate::access::{Action, Verdict};
use crate::auth::{AuthError, Identity};
use crate::close::CloseReason;
use crate::guard::Seat;
use crate::hub::Membership;
use crate::members::Member;
use crate::outbox::{Deliveries, Outbox, outbox};
use crate::past::Since;
use crate::session::output::{Outgoing, Output, Slot};
use crate::session::{Published, Session};
use crate::sockjs::KEPT;
use crate::transport::{Incoming, Peer, Transport};

/// How long a peer may take to read an ERROR, and then to answer the closing handshake.
pub(crate) const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// When the driver looks whether something is due although nothing is.
const FAR: Duration = Duration::from_secs(3600);

/// One client, from the upgrade to the close.
pub(crate) struct Connection<T> {
    gateway: Arc<Gateway>,
    socket: T,
    peer: Peer,
    identity: Option<Arc<Identity>>,
    /// Among the connections of its user, where those are counted.
    seat: Option<Seat>,
    session: Session,
    outbox: Outbox,
    deliveries: Deliveries,
    /// A few, mostly one.
    memberships: Vec<(Slot, Membership)>,
    tasks: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// Since when the socket has not taken everything.
    stuck_since: Option<Instant>,
    /// Since when the session has ended, with an ERROR that the socket has not taken.
    closing_since: Option<(Instant, CloseReason)>,
    draining: bool,
    /// Who waits to be told that the gateway ends.
    told_by: Option<Waker>,
    /// Answers and deliveries since the socket was last looked at.
    unheard: u8,
}

/// What a session's request came to.
enum Answer {
    Authenticated(Result<Identity, AuthError>),
    Authorized(RoomName, Action, Verdict),
    Published(u64, Result<Published, PublishError>),
    Joined(Slot, bool),
    Past(Slot, Option<Since>),
}

impl<T: Transport> Connection<T> {
    /// A connection whose upgrade is done.
    pub(crate) fn new(gateway: Arc<Gateway>, socket: T, peer: Peer) -> Self {
        let id = Uuid::new_v4().to_string();
        let settings = Arc::clone(&gateway.settings);
        let mut session = Session::new(settings, id, gateway.guarantees, socket.name(), now());
        if let Some(party) = gateway.entrance.guard.at(peer.address.ip()) {
            session.share(party);
        }
        let metrics = Arc::clone(&gateway.metrics.gateway);
        let (outbox, deliveries) = outbox(gateway.settings.max_outbox_bytes, metrics);
        Self {
            gateway,
            socket,
            peer,
            identity: None,
            seat: None,
            session,
            outbox,
            deliveries,
            memberships: Vec::new(),
            tasks: FuturesUnordered::new(),
            stuck_since: None,
            closing_since: None,
            draining: false,
            told_by: None,
            unheard: 0,
        }
    }

    /// Serves the client until either side ends it.
    ///
    /// It is boxed: a future holds what it is given twice.
    pub(crate) async fn run(mut self: Box<Self>) {
        let metrics = Arc::clone(&self.gateway.metrics.gateway);
        metrics.connections.inc();
        metrics
            .connections_total
            .with_label_values(&[self.socket.name().label()])
            .inc();
        let reason = self.serve().await;
        metrics.connections.dec();
        metrics
            .disconnects
            .with_label_values(&[reason.label()])
            .inc();
        tracing::debug!(reason = reason.label(), "connection closed");
        self.memberships.clear();
        // From here on nobody drives them, and others may wait for what they hold.
        self.tasks.clear();
        // A client that takes nothing any more would not take a Close either.
        if self.stuck_since.is_none() {
            let code = reason.websocket_code();
            let close = self.socket.close(code, reason.message(), CLOSE_DEADLINE);
            // Who is served has no room for it.
            Box::pin(close).await;
        }
    }

    async fn serve(&mut self) -> CloseReason {
        let gateway = Arc::clone(&self.gateway);
        let mut drained = pin!(gateway.drain.until_turn(!self.socket.name().is_polled()));
        let mut out_of_time = pin!(gateway.out_of_time.cancelled());
        // It is kept: most of what it is set for is put off again and again, and never comes.
        let mut alarm = pin!(sleep_until(self.wake_at().into()));
        loop {
            if let Err(reason) = self.carry_out() {
                return reason;
            }
            if !self.socket.is_flushed() {
                // Mostly the socket takes it at once. Where it does not, the turn waits for it.
                match self.socket.flush().now_or_never() {
                    Some(Ok(())) => continue,
                    Some(Err(_)) => {
                        return self.session.closing().unwrap_or(CloseReason::ClientClosed);
                    }
                    None => {}
                }
            }
            let wake = self.wake_at();
            if alarm.deadline() > wake.into() {
                alarm.as_mut().reset(wake.into());
            }
            let turn = self.turn(alarm.as_mut(), drained.as_mut(), out_of_time.as_mut());
            match turn.await {
                Turn::Incoming(incoming) => match incoming {
                    Incoming::Data(octets) => self.session.receive(now(), &octets),
                    Incoming::Begun => self.session.begun(now()),
                    Incoming::Alive => self.session.heard(now()),
                    Incoming::Flushed => {}
                    // Who goes while it is sent away does not change why.
                    Incoming::Closed => {
                        return self.session.closing().unwrap_or(CloseReason::ClientClosed);
                    }
                    Incoming::Failed(how) => self.session.broken(&how),
                    Incoming::TooLarge => self.session.cut(CloseReason::FrameTooLarge),
                },
                Turn::Delivery(delivery) => self.session.deliver(delivery),
                Turn::Answer(answer) => self.take(answer),
                Turn::Cut(reason) => self.session.cut(reason),
                Turn::Alarm => {
                    let now = now();
                    alarm.as_mut().reset((now + FAR).into());
                    if self.wake_at() <= now {
                        self.session.tick(now);
                    }
                }
                Turn::OutOfTime => return CloseReason::Restart,
                Turn::Drained => {
                    self.draining = true;
                    self.session.drain();
                }
            }
        }
    }

    /// Carries out what the session asks for, as long as the socket has room for it.
    fn carry_out(&mut self) -> Result<(), CloseReason> {
        if !self.socket.is_flushed() {
            let now = self::now();
            if let Some(reason) = self.session.closing() {
                self.closing_since.get_or_insert((now, reason));
            }
            return match self.gives_up() {
                Some((due, reason)) if now >= due => Err(reason),
                _ => Ok(()),
            };
        }
        self.stuck_since = None;
        let now = SystemTime::now();
        while self.socket.has_room() {
            if let Some(output) = self.session.poll() {
                self.carry_out_one(output, now)?;
            } else if let Some(delivery) = self.deliveries.try_next() {
                self.session.deliver(delivery);
            } else {
                break;
            }
        }
        if !self.socket.is_flushed() {
            let now = self::now();
            self.session.wrote(now);
            // From now, not from the next time that something happens: until then nothing may.
            self.stuck_since = Some(now);
            if let Some(reason) = self.session.closing() {
                self.closing_since.get_or_insert((now, reason));
            }
        }
        Ok(())
    }

    fn carry_out_one(&mut self, output: Output, now: SystemTime) -> Result<(), CloseReason> {
        match output {
            Output::Write(frame) => return self.write(frame),
            Output::Deliver(delivery) => {
                let encoded = &delivery.encoded;
                let metrics = &self.gateway.metrics.gateway;
                metrics.messages_delivered.inc();
                if let Ok(age) = now.duration_since(encoded.id.created_at()) {
                    metrics.fanout_seconds.observe(age.as_secs_f64());
                }
                return self.write(encoded.frame.clone());
            }
            Output::Authenticate(mut credentials) => {
                credentials.token = credentials.token.or_else(|| self.peer.token.take());
                let entrance = Arc::clone(&self.gateway.entrance);
                self.tasks.push(
                    async move {
                        Answer::Authenticated(entrance.auth.authenticate(credentials).await)
                    }
                    .boxed(),
                );
            }
            Output::Authorize { room, action } => {
                let entrance = Arc::clone(&self.gateway.entrance);
                let identity = self.identity.clone();
                self.tasks.push(
                    async move {
                        let verdict = match identity {
                            Some(who) => entrance.access.check(&who, &room, action).await,
                            None => Verdict::Refused,
                        };
                        Answer::Authorized(room, action, verdict)
                    }
                    .boxed(),
                );
            }
            Output::Decided(verdict) => verdict.count(&self.gateway.metrics.gateway),
            Output::Publish {
                token,
                draft,
                until,
            } => {
                let answer = self.gateway.publisher.publish(*draft, until);
                self.tasks
                    .push(async move { Answer::Published(token, answer.await) }.boxed());
            }
            Output::Join {
                slot,
                room,
                address,
            } => {
                let member = Member {
                    outbox: self.outbox.clone(),
                    slot,
                };
                let membership = self.gateway.hub.join(room, address, member);
                let confirmed = membership.confirmed();
                if self.memberships.is_empty() {
                    self.memberships.reserve_exact(1);
                }
                self.memberships.push((slot, membership));
                self.tasks.push(
                    async move {
                        let confirmed = confirmed.await.inspect_err(|error| {
                            tracing::warn!(%error, "a subscription was not confirmed");
                        });
                        Answer::Joined(slot, confirmed.is_ok())
                    }
                    .boxed(),
                );
            }
            Output::Leave(slot) => self.memberships.retain(|(its, _)| *its != slot),
            Output::Read {
                slot,
                room,
                span,
                limit,
            } => {
                let past = Arc::clone(&self.gateway.past);
                self.tasks.push(
                    async move {
                        let past = match span {
                            Span::After(after) => past.since(room, after, limit).await,
                            _ => past.attach(&room, span, limit).await.map(Since::from),
                        };
                        let past = past.inspect_err(|error| {
                            tracing::warn!(%error, "a room's past cannot be read");
                        });
                        Answer::Past(slot, past.ok())
                    }
                    .boxed(),
                );
            }
            Output::Slowed(scope) => {
                let slowed = &self.gateway.metrics.gateway.slowed;
                slowed.with_label_values(&[scope.label()]).inc();
            }
            Output::Close(reason) => return Err(reason),
        }
        Ok(())
    }

    fn write(&mut self, frame: Outgoing) -> Result<(), CloseReason> {
        self.socket.queue(frame).map_err(|error| {
            tracing::debug!(%error, "a frame cannot be queued");
            CloseReason::ClientClosed
        })
    }

    fn take(&mut self, answer: Answer) {
        match answer {
            Answer::Authenticated(who) => {
                if let Ok(identity) = &who {
                    match self.gateway.entrance.guard.enter(&identity.user) {
                        Ok(seat) => self.seat = seat,
                        Err(away) => return self.session.cut(away.reason()),
                    }
                    if let Some(seat) = &self.seat {
                        self.session.share(Arc::clone(seat.party()));
                    }
                }
                self.identity = who.as_ref().ok().cloned().map(Arc::new);
                self.session.authenticated(now(), who);
            }
            Answer::Authorized(room, action, verdict) => {
                self.session.authorized(now(), &room, action, verdict);
            }
            Answer::Published(token, answer) => {
                self.session.published(now(), token, answer);
            }
            Answer::Joined(slot, confirmed) => {
                self.session.joined(now(), slot, confirmed);
            }
            Answer::Past(slot, past) => {
                // What the page repeats of what was delivered before it is known only to a
                // session that has it.
                while let Some(delivery) = self.deliveries.try_next() {
                    self.session.deliver(delivery);
                }
                if past
                    .as_ref()
                    .is_some_and(|past| past.page.complete && !past.is_known)
                {
                    self.session.forget_after(slot);
                }
                let page = past
                    .as_ref()
                    .map(|past| (past.page.messages.as_slice(), past.is_whole()));
                self.session.past(slot, page);
            }
        }
    }

    /// When something is due although nothing happens.
    fn wake_at(&self) -> Instant {
        let far = now() + FAR;
        let gives_up = self.gives_up().map(|(due, _)| due);
        let dues = [gives_up, self.session.timeout()];
        dues.into_iter().flatten().min().unwrap_or(far)
    }

    /// When a socket that takes nothing is given up, and why.
    fn gives_up(&self) -> Option<(Instant, CloseReason)> {
        let patience = self.gateway.settings.write_timeout;
        let stuck = self
            .stuck_since
            .map(|since| (since + patience, CloseReason::WriteTimeout));
        // A client between two requests has not refused its ERROR.
        let last_patience = if self.socket.name().is_polled() {
            KEPT
        } else {
            CLOSE_DEADLINE
        };
        let closing = self
            .closing_since
            .map(|(since, reason)| (since + last_patience, reason));
        [stuck, closing]
            .into_iter()
            .flatten()
            .min_by_key(|(due, _)| *due)
    }
}

/// The clock of the runtime, which a test may hold.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
