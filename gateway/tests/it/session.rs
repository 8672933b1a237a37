//! The session under a virtual clock: octets, answers and times in, frames and requests out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use proptest::prelude::*;

use gateway::close::CloseReason;
use gateway::config::{GatewayArgs, ReceiptAfter, Settings};
use gateway::outbox::{Deliveries, Outbox, outbox};
use gateway::session::output::{Encoded, Outgoing, Output, Slot};
use gateway::session::{Published, Session};
use shared::broker::{Accepted, Guarantees, PublishError};
use shared::message::{Message, MessageId, RoomName, Span, Stamp, UserName};
use shared::metrics::Metrics;
use shared::stomp::{Command, Decoded, Decoder, Frame, Limits, Version};

const JOURNALED: Guarantees = Guarantees {
    durable: true,
    journaled: true,
};

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    gateway: GatewayArgs,
}

/// A session and what it has asked for, with a clock of its own.
struct Client {
    session: Session,
    now: Instant,
    outbox: Outbox,
    deliveries: Deliveries,
    frames: Vec<Frame>,
    beats: usize,
    pings: usize,
    publishes: Vec<(u64, String, ReceiptAfter)>,
    joins: Vec<Slot>,
    reads: Vec<(Slot, Span, usize)>,
    closed: Option<CloseReason>,
}

impl Client {
    fn new(flags: &[&str], guarantees: Guarantees) -> Self {
        let flags = Flags::parse_from(["gateway"].iter().chain(flags));
        let settings = Arc::new(Settings::from_args(&flags.gateway).unwrap());
        let now = Instant::now();
        let (outbox, deliveries) = outbox(1 << 20, Metrics::new().gateway);
        Self {
            session: Session::new(settings, "s".into(), guarantees, now),
            now,
            outbox,
            deliveries,
            frames: Vec::new(),
            beats: 0,
            pings: 0,
            publishes: Vec::new(),
            joins: Vec::new(),
            reads: Vec::new(),
            closed: None,
        }
    }

    fn connected(flags: &[&str]) -> Self {
        let mut client = Self::new(flags, JOURNALED);
        client.say("CONNECT\naccept-version:1.2\nlogin:kim\nheart-beat:0,0\n\n\0");
        assert_eq!(client.take().command, Command::Connected);
        client
    }

    fn say(&mut self, text: &str) {
        self.session.receive(self.now, text.as_bytes());
        self.collect();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.session.tick(self.now);
        self.collect();
    }

    fn collect(&mut self) {
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
                Output::Deliver(encoded) => self.frames.push(decoded(&encoded.frame)),
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
                Output::Close(reason) => self.closed = Some(reason),
            }
        }
    }

    fn take(&mut self) -> Frame {
        assert!(!self.frames.is_empty(), "a frame was expected");
        self.frames.remove(0)
    }

    fn accept(&mut self, id: u64) {
        let (token, ..) = self.publishes.remove(0);
        let accepted = Accepted {
            id: message_id(id),
            repeated: false,
        };
        self.session
            .published(self.now, token, Ok(Published::Done(accepted)));
        self.collect();
    }

    fn confirm(&mut self, slot: u32) {
        self.session.joined(self.now, Slot(slot), true);
        self.collect();
    }

    fn past(&mut self, slot: u32, ids: &[u64], complete: bool) {
        let page: Vec<_> = ids.iter().map(|id| Arc::new(message(*id))).collect();
        self.session.past(Slot(slot), Some((&page, complete)));
        self.collect();
    }

    fn live(&mut self, slot: u32, id: u64) {
        let text = format!("MESSAGE\nmessage-id:{}\n\n\0", message_id(id));
        let frame = Outgoing::Text(text.into());
        self.outbox.push(
            Slot(slot),
            Arc::new(Encoded {
                id: message_id(id),
                frame,
            }),
        );
        let delivery = self.deliveries.try_next().unwrap();
        self.session.deliver(delivery);
        self.collect();
    }

    /// The ids of the MESSAGEs so far, and whether each was replayed.
    fn messages(&mut self) -> Vec<u64> {
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

fn message_id(ms: u64) -> MessageId {
    MessageId::new(Stamp { ms, seq: 0 }, 0)
}

fn message(ms: u64) -> Message {
    Message {
        id: message_id(ms),
        room: RoomName::parse("r").unwrap(),
        sender: UserName::parse("lee").unwrap(),
        content_type: None,
        headers: Vec::new(),
        body: "hi".into(),
        idempotency_key: None,
        prev: None,
    }
}

#[test]
fn the_highest_common_version_is_spoken() {
    for (offered, spoken) in [
        ("accept-version:1.0,1.1,1.2\n", "1.2"),
        ("accept-version:1.1,1.0\n", "1.1"),
        ("accept-version:1.0\n", "1.0"),
        ("", "1.0"),
    ] {
        let mut client = Client::new(&[], JOURNALED);
        client.say(&format!("CONNECT\n{offered}\n\0"));
        let connected = client.take();
        assert_eq!(connected.header("version"), Some(spoken));
        assert!(
            connected.header("heart-beat").is_some(),
            "stompjs 2.3.3 throws without it"
        );
    }
}

#[test]
fn no_common_version_is_an_error_that_lists_ours() {
    let mut client = Client::new(&[], JOURNALED);
    client.say("CONNECT\naccept-version:2.0\n\n\0");
    let error = client.take();
    assert_eq!(error.command, Command::Error);
    assert_eq!(error.header("version"), Some("1.0,1.1,1.2"));
    assert_eq!(client.closed, Some(CloseReason::VersionUnsupported));
}

#[test]
fn nothing_is_served_before_connect_and_connect_only_once() {
    let mut client = Client::new(&[], JOURNALED);
    client.say("SEND\ndestination:/app/rooms/r\nreceipt:1\n\nhi\0");
    assert_eq!(client.take().header("receipt-id"), Some("1"));
    assert_eq!(client.closed, Some(CloseReason::NotConnected));
    assert!(client.publishes.is_empty());

    let mut client = Client::connected(&[]);
    client.say("CONNECT\naccept-version:1.2\n\n\0");
    assert_eq!(client.closed, Some(CloseReason::AlreadyConnected));
}

#[test]
fn connect_must_come_in_time() {
    let mut client = Client::new(&["--connect-deadline", "5s"], JOURNALED);
    client.say("\n\n");
    client.pass(Duration::from_millis(4_999));
    assert_eq!(client.closed, None);
    client.pass(Duration::from_millis(1));
    assert_eq!(client.closed, Some(CloseReason::ConnectTimeout));
}

#[test]
fn a_receipt_waits_for_the_brokers_answer_and_names_the_message() {
    let mut client = Client::connected(&[]);
    client.say("SEND\ndestination:/app/rooms/r\nreceipt:r1\n\nhi\0");
    assert!(client.frames.is_empty(), "no receipt before the answer");
    client.accept(7);
    let receipt = client.take();
    assert_eq!(receipt.command, Command::Receipt);
    assert_eq!(receipt.header("receipt-id"), Some("r1"));
    assert_eq!(
        receipt.header("message-id"),
        Some(message_id(7).to_string().as_str())
    );
    assert_eq!(
        receipt.header("created-at"),
        Some("1970-01-01T00:00:00.007Z")
    );
}

#[test]
fn what_a_receipt_waits_for_is_the_frames_choice_then_the_flags() {
    let mut client = Client::connected(&["--receipt-after", "stored"]);
    client.say("SEND\ndestination:/app/rooms/r\nreceipt:1\n\na\0");
    client.say("SEND\ndestination:/app/rooms/r\nreceipt:2\nreceipt-after:accepted\n\nb\0");
    client.say("SEND\ndestination:/app/rooms/r\n\nc\0");
    let until: Vec<_> = client.publishes.iter().map(|publish| publish.2).collect();
    let expected = [
        ReceiptAfter::Stored,
        ReceiptAfter::Accepted,
        ReceiptAfter::Accepted,
    ];
    assert_eq!(until, expected);
}

#[test]
fn a_receipt_on_a_broker_that_dies_with_the_process_always_waits_for_the_store() {
    let volatile = Guarantees {
        durable: false,
        journaled: true,
    };
    let mut client = Client::new(&[], volatile);
    client.say("CONNECT\naccept-version:1.2\n\n\0");
    client.say("SEND\ndestination:/app/rooms/r\nreceipt:2\nreceipt-after:accepted\n\nb\0");
    assert_eq!(client.publishes[0].2, ReceiptAfter::Stored);
}

#[test]
fn a_withheld_receipt_is_never_written() {
    let mut client = Client::connected(&[]);
    client.say("SEND\ndestination:/app/rooms/r\nreceipt:1\nreceipt-after:stored\n\na\0");
    let (token, ..) = client.publishes.remove(0);
    client
        .session
        .published(client.now, token, Ok(Published::Withheld));
    client.collect();
    assert!(client.frames.is_empty());
    assert_eq!(client.closed, None);
}

#[test]
fn a_publish_that_failed_is_an_error_that_names_the_receipt() {
    for (error, reason) in [
        (PublishError::Unavailable, CloseReason::BrokerUnavailable),
        (PublishError::Full, CloseReason::JournalFull),
        (PublishError::Overloaded, CloseReason::Overloaded),
    ] {
        let mut client = Client::connected(&[]);
        client.say("SEND\ndestination:/app/rooms/r\nreceipt:x\n\na\0");
        let (token, ..) = client.publishes.remove(0);
        client.session.published(client.now, token, Err(error));
        client.collect();
        let frame = client.take();
        assert_eq!(frame.command, Command::Error);
        assert_eq!(frame.header("receipt-id"), Some("x"));
        assert_eq!(frame.header("code"), Some(reason.code()));
        assert_eq!(client.closed, Some(reason));
    }
}

#[test]
fn disconnects_receipt_comes_after_everything_in_flight() {
    let mut client = Client::connected(&[]);
    client.say("SEND\ndestination:/app/rooms/r\nreceipt:1\n\na\0DISCONNECT\nreceipt:bye\n\n\0");
    assert!(client.frames.is_empty());
    client.accept(1);
    assert_eq!(client.take().header("receipt-id"), Some("1"));
    assert_eq!(client.take().header("receipt-id"), Some("bye"));
    assert_eq!(client.closed, Some(CloseReason::ClientDisconnected));
}

#[test]
fn what_follows_a_subscribe_waits_until_it_has_effect() {
    let mut client = Client::connected(&[]);
    client.say(
        "SUBSCRIBE\nid:a\ndestination:/topic/rooms/r\n\n\0\
         SUBSCRIBE\nid:b\ndestination:/topic/rooms/s\n\n\0\
         SEND\ndestination:/app/rooms/r\n\nhi\0",
    );
    assert_eq!(
        client.joins,
        [Slot(0), Slot(1)],
        "SUBSCRIBEs need not wait for each other"
    );
    assert!(client.publishes.is_empty());
    assert!(!client.session.wants_input());
    client.confirm(0);
    assert!(client.publishes.is_empty());
    client.confirm(1);
    assert_eq!(client.publishes.len(), 1);
    assert!(client.session.wants_input());
}

#[test]
fn a_client_with_too_much_in_flight_is_not_read_until_answers_come() {
    let mut client = Client::connected(&[]);
    let body = "x".repeat(60_000);
    for _ in 0..8 {
        client.say(&format!("SEND\ndestination:/app/rooms/r\n\n{body}\0"));
    }
    assert!(!client.session.wants_input());
    let before = client.publishes.len();
    assert!(before < 8);
    for id in 1..=8 {
        client.accept(id);
    }
    assert!(client.session.wants_input());
}

#[test]
fn history_comes_before_the_receipt_and_live_messages_after_without_a_repeat() {
    let mut client = Client::connected(&[]);
    client.say("SUBSCRIBE\nid:a\ndestination:/topic/rooms/r\nhistory:3\nreceipt:s\n\n\0");
    client.live(0, 5);
    client.confirm(0);
    assert_eq!(client.reads, [(Slot(0), Span::Newest, 3)]);
    client.live(0, 6);
    assert!(client.frames.is_empty(), "live messages wait for the past");
    client.past(0, &[3, 4, 5], true);
    let receipt = client
        .frames
        .iter()
        .position(|f| f.command == Command::Receipt);
    assert_eq!(receipt, Some(3));
    assert_eq!(client.frames[0].header("replayed"), Some("true"));
    assert_eq!(client.messages(), [3, 4, 5, 6]);
    assert_eq!(client.take().header("recovered"), Some("true"));
    client.live(0, 6);
    client.live(0, 7);
    assert_eq!(client.messages(), [7]);
}

#[test]
fn after_reads_page_by_page_until_it_has_caught_up() {
    let mut client = Client::connected(&[]);
    let after = message_id(10);
    client.say(&format!(
        "SUBSCRIBE\nid:a\ndestination:/topic/rooms/r\nafter:{after}\nreceipt:s\n\n\0"
    ));
    client.confirm(0);
    let (_, span, limit) = client.reads[0];
    assert_eq!(span, Span::After(after));
    let page: Vec<u64> = (11..11 + limit as u64).collect();
    let last = *page.last().unwrap();
    client.past(0, &page, true);
    assert_eq!(client.reads[1].1, Span::After(message_id(last)));
    client.past(0, &[last + 1], true);
    let mut expected = page;
    expected.push(last + 1);
    assert_eq!(client.messages(), expected);
    assert_eq!(client.take().header("recovered"), Some("true"));
}

#[test]
fn a_past_that_cannot_be_had_is_told() {
    let after = message_id(10);
    let subscribe = format!("SUBSCRIBE\nid:a\ndestination:/topic/rooms/r\nafter:{after}\n");
    let mut told = Client::connected(&[]);
    told.say(&format!("{subscribe}receipt:s\n\n\0"));
    told.confirm(0);
    told.past(0, &[12], false);
    assert_eq!(told.messages(), [12]);
    assert_eq!(told.take().header("recovered"), Some("false"));
    assert_eq!(told.closed, None);

    let mut untold = Client::connected(&[]);
    untold.say(&format!("{subscribe}\n\0"));
    untold.confirm(0);
    untold.session.past(Slot(0), None);
    untold.collect();
    assert_eq!(untold.take().command, Command::Error);
    assert_eq!(untold.closed, Some(CloseReason::GapUnrepaired));
}

#[test]
fn without_a_journal_nothing_is_dropped_for_its_id() {
    let mut client = Client::new(
        &[],
        Guarantees {
            durable: false,
            journaled: false,
        },
    );
    client.say("CONNECT\naccept-version:1.2\n\n\0");
    client.take();
    client.say("SUBSCRIBE\nid:a\ndestination:/topic/rooms/r\nhistory:2\nreceipt:s\n\n\0");
    client.confirm(0);
    client.live(0, 4);
    client.live(0, 3);
    client.past(0, &[4, 5], true);
    assert_eq!(client.messages(), [4, 5, 3], "clocks of gateways differ");
    assert_eq!(client.take().header("recovered"), Some("false"));
}

#[test]
fn bad_frames_are_refused_with_a_reason_and_their_receipt() {
    for (frame, reason) in [
        ("SEND\nreceipt:q\n\nx\0", CloseReason::BadHeader),
        (
            "SEND\ndestination:/app/rooms/a b\nreceipt:q\n\nx\0",
            CloseReason::BadDestination,
        ),
        (
            "SEND\ndestination:/elsewhere\nreceipt:q\n\nx\0",
            CloseReason::BadDestination,
        ),
        (
            "SEND\ndestination:/app/rooms/r\nreceipt-after:soon\nreceipt:q\n\nx\0",
            CloseReason::BadHeader,
        ),
        (
            "SUBSCRIBE\nid:a\ndestination:/topic/**\nreceipt:q\n\n\0",
            CloseReason::BadDestination,
        ),
        (
            "SUBSCRIBE\ndestination:/topic/rooms/r\nreceipt:q\n\n\0",
            CloseReason::BadHeader,
        ),
        (
            "SUBSCRIBE\nid:a\ndestination:/topic/rooms/r\nafter:now\nreceipt:q\n\n\0",
            CloseReason::BadHeader,
        ),
        (
            "SUBSCRIBE\nid:a\ndestination:/topic/rooms/r\nhistory:-1\nreceipt:q\n\n\0",
            CloseReason::BadHeader,
        ),
        (
            "SUBSCRIBE\nid:a\ndestination:/topic/rooms/r\nack:client\nreceipt:q\n\n\0",
            CloseReason::UnsupportedFrame,
        ),
        (
            "UNSUBSCRIBE\nid:nobody\nreceipt:q\n\n\0",
            CloseReason::UnknownSubscription,
        ),
        (
            "BEGIN\ntransaction:t\nreceipt:q\n\n\0",
            CloseReason::UnsupportedFrame,
        ),
        ("MESSAGE\nreceipt:q\n\n\0", CloseReason::ProtocolError),
    ] {
        let mut client = Client::connected(&[]);
        client.say(frame);
        let error = client.take();
        assert_eq!(error.command, Command::Error, "{frame:?}");
        assert_eq!(error.header("code"), Some(reason.code()), "{frame:?}");
        assert_eq!(error.header("receipt-id"), Some("q"), "{frame:?}");
        assert!(!error.body.is_empty(), "{frame:?}");
        assert_eq!(client.closed, Some(reason), "{frame:?}");
    }
}

#[test]
fn a_subscription_id_is_used_once_at_a_time_and_their_number_is_bounded() {
    let subscribe = |id: &str| format!("SUBSCRIBE\nid:{id}\ndestination:/topic/rooms/r\n\n\0");
    let mut client = Client::connected(&["--max-subscriptions", "2"]);
    client.say(&subscribe("a"));
    client.confirm(0);
    client.say("UNSUBSCRIBE\nid:a\n\n\0");
    assert!(client.joins.is_empty());
    client.say(&subscribe("a"));
    client.confirm(1);
    client.say(&subscribe("b"));
    client.confirm(2);
    client.say(&subscribe("c"));
    assert_eq!(client.closed, Some(CloseReason::TooManySubscriptions));

    let mut client = Client::connected(&[]);
    client.say(&subscribe("a"));
    client.say(&subscribe("a"));
    assert_eq!(client.closed, Some(CloseReason::DuplicateSubscription));
}

#[test]
fn more_than_the_send_rate_is_refused_and_less_is_not() {
    let send = "SEND\ndestination:/app/rooms/r\n\nx\0";
    let mut client = Client::connected(&["--send-rate", "2", "--send-burst", "3"]);
    client.say(&send.repeat(3));
    for _ in 0..4 {
        client.pass(Duration::from_millis(500));
        client.say(send);
    }
    assert_eq!(client.closed, None);
    assert_eq!(client.publishes.len(), 7);
    client.say(send);
    assert_eq!(client.closed, Some(CloseReason::RateLimited));
}

#[test]
fn heart_beats_flow_as_agreed_and_a_mute_client_is_dropped() {
    let mut client = Client::new(&["--heartbeat", "10s"], JOURNALED);
    client.say("CONNECT\naccept-version:1.2\nheart-beat:1000,1000\n\n\0");
    assert_eq!(client.take().header("heart-beat"), Some("1000,1000"));
    client.pass(Duration::from_secs(1));
    client.pass(Duration::from_secs(1));
    assert_eq!(client.beats, 2);
    client.say("\r\n");
    client.pass(Duration::from_millis(2_400));
    assert_eq!(client.closed, None, "any octet is a sign of life");
    client.pass(Duration::from_millis(200));
    assert_eq!(client.closed, Some(CloseReason::HeartBeatTimeout));
}

#[test]
fn a_client_without_heart_beats_is_asked_by_its_transport() {
    let mut client = Client::connected(&[]);
    client.pass(Duration::from_secs(31));
    assert_eq!((client.pings, client.beats), (1, 0));
    client.session.heard(client.now);
    client.pass(Duration::from_secs(31));
    client.pass(Duration::from_secs(31));
    assert_eq!(client.closed, None);
    client.pass(Duration::from_secs(31));
    assert_eq!(
        client.closed,
        Some(CloseReason::HeartBeatTimeout),
        "a half-open socket ends"
    );
}

#[test]
fn a_drain_finishes_what_is_in_flight_and_takes_nothing_new() {
    let mut client = Client::connected(&[]);
    client.say("SEND\ndestination:/app/rooms/r\nreceipt:1\n\na\0");
    client.session.drain();
    client.collect();
    assert_eq!(client.closed, None);
    assert!(!client.session.wants_input());
    client.say("SEND\ndestination:/app/rooms/r\nreceipt:2\n\nb\0");
    assert_eq!(client.publishes.len(), 1);
    client.accept(1);
    assert_eq!(client.take().header("receipt-id"), Some("1"));
    assert_eq!(client.closed, Some(CloseReason::Restart));
}

#[derive(Clone, Debug)]
enum Step {
    Say(String),
    Accept(bool),
    Confirm(bool),
    Past(bool),
    Live(u64),
    Pass(u64),
    Drain,
}

fn step() -> impl Strategy<Value = Step> {
    let room = prop_oneof!["[a-b]".prop_map(|name| name), Just("bad room".to_owned())];
    let frame = (0..9, room, 0..3u32).prop_map(|(kind, room, id)| match kind {
        0 | 1 => format!("SEND\ndestination:/app/rooms/{room}\nreceipt:r{id}\n\nhi\0"),
        2 => format!("SEND\ndestination:/app/rooms/{room}\n\nhi\0"),
        3 => format!("SUBSCRIBE\nid:{id}\ndestination:/topic/rooms/{room}\nreceipt:s\n\n\0"),
        4 => format!("SUBSCRIBE\nid:{id}\ndestination:/topic/rooms/{room}\nhistory:9\n\n\0"),
        5 => format!("UNSUBSCRIBE\nid:{id}\n\n\0"),
        6 => "\n".to_owned(),
        7 => "CONNECT\naccept-version:1.1,1.2\nheart-beat:1000,1000\n\n\0".to_owned(),
        _ => "DISCONNECT\nreceipt:d\n\n\0".to_owned(),
    });
    prop_oneof![
        6 => frame.prop_map(Step::Say),
        1 => "[A-Z:\n\0]{0,12}".prop_map(Step::Say),
        4 => any::<bool>().prop_map(|ok| Step::Accept(ok)),
        4 => proptest::bool::weighted(0.9).prop_map(Step::Confirm),
        2 => any::<bool>().prop_map(Step::Past),
        2 => (1..9u64).prop_map(Step::Live),
        1 => (0..3_000u64).prop_map(Step::Pass),
        1 => Just(Step::Drain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order: nothing follows an ERROR or a close, a SEND's RECEIPT
    /// comes only after its answer and at most once, and nothing panics.
    #[test]
    fn no_frame_follows_an_error_and_no_receipt_precedes_its_answer(
        steps in proptest::collection::vec(step(), 0..60)
    ) {
        let mut client = Client::new(&[], JOURNALED);
        client.say("CONNECT\naccept-version:1.2\n\n\0");
        client.take();
        let mut answered = 0;
        let mut joined = std::collections::HashSet::new();
        for step in steps {
            match step {
                Step::Say(text) => client.say(&text),
                Step::Accept(true) if !client.publishes.is_empty() => {
                    answered += 1;
                    client.accept(answered);
                }
                Step::Accept(false) if !client.publishes.is_empty() => {
                    let (token, ..) = client.publishes.remove(0);
                    let error = Err(PublishError::Unavailable);
                    client.session.published(client.now, token, error);
                    client.collect();
                }
                Step::Confirm(ok) => {
                    let next = client.joins.iter().copied().find(|slot| joined.insert(*slot));
                    if let Some(slot) = next {
                        client.session.joined(client.now, slot, ok);
                        client.collect();
                    }
                }
                Step::Past(ok) => {
                    if let Some((slot, ..)) = client.reads.pop() {
                        client.past(slot.0, &[1, 2, 3], ok);
                    }
                }
                Step::Live(id) => {
                    if let Some(slot) = client.joins.last().copied() {
                        client.live(slot.0, id);
                    }
                }
                Step::Pass(ms) => client.pass(Duration::from_millis(ms)),
                Step::Drain => {
                    client.session.drain();
                    client.collect();
                }
                Step::Accept(_) => {}
            }
        }
        let error = client.frames.iter().position(|frame| frame.command == Command::Error);
        if let Some(error) = error {
            prop_assert_eq!(error, client.frames.len() - 1);
            prop_assert!(client.closed.is_some());
        }
        let receipts = client
            .frames
            .iter()
            .filter(|frame| frame.command == Command::Receipt && frame.header("message-id").is_some())
            .count() as u64;
        prop_assert!(receipts <= answered);
    }
}
