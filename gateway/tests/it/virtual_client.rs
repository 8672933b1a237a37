//! A session without a socket or a clock, and what it has asked for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;

use gateway::access::{Action, Verdict};
use gateway::auth::Credentials;
use gateway::close::CloseReason;
use gateway::config::{GatewayArgs, ReceiptAfter, Settings};
use gateway::guard::Scope;
use gateway::outbox::{Deliveries, Outbox, outbox};
use gateway::session::output::{Encoded, Outgoing, Output, Slot};
use gateway::session::{Published, Session};
use gateway::transport::TransportName;
use shared::broker::{Accepted, Guarantees};
use shared::message::{Message, MessageId, RoomName, Span, Stamp, UserName};
use shared::metrics::Metrics;
use shared::stomp::{Command, Decoded, Decoder, Frame, Limits, Version};

pub(crate) const JOURNALED: Guarantees = Guarantees {
    durable: true,
    journaled: true,
};

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    gateway: GatewayArgs,
}

/// A session and what it has asked for, with a clock of its own.
pub(crate) struct Client {
    pub(crate) session: Session,
    pub(crate) now: Instant,
    pub(crate) outbox: Outbox,
    pub(crate) deliveries: Deliveries,
    metrics: Metrics,
    pub(crate) frames: Vec<Frame>,
    pub(crate) beats: usize,
    pub(crate) pings: usize,
    /// Who it is, as it says, where that is to be found out.
    pub(crate) credentials: Vec<Credentials>,
    /// What is to be found out whether it may.
    pub(crate) questions: Vec<(RoomName, Action)>,
    /// What was decided without asking.
    pub(crate) decided: Vec<Verdict>,
    pub(crate) publishes: Vec<(u64, String, ReceiptAfter)>,
    pub(crate) joins: Vec<Slot>,
    pub(crate) reads: Vec<(Slot, Span, usize)>,
    /// Of which limits it was slowed down.
    pub(crate) slowed: Vec<Scope>,
    pub(crate) closed: Option<CloseReason>,
}

impl Client {
    pub(crate) fn new(flags: &[&str], guarantees: Guarantees) -> Self {
        Self::through(TransportName::WebSocket, flags, guarantees)
    }

    pub(crate) fn through(
        transport: TransportName,
        flags: &[&str],
        guarantees: Guarantees,
    ) -> Self {
        let flags = Flags::parse_from(["gateway"].iter().chain(flags));
        let settings = Arc::new(Settings::from_args(&flags.gateway).unwrap());
        let now = Instant::now();
        let metrics = Metrics::new();
        let (outbox, deliveries) = outbox(1 << 20, metrics.gateway.clone());
        Self {
            session: Session::new(settings, "s".into(), guarantees, transport, now),
            now,
            outbox,
            deliveries,
            metrics,
            frames: Vec::new(),
            beats: 0,
            pings: 0,
            credentials: Vec::new(),
            questions: Vec::new(),
            decided: Vec::new(),
            publishes: Vec::new(),
            joins: Vec::new(),
            reads: Vec::new(),
            slowed: Vec::new(),
            closed: None,
        }
    }

    pub(crate) fn connected(flags: &[&str]) -> Self {
        let mut client = Self::new(flags, JOURNALED);
        client.say("CONNECT\naccept-version:1.2\nlogin:kim\nheart-beat:0,0\n\n\0");
        assert_eq!(client.take().command, Command::Connected);
        client
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.session.receive(self.now, text.as_bytes());
        self.collect();
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.session.tick(self.now);
        self.collect();
    }

    /// Lets the time pass until the session ends by itself.
    pub(crate) fn pass_until_closed(&mut self) {
        while self.closed.is_none() {
            let due = self.session.timeout().unwrap();
            self.pass(due.saturating_duration_since(self.now));
        }
    }

    pub(crate) fn collect(&mut self) {
        while let Some(output) = self.session.poll() {
            assert_eq!(
                self.closed, None,
                "nothing may follow the close: {output:?}"
            );
            match output {
                Output::Write(Outgoing::Ping) => self.pings += 1,
                Output::Write(Outgoing::Text(text)) if text == "\n" => {
                    self.beats += 1;
                    self.session.wrote(self.now);
                }
                Output::Write(frame) => self.frames.push(decoded(&frame)),
                Output::Deliver(delivery) => self.frames.push(decoded(&delivery.encoded.frame)),
                Output::Authenticate(credentials) => self.credentials.push(credentials),
                Output::Authorize { room, action } => self.questions.push((room, action)),
                Output::Decided(verdict) => self.decided.push(verdict),
                Output::Publish {
                    token,
                    draft,
                    until,
                } => {
                    let body = String::from_utf8(draft.body.to_vec()).unwrap();
                    self.publishes.push((token, body, until));
                }
                Output::Join { slot, .. } => self.joins.push(slot),
                Output::Leave(slot) => self.joins.retain(|joined| *joined != slot),
                Output::Read {
                    slot, span, limit, ..
                } => self.reads.push((slot, span, limit)),
                Output::Slowed(scope) => self.slowed.push(scope),
                Output::Close(reason) => self.closed = Some(reason),
            }
        }
    }

    pub(crate) fn take(&mut self) -> Frame {
        assert!(!self.frames.is_empty(), "a frame was expected");
        self.frames.remove(0)
    }

    pub(crate) fn accept(&mut self, id: u64) {
        let (token, ..) = self.publishes.remove(0);
        let accepted = Accepted {
            id: message_id(id),
            repeated: false,
            prev: None,
        };
        self.session
            .published(self.now, token, Ok(Published::Done(accepted)));
        self.collect();
    }

    pub(crate) fn confirm(&mut self, slot: u32) {
        self.session.joined(self.now, Slot(slot), true);
        self.collect();
    }

    pub(crate) fn past(&mut self, slot: u32, ids: &[u64], complete: bool) {
        let page: Vec<_> = ids.iter().map(|id| Arc::new(message(*id))).collect();
        self.session.past(Slot(slot), Some((&page, complete)));
        self.collect();
    }

    pub(crate) fn live(&mut self, slot: u32, id: u64) {
        self.arrive(slot, id, false);
    }

    pub(crate) fn ephemeral(&mut self, slot: u32, id: u64) {
        self.arrive(slot, id, true);
    }

    fn arrive(&mut self, slot: u32, id: u64, ephemeral: bool) {
        let text = format!("MESSAGE\nmessage-id:{}\n\n\0", message_id(id));
        let frame = Outgoing::Text(text.into());
        self.outbox.push(
            Slot(slot),
            Arc::new(Encoded {
                id: message_id(id),
                frame,
                ephemeral,
            }),
        );
        let delivery = self.deliveries.try_next().unwrap();
        self.session.deliver(delivery);
        self.collect();
    }

    /// What waits for the client, in octets.
    pub(crate) fn outbox_bytes(&self) -> i64 {
        self.metrics.gateway.outbox_bytes.get()
    }

    /// The ids of the MESSAGEs so far, and whether each was replayed.
    pub(crate) fn messages(&mut self) -> Vec<u64> {
        let taken = std::mem::take(&mut self.frames);
        let (messages, others) = taken
            .into_iter()
            .partition(|frame| frame.command == Command::Message);
        self.frames = others;
        let ids: Vec<Frame> = messages;
        ids.iter()
            .map(|frame| {
                frame
                    .header("message-id")
                    .unwrap()
                    .parse::<MessageId>()
                    .unwrap()
            })
            .map(|id| id.stamp().ms)
            .collect()
    }
}

fn decoded(frame: &Outgoing) -> Frame {
    let (Outgoing::Text(octets) | Outgoing::Binary(octets)) = frame else {
        panic!("a ping is no frame");
    };
    let mut decoder = Decoder::new(Limits::default());
    decoder.set_version(Version::V1_2);
    decoder.feed(octets);
    match decoder.next().unwrap() {
        Some(Decoded::Frame(frame)) => frame,
        other => panic!("one whole frame was expected, not {other:?}"),
    }
}

pub(crate) fn message_id(ms: u64) -> MessageId {
    MessageId::new(Stamp { ms, seq: 0 }, 0)
}

pub(crate) fn message(ms: u64) -> Message {
    Message {
        id: message_id(ms),
        room: RoomName::parse("r").unwrap(),
        sender: UserName::parse("lee").unwrap(),
        content_type: None,
        headers: Vec::new(),
        body: "hi".into(),
        idempotency_key: None,
        prev: None,
        ephemeral: false,
    }
}
