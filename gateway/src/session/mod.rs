//! One client's STOMP session, without any I/O: octets, answers and times go in, [`Output`]s come
//! out. It has no socket, no clock and no task, so that it is tested with a virtual clock.
//!
//! The driver feeds inputs with the `&mut self` methods of the first group, of which those of time
//! are in `clock`, and after each one carries out every [`Session::poll`] in order. It reads from
//! the socket only while [`Session::wants_input`], which is how a client that has too much in
//! flight is slowed down.

pub mod message;
pub mod output;

mod acknowledge;
mod attach;
mod clock;
mod connect;
mod ending;
mod frames;
mod meter;
mod permit;
mod publication;
mod readings;
mod refusals;
mod review;
mod subscription;
mod transaction;
mod window;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use shared::broker::{Accepted, Guarantees, PublishError};
use shared::message::{Message, Series, UserName};
use shared::stomp::encode;
use shared::stomp::heartbeat::HeartBeat;
use shared::stomp::{Command, Frame, Version};
use shared::stomp::{Decoded, Decoder};

use self::connect::Greeting;
use self::frames::Handled;
use self::meter::{Kind, Meters, kinds};
use self::output::{Outgoing, Output, Slot};
use self::permit::Permits;
use self::publication::InFlight;
use self::readings::Readings;
use self::refusals::Told;
use self::subscription::Subscription;
use self::transaction::Transactions;
use crate::close::CloseReason;
use crate::config::Settings;
use crate::guard::Party;
use crate::outbox::Delivery;
use crate::transport::TransportName;

/// The most octets of SEND frames in flight to the broker for one connection.
const MAX_IN_FLIGHT_BYTES: usize = 256 * 1024;

/// The most SEND frames in flight to the broker for one connection.
const MAX_IN_FLIGHT: usize = 256;

/// The most outputs that wait while more of the socket is read.
const MAX_OUTPUTS: usize = 256;

/// What room for so many outputs takes is kept when they have gone.
const KEPT_OUTPUTS: usize = 32;

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
    permits: Permits,
    /// When a subscription has to be asked for again.
    review_due: Option<Instant>,
    told: Told,
    /// When what the client has proved who it is with is good no longer.
    expires: Option<Instant>,
    /// A frame that waits for a SUBSCRIBE before it to take effect, or to be allowed, or came over a
    /// rate.
    stalled: Option<Frame>,
    subscriptions: Vec<Subscription>,
    /// The names of those that have ended last and were to be acknowledged.
    ended: VecDeque<Option<Arc<str>>>,
    next_slot: u32,
    joining: usize,
    /// Those that were taken back while they joined.
    revoked: Vec<Slot>,
    readings: Readings,
    in_flight: HashMap<u64, InFlight>,
    series: Series,
    in_flight_bytes: usize,
    next_token: u64,
    transactions: Transactions,
    meters: Meters,
    /// With whom it shares limits.
    parties: Vec<Arc<Party>>,
    /// Since when a frame has been incomplete although everything was read.
    unfinished_since: Option<Instant>,
    /// Since when a message of the transport has been half there.
    begun_since: Option<Instant>,
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
        /// However often it is slowed down.
        latest: Instant,
    },
    /// It has, and who the client is is being found out, by then; frames behind it wait.
    Authenticating {
        deadline: Instant,
        greeting: Greeting,
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
        let latest = deadline + settings.guard.rate_patience;
        Self {
            id,
            guarantees,
            transport,
            state: State::Opening { deadline, latest },
            decoder: Decoder::new(settings.frame_limits()),
            version: Version::V1_0,
            user: anonymous(),
            permits: Permits::new(settings.access.source),
            review_due: None,
            told: Told::default(),
            expires: None,
            stalled: None,
            subscriptions: Vec::new(),
            ended: VecDeque::new(),
            next_slot: 0,
            joining: 0,
            revoked: Vec::new(),
            readings: Readings::default(),
            in_flight: HashMap::new(),
            series: Series::default(),
            in_flight_bytes: 0,
            next_token: 0,
            transactions: Transactions::default(),
            meters: Meters::new(&settings),
            parties: Vec::new(),
            unfinished_since: None,
            begun_since: None,
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
        self.begun_since = None;
        if self.is_ending() {
            return;
        }
        // Line ends are padding after a frame, and a heart-beat where there is nothing else.
        let is_padding = octets.iter().all(|octet| matches!(octet, b'\r' | b'\n'));
        let is_control = is_padding && (octets.is_empty() || self.unfinished_since.is_none());
        self.decoder.feed(octets);
        self.count(now, &[Kind::Octets], octets.len());
        if is_control && !self.is_ending() {
            self.count(now, &[Kind::Controls], 0);
        }
        self.take_frames(now);
    }

    /// The answer to [`Output::Publish`].
    pub fn published(&mut self, now: Instant, token: u64, answer: Result<Published, PublishError>) {
        self.settle(token, answer);
        self.finish_if_idle();
        self.take_frames(now);
    }

    /// The answer to [`Output::Join`]: whether the broker has confirmed.
    pub fn joined(&mut self, now: Instant, slot: Slot, confirmed: bool) {
        self.joining -= 1;
        if self.closing().is_some() {
            return;
        }
        if let Some(at) = self.revoked.iter().position(|revoked| *revoked == slot) {
            self.revoked.swap_remove(at);
            self.outputs.push_back(Output::Leave(slot));
            return self.take_frames(now);
        }
        if !confirmed {
            let receipt = self.subscription(slot).and_then(Subscription::end);
            let receipt = receipt.as_ref().map(|(receipt, _)| receipt.as_str());
            let detail = "the broker did not confirm the subscription";
            self.fail(CloseReason::BrokerUnavailable, detail, receipt);
            return;
        }
        if let Some(subscription) = self.subscription(slot) {
            let step = subscription.joined();
            self.step(slot, step);
        }
        self.take_frames(now);
    }

    /// To be told before [`Self::past`]: the message that this subscription was to come after is not
    /// in its room. What is newer there may have smaller ids.
    pub fn forget_after(&mut self, slot: Slot) {
        if let Some(subscription) = self.subscription(slot) {
            subscription.forget_after();
        }
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
        if self.closing().is_none() {
            self.read();
        }
    }

    /// A live MESSAGE for one of the subscriptions.
    pub fn deliver(&mut self, delivery: Delivery) {
        if self.closing().is_some() {
            return;
        }
        let Some(subscription) = self.subscription(delivery.slot) else {
            return;
        };
        if let Some(delivery) = subscription.deliver(delivery) {
            self.outputs.push_back(Output::Deliver(delivery));
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

    /// Ends the session with an ERROR: the client broke its transport's protocol, in this way.
    pub fn broken(&mut self, how: &str) {
        if self.closing().is_none() {
            self.fail(CloseReason::ProtocolError, how, None);
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if output.is_none() && self.outputs.capacity() > KEPT_OUTPUTS {
            self.outputs = VecDeque::new();
        }
        output
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
            && !self.is_authenticating()
            && self.has_room()
            && !self.meters.is_holding()
            && self.outputs.len() < MAX_OUTPUTS
            && !self.is_ending()
    }

    /// Handles what has been read. It stops only at what an answer will start it again from: for
    /// frames that have come the client may wait, and send nothing more.
    fn take_frames(&mut self, now: Instant) {
        while self.has_room()
            && !self.is_authenticating()
            && !self.is_ending()
            && !self.meters.is_holding()
        {
            let frame = match self.stalled.take() {
                Some(frame) => frame,
                None => match self.decoder.next() {
                    Ok(Some(Decoded::Frame(frame))) => {
                        self.unfinished_since = None;
                        let kinds = kinds(frame.command);
                        self.stalled = Some(frame);
                        if !self.count(now, kinds, 0) {
                            return;
                        }
                        continue;
                    }
                    Ok(Some(Decoded::HeartBeat)) => continue,
                    Ok(None) => {
                        let since = self.unfinished_since.unwrap_or(now);
                        self.unfinished_since = self.decoder.is_unfinished().then_some(since);
                        return;
                    }
                    Err(error) => {
                        let reason = if error.is_too_large() {
                            CloseReason::FrameTooLarge
                        } else {
                            CloseReason::ProtocolError
                        };
                        let receipt = self.decoder.receipt().map(str::to_owned);
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
            if self.handle(now, &frame) == Handled::Waits {
                self.stalled = Some(frame);
                return;
            }
            self.permits.resume();
        }
    }

    fn is_authenticating(&self) -> bool {
        matches!(self.state, State::Authenticating { .. })
    }

    fn has_room(&self) -> bool {
        self.in_flight.len() < MAX_IN_FLIGHT && self.in_flight_bytes < MAX_IN_FLIGHT_BYTES
    }

    /// RECEIPT, where one was asked for (STOMP 1.2, section "RECEIPT").
    fn acknowledged(&mut self, receipt: Option<String>) {
        if let Some(receipt) = receipt {
            self.write(&Frame::new(Command::Receipt).with("receipt-id", &receipt));
        }
    }

    fn write(&mut self, frame: &Frame) {
        let octets = encode(frame, self.version);
        self.outputs
            .push_back(Output::Write(Outgoing::Text(octets)));
    }
}

/// Who a client is that gives no name.
pub(crate) fn anonymous() -> UserName {
    UserName::parse("anonymous").expect("the literal is a user name")
}
