//! Everything around a session: its driver, its broker, its rooms, its clock.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use gateway::close::CloseReason;
use gateway::config::Settings;
use gateway::outbox::{Deliveries, Outbox, outbox};
use gateway::session::output::{Output, Slot};
use gateway::session::{Published, Session};
use gateway::transport::TransportName;
use shared::broker::{Accepted, Guarantees, PublishError};
use shared::message::{Message, RoomName, Span};
use shared::metrics::Metrics;
use shared::stomp::heartbeat::HeartBeat;
use shared::stomp::{Frame, Version};

use super::client::{Acknowledged, Client, Outcome};
use super::reader::Reader;
use super::script::Setup;

/// A client without heart-beats is asked by its transport so often.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// How a reading of the past ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    Whole,
    Holed,
    Failed,
}

pub(crate) struct World {
    pub(super) now: Instant,
    pub(super) session: Session,
    pub(super) settings: Arc<Settings>,
    pub(super) guarantees: Guarantees,
    pub(super) transport: TransportName,
    pub(super) outbox: Outbox,
    deliveries: Deliveries,
    /// What the client has written and its socket holds back.
    unsent: Vec<u8>,
    /// What waits until the session wants input.
    waiting: VecDeque<Vec<u8>>,
    /// The socket takes nothing, so that the driver polls nothing.
    stuck: bool,
    draining: bool,
    pub(super) client: Client,
    pub(super) version: Version,
    pub(super) heart_beat: HeartBeat,
    /// CONNECTED has come, and with it `version` and `heart_beat`.
    pub(super) is_connected: bool,
    pub(super) last_heard: Instant,
    pub(super) last_write: Instant,
    /// The publishes without an answer: token, which SEND it is, its room, whether ephemeral.
    pub(super) publishes: Vec<(u64, usize, RoomName, bool)>,
    pub(super) joins: Vec<Slot>,
    pub(super) reads: Vec<(Slot, RoomName, Span, usize)>,
    pub(super) rooms: BTreeMap<RoomName, Vec<Arc<Message>>>,
    pub(super) readers: BTreeMap<Slot, Reader>,
    /// The MESSAGEs that the client has seen, for it to acknowledge.
    pub(super) seen: Vec<Frame>,
    /// The code of the ERROR that has come.
    pub(super) error: Option<String>,
    /// DISCONNECT's RECEIPT has come.
    pub(super) said_goodbye: bool,
    pub(super) closed: Option<CloseReason>,
    pub(super) last_ms: u64,
    pub(super) whispers: u64,
}

impl World {
    pub(crate) fn new(setup: &Setup) -> Self {
        static METRICS: OnceLock<Metrics> = OnceLock::new();
        let metrics = METRICS.get_or_init(Metrics::new);
        let Setup {
            settings,
            guarantees,
            transport,
            ..
        } = setup;
        let now = Instant::now();
        let (outbox, deliveries) = outbox(1 << 20, Arc::clone(&metrics.gateway));
        let session = Session::new(
            Arc::clone(settings),
            "s".into(),
            *guarantees,
            *transport,
            now,
        );
        let mut world = Self {
            now,
            session,
            settings: Arc::clone(settings),
            guarantees: *guarantees,
            transport: *transport,
            outbox,
            deliveries,
            unsent: Vec::new(),
            waiting: VecDeque::new(),
            stuck: false,
            draining: false,
            client: Client::new(settings),
            version: Version::V1_0,
            heart_beat: HeartBeat::default(),
            is_connected: false,
            last_heard: now,
            last_write: now,
            publishes: Vec::new(),
            joins: Vec::new(),
            reads: Vec::new(),
            rooms: BTreeMap::new(),
            readers: BTreeMap::new(),
            seen: Vec::new(),
            error: None,
            said_goodbye: false,
            closed: None,
            last_ms: 0,
            whispers: 0,
        };
        if setup.connects {
            world.say(b"CONNECT\naccept-version:1.2\n\n\0", 0);
        }
        world
    }

    /// The driver has let go of the session.
    pub(crate) fn is_over(&self) -> bool {
        self.closed.is_some()
    }

    /// The client writes. Of all that it has written, `held` octets do not leave yet.
    pub(crate) fn say(&mut self, octets: &[u8], held: usize) {
        self.unsent.extend_from_slice(octets);
        let leave = self.unsent.len().saturating_sub(held);
        let chunk: Vec<u8> = self.unsent.drain(..leave).collect();
        if !chunk.is_empty() {
            self.waiting.push_back(chunk);
        }
        self.go_on();
    }

    /// The broker answers a publish.
    pub(crate) fn answer(&mut self, which: usize, answer: Result<bool, PublishError>) {
        if self.publishes.is_empty() {
            return;
        }
        let (token, place, room, ephemeral) = self.publishes.remove(which % self.publishes.len());
        if answer.is_err() {
            self.client.excuse();
        }
        let (answer, outcome) = match answer {
            Ok(true) => {
                let id = self.accept(&room, ephemeral);
                (
                    Ok(Published::Done(Accepted {
                        id,
                        repeated: false,
                        prev: None,
                    })),
                    Outcome::Accepted(id),
                )
            }
            Ok(false) => (Ok(Published::Withheld), Outcome::Withheld),
            Err(error) => (Err(error), Outcome::Failed),
        };
        self.client.answered(place, outcome);
        self.session.published(self.now, token, answer);
        self.go_on();
    }

    /// The broker confirms a subscription, or does not.
    pub(crate) fn confirm(&mut self, which: usize, confirmed: bool) {
        if self.joins.is_empty() {
            return;
        }
        let slot = self.joins.remove(which % self.joins.len());
        if !confirmed {
            self.client.excuse();
        }
        let wants_past = wants_past(self.client.subscribe(slot.0 as usize));
        if let Some(reader) = self.readers.get_mut(&slot) {
            reader.confirmed = confirmed;
            if confirmed && !wants_past {
                self.client
                    .subscribed(slot.0 as usize, Some(Outcome::Earned));
            }
        }
        self.session.joined(self.now, slot, confirmed);
        self.go_on();
    }

    /// A reading of the past ends.
    pub(crate) fn page(&mut self, which: usize, how: Page) {
        if self.reads.is_empty() {
            return;
        }
        let (slot, room, span, limit) = self.reads.remove(which % self.reads.len());
        if how != Page::Whole {
            self.client.excuse();
        }
        let log = self.rooms.entry(room).or_default();
        let mut page = log.clone();
        page.retain(|message| span.contains(message.id));
        span.cut(&mut page, limit);
        if let Some(reader) = self.readers.get_mut(&slot) {
            if span == Span::Newest && how != Page::Failed {
                let first = log.len() - page.len();
                // Of a page with holes nothing need be left, but what came meanwhile is.
                let held = if how == Page::Holed {
                    reader.said
                } else {
                    first
                };
                reader.begin_at(first.min(held));
            }
            reader.holes |= how != Page::Whole;
            self.client
                .subscribed(slot.0 as usize, Some(Outcome::Earned));
        }
        if how == Page::Holed {
            let mut at = 0;
            page.retain(|_| {
                at += 1;
                at % 2 == 0
            });
        }
        // A driver hands over what was delivered before, so that the session knows it again.
        while let Some(delivery) = self.deliveries.try_next() {
            self.session.deliver(delivery);
        }
        let answer = (how != Page::Failed).then_some((page.as_slice(), how == Page::Whole));
        self.session.past(slot, answer);
        self.go_on();
    }

    /// Time passes; the driver wakes when the session wants to be woken.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.closed.is_none()
            && let Some(due) = self.session.timeout()
            && due <= until
        {
            self.wake(due);
        }
        self.now = self.now.max(until);
    }

    /// The time passes at which the session wants to be woken.
    pub(crate) fn pass_until_due(&mut self) {
        if let Some(due) = self.session.timeout() {
            self.wake(due);
        }
    }

    fn wake(&mut self, due: Instant) {
        self.now = self.now.max(due);
        self.client.excuse();
        let was_closing = self.session.closing().is_some();
        self.session.tick(self.now);
        if self.session.closing() == Some(CloseReason::HeartBeatTimeout)
            && !was_closing
            && self.is_connected
        {
            let silent = self.now - self.last_heard;
            assert!(
                silent >= 2 * self.patience(),
                "a silence of {silent:?} is no death"
            );
        }
        if let Some(next) = self.session.timeout() {
            assert!(
                next > self.now,
                "a session that is due again at once never sleeps"
            );
        }
        self.go_on();
        if let Some(interval) = self.heart_beat.outgoing
            && self.closed.is_none()
            && !self.stuck
        {
            let silent = self.now - self.last_write;
            assert!(
                silent <= interval,
                "a silence of {silent:?} where {interval:?} was agreed"
            );
        }
    }

    /// The client's transport shows that it lives.
    pub(crate) fn hear(&mut self) {
        self.last_heard = self.now;
        self.client.excuse();
        self.session.heard(self.now);
        self.go_on();
    }

    /// The client's socket takes nothing from here on, or takes everything again.
    pub(crate) fn toggle_stuck(&mut self) {
        self.stuck = !self.stuck;
        self.go_on();
    }

    /// The server is going away.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
        self.session.drain();
        self.go_on();
    }

    /// The driver has found a reason to end it.
    pub(crate) fn cut(&mut self, reason: CloseReason) {
        self.client.excuse();
        self.session.cut(reason);
        self.go_on();
    }

    /// Everything that is outstanding ends well.
    pub(crate) fn answer_all(&mut self) {
        while self.closed.is_none()
            && !(self.publishes.is_empty() && self.joins.is_empty() && self.reads.is_empty())
        {
            self.answer(0, Ok(true));
            self.confirm(0, true);
            self.page(0, Page::Whole);
        }
    }

    /// Acknowledges everything, where the client can say so; returns whether there was anything.
    fn acknowledge_all(&mut self) -> bool {
        let can_say = self.client.is_between_frames() && self.waiting.is_empty();
        if self.closed.is_some() || !can_say {
            return false;
        }
        let mut acks = String::new();
        for frame in self.readers.values().flat_map(Reader::unacknowledged) {
            acks.push_str("ACK\n");
            for (name, header) in [
                ("id", "ack"),
                ("message-id", "message-id"),
                ("subscription", "subscription"),
            ] {
                if let Some(value) = frame.header(header) {
                    acks.push_str(&format!("{name}:{value}\n"));
                }
            }
            acks.push_str("\n\0");
        }
        self.say(acks.as_bytes(), 0);
        !acks.is_empty()
    }

    /// What holds at any time.
    pub(crate) fn check(&self) {
        if self.closed.is_some() || self.stuck {
            return;
        }
        assert_eq!(
            self.session.closing(),
            None,
            "a close that nobody is told of"
        );
        assert!(
            self.session.timeout().is_some(),
            "an open session always has a deadline"
        );
        let goes_on = !(self.publishes.is_empty() && self.joins.is_empty());
        assert!(
            self.session.wants_input() || self.session.is_slowed() || goes_on,
            "the session reads nothing, and nothing will make it go on"
        );
    }

    /// Everything outstanding ends well, and then nothing is missing.
    pub(crate) fn settle(&mut self) {
        self.stuck = false;
        self.say(b"", 0);
        self.answer_all();
        while self.acknowledge_all() || self.session.is_slowed() {
            // What is held passes with time, or ends the session.
            if self.session.is_slowed() {
                self.pass_until_due();
            }
            self.answer_all();
        }
        if self.closed.is_some() {
            return;
        }
        self.check();
        assert!(
            !self.draining,
            "everything in flight is finished, and the drain is not"
        );
        assert!(self.waiting.is_empty());
        if self
            .readers
            .values()
            .any(|reader| reader.unacknowledged().next().is_some())
        {
            // The client is in the middle of a frame, and cannot say that it has dealt with these.
            return;
        }
        self.client.check_complete();
        for reader in self.readers.values() {
            reader.check_complete(self.rooms.get(&reader.room).map_or(&[][..], Vec::as_slice));
        }
    }

    /// A client that says nothing any more is dropped.
    pub(crate) fn fall_silent(&mut self) {
        let patience = self.patience();
        if patience > Duration::from_secs(120) {
            return;
        }
        let until = self.now + 3 * patience;
        while self.closed.is_none() {
            assert!(self.now < until, "a mute client is never dropped");
            self.pass_until_due();
        }
    }

    /// How often the client is to show that it lives.
    fn patience(&self) -> Duration {
        self.heart_beat.incoming.unwrap_or(PING_INTERVAL)
    }

    /// What a driver does whenever something has happened.
    pub(super) fn go_on(&mut self) {
        loop {
            if let Some(reason) = poll_fn(|cx| self.deliveries.poll_cut(cx)).now_or_never()
                && self.session.closing().is_none()
            {
                self.client.excuse();
                self.session.cut(reason);
            }
            self.collect();
            if self.closed.is_some() {
                return;
            }
            if !self.stuck
                && let Some(delivery) = self.deliveries.try_next()
            {
                self.session.deliver(delivery);
            } else if self.session.wants_input()
                && let Some(chunk) = self.waiting.pop_front()
            {
                self.last_heard = self.now;
                self.client.sent(&chunk);
                for Acknowledged {
                    message,
                    subscription,
                } in self.client.take_acknowledged()
                {
                    let named = subscription.as_deref();
                    for reader in self.readers.values_mut() {
                        if named.is_none() || reader.address.subscription.as_deref() == named {
                            reader.acknowledge(message);
                        }
                    }
                }
                self.session.receive(self.now, &chunk);
            } else {
                return;
            }
        }
    }

    fn collect(&mut self) {
        while !self.stuck
            && let Some(output) = self.session.poll()
        {
            assert_eq!(
                self.closed, None,
                "nothing may follow the close: {output:?}"
            );
            if let Some(code) = &self.error {
                let Output::Close(reason) = output else {
                    panic!("after ERROR comes the close, not {output:?}");
                };
                assert_eq!(reason.code(), code);
            }
            self.carry_out(output);
        }
    }
}

/// Whether a SUBSCRIBE makes the session read the past.
fn wants_past(frame: &Frame) -> bool {
    frame.header("after").is_some()
        || frame
            .header("history")
            .is_some_and(|count| count.parse() != Ok(0))
}
