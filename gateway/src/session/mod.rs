//! One client's STOMP session, without any I/O: octets, answers and times go in, [`Output`]s come
//! out. It has no socket, no clock and no task, so that it is tested with a virtual clock.
//!
//! The driver feeds inputs with the `&mut self` methods of the first group, and after each one
//! carries out every [`Session::poll`] in order. It reads from the socket only while
//! [`Session::wants_input`], which is how a client that has too much in flight is slowed down.

pub mod message;
pub mod output;

mod connect;
mod frames;
mod rate;
mod readings;
mod subscription;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::broker::{Accepted, Guarantees, PublishError};
use shared::message::{Message, Series, UserName};
use shared::stomp::encode;
use shared::stomp::heartbeat::HeartBeat;
use shared::stomp::{Command, Frame, Version};
use shared::stomp::{Decoded, Decoder, Limits};

use self::message::HEART_BEAT;
use self::output::{Outgoing, Output, Slot};
use self::rate::Rate;
use self::readings::Readings;
use self::subscription::{Step, Subscription};
use crate::close::CloseReason;
use crate::config::Settings;
use crate::outbox::Delivery;
use crate::transport::TransportName;

/// The most octets of SEND frames in flight to the broker for one connection.
const MAX_IN_FLIGHT_BYTES: usize = 256 * 1024;

/// The most SEND frames in flight to the broker for one connection.
const MAX_IN_FLIGHT: usize = 256;

/// The most outputs that wait while more of the socket is read.
const MAX_OUTPUTS: usize = 256;

/// How long a client without heart-beats may be silent before its transport is asked.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// How often SockJS's clients are sent a heart-beat (SockJS 0.3.3, "Protocol and framing").
const SOCKJS_INTERVAL: Duration = Duration::from_secs(25);

/// The state of one client's session.
pub struct Session {
    settings: Arc<Settings>,
    id: String,
    guarantees: Guarantees,
    transport: TransportName,
    state: State,
    decoder: Decoder,
    version: Version,
    user: UserName,
    /// A frame that waits for a SUBSCRIBE before it to take effect.
    stalled: Option<Frame>,
    subscriptions: Vec<Subscription>,
    next_slot: u32,
    joining: usize,
    readings: Readings,
    in_flight: HashMap<u64, InFlight>,
    series: Series,
    in_flight_bytes: usize,
    next_token: u64,
    rate: Option<Rate>,
    heart_beat: HeartBeat,
    last_read: Instant,
    last_write: Instant,
    last_ping: Instant,
    outputs: VecDeque<Output>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// CONNECT has not come yet; it must, by then.
    Opening {
        deadline: Instant,
    },
    Open,
    /// DISCONNECT has come; what is in flight is finished first.
    Leaving {
        receipt: Option<String>,
    },
    /// The server is going away; what is in flight is finished first.
    Draining,
    /// The last output, the close, is in the queue.
    Closed(CloseReason),
}

struct InFlight {
    receipt: Option<String>,
    bytes: usize,
}

/// How a publish ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// What the receipt says is true.
    Done(Accepted),
    /// It was accepted, but the store has not had it in time: no receipt.
    Withheld,
}

impl Session {
    /// A session whose client has `settings.connect_deadline` from `now` to send CONNECT. `id` is
    /// told to the client; `guarantees` are the broker's; `transport` is what it speaks through.
    pub fn new(
        settings: Arc<Settings>,
        id: String,
        guarantees: Guarantees,
        transport: TransportName,
        now: Instant,
    ) -> Self {
        let deadline = now + settings.connect_deadline;
        Self {
            id,
            guarantees,
            transport,
            state: State::Opening { deadline },
            decoder: Decoder::new(Limits {
                frame_bytes: settings.max_frame_bytes,
                headers: settings.max_headers,
                header_bytes: settings.max_header_bytes,
                headers_bytes: settings.max_headers_bytes,
            }),
            version: Version::V1_0,
            user: anonymous(),
            stalled: None,
            subscriptions: Vec::new(),
            next_slot: 0,
            joining: 0,
            readings: Readings::default(),
            in_flight: HashMap::new(),
            series: Series::default(),
            in_flight_bytes: 0,
            next_token: 0,
            rate: settings.send_rate.map(Rate::new),
            heart_beat: HeartBeat {
                outgoing: None,
                incoming: None,
            },
            last_read: now,
            last_write: now,
            last_ping: now,
            outputs: VecDeque::new(),
            settings,
        }
    }

    /// Octets from the client: a whole WebSocket message, whose borders mean nothing to STOMP.
    pub fn receive(&mut self, now: Instant, octets: &[u8]) {
        self.last_read = now;
        if self.is_ending() {
            return;
        }
        self.decoder.feed(octets);
        self.take_frames(now);
    }

    /// The answer to [`Output::Publish`].
    pub fn published(&mut self, now: Instant, token: u64, answer: Result<Published, PublishError>) {
        let Some(InFlight { receipt, bytes }) = self.in_flight.remove(&token) else {
            return;
        };
        self.in_flight_bytes -= bytes;
        if self.closing().is_some() {
            return;
        }
        match (answer, receipt) {
            (Ok(Published::Done(accepted)), Some(receipt)) => {
                let frame = Frame::new(Command::Receipt)
                    .with("receipt-id", &receipt)
                    .with("message-id", &accepted.id.to_string())
                    .with("created-at", &accepted.id.created_at_rfc3339());
                self.write(&frame);
            }
            (Ok(_), _) => {}
            (Err(error), receipt) => {
                let reason = match error {
                    PublishError::Full => CloseReason::JournalFull,
                    PublishError::Overloaded => CloseReason::Overloaded,
                    PublishError::Unavailable => CloseReason::BrokerUnavailable,
                };
                self.fail(reason, &error.to_string(), receipt.as_deref());
            }
        }
        self.finish_if_idle();
        self.take_frames(now);
    }

    /// The answer to [`Output::Join`]: whether the broker has confirmed.
    pub fn joined(&mut self, now: Instant, slot: Slot, confirmed: bool) {
        self.joining -= 1;
        if self.closing().is_some() {
            return;
        }
        if !confirmed {
            let reason = CloseReason::BrokerUnavailable;
            self.fail(reason, "the broker did not confirm the subscription", None);
            return;
        }
        if let Some(subscription) = self.subscription(slot) {
            let step = subscription.joined();
            self.step(slot, step);
        }
        self.take_frames(now);
    }

    /// The answer to [`Output::Read`]: a page, oldest first, and whether it is whole; `None` when
    /// the past cannot be read.
    pub fn past(&mut self, slot: Slot, page: Option<(&[Arc<Message>], bool)>) {
        if self.closing().is_some() {
            return;
        }
        self.readings.end();
        if let Some(subscription) = self.subscription(slot) {
            let step = match page {
                Some((messages, complete)) => {
                    let (frames, step) = subscription.page(messages, complete);
                    self.outputs.extend(frames.into_iter().map(Output::Write));
                    step
                }
                None => subscription.past_failed(),
            };
            self.step(slot, step);
        }
        self.read();
    }

    /// A live MESSAGE for one of the subscriptions.
    pub fn deliver(&mut self, delivery: Delivery) {
        if self.closing().is_some() {
            return;
        }
        let Some(subscription) = self.subscription(delivery.slot) else {
            return;
        };
        if let Some(encoded) = subscription.deliver(delivery) {
            self.outputs.push_back(Output::Deliver(encoded));
        }
    }

    /// A sign of life from the client's transport, without octets.
    pub fn heard(&mut self, now: Instant) {
        self.last_read = now;
    }

    /// Octets went to the client.
    pub fn wrote(&mut self, now: Instant) {
        self.last_write = now;
    }

    /// The time that [`Self::timeout`] named has come.
    pub fn tick(&mut self, now: Instant) {
        if let State::Opening { deadline } = self.state
            && now >= deadline
        {
            self.fail(
                CloseReason::ConnectTimeout,
                "no CONNECT frame has come",
                None,
            );
        }
        if self.closing().is_some() {
            return;
        }
        if self.outgoing_due().is_some_and(|due| now >= due) {
            self.outputs.push_back(Output::Write(HEART_BEAT));
            self.last_write = now;
        }
        if self.ping_due().is_some_and(|due| now >= due) {
            self.outputs.push_back(Output::Write(Outgoing::Ping));
            self.last_ping = now;
        }
        if self.incoming_due() <= now {
            if self.wants_input() {
                let detail = "the client has been silent for too long";
                self.fail(CloseReason::HeartBeatTimeout, detail, None);
            } else {
                // We have not been listening, so silence says nothing about the client.
                self.last_read = now;
            }
        }
    }

    /// Ends the session once what is in flight is finished: the server is going away.
    pub fn drain(&mut self) {
        if !self.is_ending() {
            self.state = State::Draining;
            self.finish_if_idle();
        }
    }

    /// Ends the session with an ERROR, for a reason that the driver has found.
    pub fn cut(&mut self, reason: CloseReason) {
        if self.closing().is_none() {
            self.fail(reason, reason.message(), None);
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Why the session has ended, once it has: what is left to poll ends with the close.
    pub fn closing(&self) -> Option<CloseReason> {
        match self.state {
            State::Closed(reason) => Some(reason),
            _ => None,
        }
    }

    /// Whether more of the socket may be read.
    pub fn wants_input(&self) -> bool {
        self.stalled.is_none()
            && self.has_room()
            && self.outputs.len() < MAX_OUTPUTS
            && !self.is_ending()
    }

    /// When [`Self::tick`] is due at the latest.
    pub fn timeout(&self) -> Option<Instant> {
        let opening = match self.state {
            State::Opening { deadline } => Some(deadline),
            State::Closed(_) => return None,
            _ => None,
        };
        let dues = [
            opening,
            self.outgoing_due(),
            self.ping_due(),
            Some(self.incoming_due()),
        ];
        dues.into_iter().flatten().min()
    }

    /// Handles what has been read. It stops only at what an answer will start it again from: for
    /// frames that have come the client may wait, and send nothing more.
    fn take_frames(&mut self, now: Instant) {
        while self.has_room() && !self.is_ending() {
            let frame = match self.stalled.take() {
                Some(frame) => frame,
                None => match self.decoder.next() {
                    Ok(Some(Decoded::Frame(frame))) => frame,
                    Ok(Some(Decoded::HeartBeat)) => continue,
                    Ok(None) => return,
                    Err(error) => {
                        let reason = if error.is_too_large() {
                            CloseReason::FrameTooLarge
                        } else {
                            CloseReason::ProtocolError
                        };
                        let receipt = self.decoder.failed_receipt().map(str::to_owned);
                        return self.fail(reason, &error.to_string(), receipt.as_deref());
                    }
                },
            };
            // Frames of one session are handled in order: what follows a SUBSCRIBE may count on
            // it. Further SUBSCRIBEs need not wait for each other.
            if self.joining > 0 && frame.command != Command::Subscribe {
                self.stalled = Some(frame);
                return;
            }
            self.handle(now, &frame);
        }
    }

    fn has_room(&self) -> bool {
        self.in_flight.len() < MAX_IN_FLIGHT && self.in_flight_bytes < MAX_IN_FLIGHT_BYTES
    }

    fn is_ending(&self) -> bool {
        !matches!(self.state, State::Opening { .. } | State::Open)
    }

    fn finish_if_idle(&mut self) {
        if !self.in_flight.is_empty() {
            return;
        }
        match &mut self.state {
            State::Leaving { receipt } => {
                if let Some(receipt) = receipt.take() {
                    self.write(&Frame::new(Command::Receipt).with("receipt-id", &receipt));
                }
                self.close(CloseReason::ClientDisconnected);
            }
            State::Draining => self.close(CloseReason::Restart),
            State::Opening { .. } | State::Open | State::Closed(_) => {}
        }
    }

    fn close(&mut self, reason: CloseReason) {
        self.outputs.push_back(Output::Close(reason));
        self.state = State::Closed(reason);
    }

    fn read(&mut self) {
        while let Some((slot, span, limit)) = self.readings.begin() {
            let Some(subscription) = self.subscription(slot) else {
                self.readings.end();
                continue;
            };
            let room = subscription.room.clone();
            self.outputs.push_back(Output::Read {
                slot,
                room,
                span,
                limit,
            });
        }
    }

    fn step(&mut self, slot: Slot, step: Step) {
        match step {
            Step::Read(span, limit) => {
                self.readings.ask(slot, span, limit);
                self.read();
            }
            Step::Live {
                receipt,
                recovered,
                released,
            } => {
                let told = receipt.is_some();
                if let Some(receipt) = receipt {
                    let mut frame = Frame::new(Command::Receipt).with("receipt-id", &receipt);
                    if let Some(recovered) = recovered {
                        frame = frame.with("recovered", if recovered { "true" } else { "false" });
                    }
                    self.write(&frame);
                }
                if recovered == Some(false) && !told && self.guarantees.journaled {
                    let detail = "the past that was asked for cannot be had in full now";
                    return self.fail(CloseReason::GapUnrepaired, detail, None);
                }
                self.outputs
                    .extend(released.into_iter().map(Output::Deliver));
            }
        }
    }

    /// ERROR, then the close (STOMP 1.2, section "ERROR"): nothing is written after it.
    fn fail(&mut self, reason: CloseReason, detail: &str, receipt: Option<&str>) {
        let mut frame = Frame::new(Command::Error)
            .with("message", reason.message())
            .with("code", reason.code())
            .with("content-type", "text/plain");
        if let Some(receipt) = receipt {
            frame = frame.with("receipt-id", receipt);
        }
        if reason == CloseReason::VersionUnsupported {
            frame = frame.with("version", "1.0,1.1,1.2");
        }
        self.write(&frame.with_body(detail.to_owned()));
        self.close(reason);
    }

    fn write(&mut self, frame: &Frame) {
        let octets = encode(frame, self.version);
        self.outputs
            .push_back(Output::Write(Outgoing::Text(octets)));
    }

    fn subscription(&mut self, slot: Slot) -> Option<&mut Subscription> {
        // Slots only grow, so that the list is sorted by them.
        let at = self
            .subscriptions
            .binary_search_by_key(&slot, |s| s.slot)
            .ok()?;
        self.subscriptions.get_mut(at)
    }

    fn outgoing_due(&self) -> Option<Instant> {
        // A client gives up after twice the interval; a tenth earlier than agreed covers timers.
        self.heart_beat
            .outgoing
            .map(|interval| self.last_write + interval * 9 / 10)
    }

    fn incoming_due(&self) -> Instant {
        let interval = self.heart_beat.incoming.unwrap_or(PING_INTERVAL);
        self.last_read + grace(interval)
    }

    /// A client without heart-beats may be half open; only its transport can tell. SockJS has
    /// heart-beats of its own, which STOMP's replace.
    fn ping_due(&self) -> Option<Instant> {
        if self.transport.is_sockjs() {
            let last = self.last_write.max(self.last_ping);
            let is_wanted = self.heart_beat.outgoing.is_none();
            return is_wanted.then(|| last + SOCKJS_INTERVAL);
        }
        let silent_since = self.last_read.max(self.last_ping);
        self.heart_beat
            .incoming
            .is_none()
            .then(|| silent_since + PING_INTERVAL)
    }
}

/// How long a client may be silent: two and a half times what was agreed.
fn grace(interval: Duration) -> Duration {
    interval * 5 / 2
}

fn anonymous() -> UserName {
    UserName::parse("anonymous").expect("the literal is a user name")
}
