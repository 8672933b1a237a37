//! The session under a virtual clock: octets, answers and times in, frames and requests out.

use std::time::Duration;

use gateway::close::CloseReason;
use gateway::config::ReceiptAfter;
use gateway::session::Published;
use gateway::session::output::Slot;
use shared::broker::{Guarantees, PublishError};
use shared::message::Span;
use shared::stomp::Command;

use crate::virtual_client::{Client, JOURNALED, message_id};

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
fn every_frame_that_came_is_answered_without_more_from_the_client() {
    let mut client = Client::connected(&[]);
    for id in 0..200 {
        client.say(&format!(
            "SUBSCRIBE\nid:{id}\ndestination:/topic/rooms/r\n\n\0"
        ));
        client.confirm(id);
    }
    let unsubscribes: String = (0..200)
        .map(|id| format!("UNSUBSCRIBE\nid:{id}\nreceipt:{id}\n\n\0"))
        .collect();
    client.say(&unsubscribes);
    assert_eq!(client.frames.len(), 200);
    assert!(client.joins.is_empty());
}

#[test]
fn a_client_with_too_much_in_flight_is_not_read_until_answers_come() {
    let body = format!("\n{}", "x".repeat(60_000));
    let headers: String = (0..8)
        .map(|n| format!("h{n}:{}\n", "x".repeat(7_500)))
        .collect();
    for large in [body, format!("{headers}\n")] {
        let mut client = Client::connected(&[]);
        for _ in 0..8 {
            client.say(&format!("SEND\ndestination:/app/rooms/r\n{large}\0"));
        }
        assert!(!client.session.wants_input());
        let before = client.publishes.len();
        assert!(before < 8);
        for id in 1..=8 {
            client.accept(id);
        }
        assert!(client.session.wants_input());
    }
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
fn pasts_are_read_a_few_at_a_time_and_all_in_the_end() {
    let mut client = Client::connected(&[]);
    for slot in 0..5 {
        client.say(&format!(
            "SUBSCRIBE\nid:{slot}\ndestination:/topic/rooms/r{slot}\nhistory:9\n\n\0"
        ));
        client.confirm(slot);
    }
    assert_eq!(client.reads.len(), 2);
    client.say("UNSUBSCRIBE\nid:2\n\n\0");
    for slot in [1, 0, 3] {
        client.past(slot, &[], true);
    }
    let read: Vec<_> = client.reads.iter().map(|reading| reading.0).collect();
    assert_eq!(read, [Slot(0), Slot(1), Slot(3), Slot(4)]);
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
fn a_message_that_is_not_in_the_room_is_no_place_to_come_after() {
    let after = message_id(10);
    let subscribe = format!("SUBSCRIBE\nid:a\ndestination:/topic/rooms/r\nafter:{after}\n");
    let mut told = Client::connected(&[]);
    told.say(&format!("{subscribe}receipt:s\n\n\0"));
    told.confirm(0);
    told.session.forget_after(Slot(0));
    told.past(0, &[], true);
    assert_eq!(told.take().header("recovered"), Some("false"));
    // The room's ids lie below what a server that is gone had given.
    told.live(0, 8);
    told.live(0, 8);
    told.live(0, 9);
    assert_eq!(told.messages(), [8, 9]);

    // Coming back after the same would end the same way.
    let mut untold = Client::connected(&[]);
    untold.say(&format!("{subscribe}\n\0"));
    untold.confirm(0);
    untold.session.forget_after(Slot(0));
    untold.past(0, &[], true);
    assert_eq!(untold.take().header("code"), Some("after-unknown"));
    assert_eq!(untold.closed, Some(CloseReason::AfterUnknown));
}

#[test]
fn a_page_that_was_read_is_not_repeated_though_its_end_has_gone() {
    let mut client = Client::connected(&[]);
    let after = message_id(10);
    client.say(&format!(
        "SUBSCRIBE\nid:a\ndestination:/topic/rooms/r\nafter:{after}\nreceipt:s\n\n\0"
    ));
    client.confirm(0);
    let (_, _, limit) = client.reads[0];
    let page: Vec<u64> = (11..11 + limit as u64).collect();
    let last = *page.last().unwrap();
    client.live(0, last);
    client.past(0, &page, true);
    client.session.forget_after(Slot(0));
    client.past(0, &[], true);
    assert_eq!(client.messages(), page);
    assert_eq!(client.take().header("recovered"), Some("false"));
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
            "SUBSCRIBE\nid:a\ndestination:/topic/rooms/r\nack:sometimes\nreceipt:q\n\n\0",
            CloseReason::BadHeader,
        ),
        (
            "SEND\ndestination:/app/rooms/r\nephemeral:yes\nreceipt:q\n\nx\0",
            CloseReason::BadHeader,
        ),
        (
            "UNSUBSCRIBE\nid:nobody\nreceipt:q\n\n\0",
            CloseReason::UnknownSubscription,
        ),
        ("MESSAGE\nreceipt:q\n\n\0", CloseReason::ProtocolError),
    ] {
        let mut client = Client::connected(&[]);
        client.say(frame);
        let error = client.take();
        assert_eq!(error.command, Command::Error, "{frame:?}");
        assert_eq!(error.header("code"), Some(reason.code()), "{frame:?}");
        assert_eq!(error.header("receipt-id"), Some("q"), "{frame:?}");
        assert_eq!(error.header("message"), Some(reason.message()), "{frame:?}");
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
