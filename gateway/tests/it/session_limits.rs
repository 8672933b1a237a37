//! The session's limits on what carries no message, and the receipts that every end still owes.

use std::sync::Arc;
use std::time::Duration;

use gateway::close::CloseReason;
use gateway::config::{RateLimit, Share};
use gateway::guard::{Party, Scope};
use gateway::session::output::Slot;
use shared::stomp::Command;

use crate::virtual_client::{Client, JOURNALED, message_id};

#[test]
fn a_flood_of_control_frames_is_held_then_cut_off_and_a_busy_client_is_not() {
    let flood = [
        "\n",
        "\r\n",
        "",
        "BEGIN\ntransaction:t\n\n\0ABORT\ntransaction:t\n\n\0",
        "SUBSCRIBE\nid:a\ndestination:/topic/rooms/r\n\n\0",
    ];
    for frames in flood {
        let mut client = Client::connected(&["--control-rate", "5", "--max-subscriptions", "1"]);
        let begun = client.now;
        let mut said = 0;
        while client.closed.is_none() {
            if client.session.is_slowed() {
                let due = client.session.timeout().unwrap();
                client.pass(due.saturating_duration_since(client.now));
                continue;
            }
            assert!(said < 200, "{frames:?} is never too much");
            if let Some(slot) = client.joins.pop() {
                client.confirm(slot.0);
                client.say("UNSUBSCRIBE\nid:a\n\n\0");
                continue;
            }
            client.say(frames);
            said += 1;
            if client.now == begun && client.session.is_slowed() {
                assert!(said > 20, "{frames:?}: ten times the rate is a burst");
            }
        }
        assert_eq!(client.closed, Some(CloseReason::RateLimited), "{frames:?}");
        // The burst, and then five a second for 10 s.
        assert_eq!((client.now - begun).as_secs(), 10, "{frames:?}");
        assert!((45..=105).contains(&said), "{frames:?}: {said}");
        assert_eq!(client.slowed, [Scope::Connection], "{frames:?}");
    }

    let mut client = Client::connected(&["--control-rate", "5", "--max-subscriptions", "1"]);
    for _ in 0..50 {
        client.session.heard(client.now);
    }
    assert!(client.session.is_slowed(), "pings count");
    for _ in 0..100 {
        client.session.heard(client.now);
        client.pass(Duration::from_millis(200));
    }
    assert_eq!(client.closed, Some(CloseReason::RateLimited), "pings count");

    // As many rooms at once as there may be, then a heart-beat a second and many messages with
    // padding.
    let mut client = Client::connected(&["--max-subscriptions", "3000"]);
    for id in 0..3_000 {
        client.say(&format!(
            "SUBSCRIBE\nid:{id}\ndestination:/topic/rooms/r\n\n\0"
        ));
        client.confirm(id);
    }
    for id in 1..2_000 {
        client.say("SEND\ndestination:/app/rooms/r\n\nx\0\n\n");
        client.accept(id);
        client.live(0, id);
    }
    for _ in 0..200 {
        client.pass(Duration::from_secs(1));
        client.say("\n");
    }
    assert_eq!(client.closed, None);
}

#[test]
fn a_control_frame_too_many_is_named_by_its_receipt_and_no_limit_is_a_choice() {
    let pair = "BEGIN\ntransaction:t\n\n\0ABORT\ntransaction:t\nreceipt:r\n\n\0";
    let mut client = Client::connected(&["--control-rate", "1", "--max-subscriptions", "1"]);
    client.say(&pair.repeat(100));
    // CONNECT was the first of ten: the last that passes at once is a BEGIN.
    assert_eq!(client.frames.len(), 4);
    client.pass_until_closed();
    let error = client.frames.pop().unwrap();
    assert_eq!(error.header("code"), Some("rate-limited"));
    // After ten more it is an ABORT's turn.
    assert_eq!(client.frames.len(), 9);
    assert_eq!(error.header("receipt-id"), Some("r"));

    let mut client = Client::connected(&["--control-rate", "0"]);
    client.say(&pair.repeat(5_000));
    assert_eq!(client.closed, None);
}

#[test]
fn more_than_the_send_rate_is_held_and_who_presses_on_is_cut_off() {
    let send = "SEND\ndestination:/app/rooms/r\n\nx\0";
    let mut client = Client::connected(&["--send-rate", "2", "--send-burst", "3"]);
    client.say(&send.repeat(3));
    for _ in 0..4 {
        client.pass(Duration::from_millis(500));
        client.say(send);
    }
    assert_eq!(client.closed, None);
    assert_eq!((client.publishes.len(), client.slowed.len()), (7, 0));
    client.say(&send.repeat(3));
    for published in [7, 8, 9, 10] {
        assert_eq!(client.publishes.len(), published);
        assert_eq!(client.session.is_slowed(), published < 10);
        assert_eq!(client.session.wants_input(), published == 10);
        client.pass(Duration::from_millis(500));
    }
    assert_eq!(client.slowed, [Scope::Connection], "it is one episode");
    assert_eq!(client.closed, None);

    // Who goes on at twice the rate is cut off after 10 s, and who pauses is not.
    client.say(&send.repeat(100));
    client.pass_until_closed();
    assert_eq!(client.closed, Some(CloseReason::RateLimited));
    assert_eq!(
        client.frames.pop().unwrap().body,
        "more messages a second than are allowed"
    );
    let sent = client.publishes.len() - 10;
    assert!((20..=22).contains(&sent), "{sent} in 10 s");
    let mut client = Client::connected(&["--send-rate", "2", "--send-burst", "1"]);
    for _ in 0..20 {
        client.say(&send.repeat(3));
        client.pass(Duration::from_millis(500));
        client.pass(Duration::from_millis(500));
        client.pass(Duration::from_millis(1_001));
    }
    assert_eq!((client.closed, client.publishes.len()), (None, 60));
    assert_eq!(client.slowed.len(), 20);
}

#[test]
fn sessions_of_one_user_share_a_rate_and_what_they_subscribe_to() {
    let share = Share {
        frames: Some(RateLimit::new(2.try_into().unwrap())),
        rooms: Some(1),
        ..Share::default()
    };
    let party = Party::new(Scope::User, share);
    let mut clients = [(); 3].map(|()| Client::connected(&[]));
    let now = clients[2].now;
    for client in &mut clients {
        client.now = now;
        client.session.share(Arc::clone(&party));
    }
    let [first, second, third] = &mut clients;
    let subscribe = |room: &str| format!("SUBSCRIBE\nid:a\ndestination:/topic/rooms/{room}\n\n\0");
    first.say(&subscribe("r"));
    second.say(&subscribe("r"));
    third.say(&subscribe("elsewhere"));
    assert_eq!(third.closed, Some(CloseReason::TooManyRooms));
    let error = third.take();
    assert_eq!(error.body, "SUBSCRIBE: at most 1 rooms per user");

    // The fourth frame passes at once; of those that follow one each half a second, in turns.
    first.confirm(0);
    second.confirm(0);
    first.say(&"BEGIN\ntransaction:t\n\n\0ABORT\ntransaction:t\n\n\0".repeat(2));
    second.say("UNSUBSCRIBE\nid:a\nreceipt:1\n\n\0");
    assert_eq!(
        (first.slowed.as_slice(), second.slowed.as_slice()),
        (&[Scope::User][..], &[Scope::User][..])
    );
    second.pass(Duration::from_millis(999));
    assert!(second.frames.is_empty());
    second.pass(Duration::from_millis(1));
    assert_eq!(second.take().header("receipt-id"), Some("1"));
    assert!(!second.session.is_slowed() && first.session.is_slowed());
    // What a session had is given back when it ends, however it does.
    drop(clients);
    let mut last = Client::connected(&[]);
    last.session.share(party);
    last.now += Duration::from_secs(10);
    last.say(&subscribe("elsewhere"));
    assert_eq!((last.closed, last.joins.len()), (None, 1));
}

#[test]
fn a_frame_that_has_begun_must_end_in_time() {
    let mut client = Client::connected(&["--frame-deadline", "5s"]);
    client.say("SEND\ndestination:/app/rooms/r\nreceipt:q\n");
    for _ in 0..4 {
        client.pass(Duration::from_secs(1));
        client.say("h:x\n");
    }
    client.pass(Duration::from_millis(999));
    assert_eq!(client.closed, None);
    client.pass(Duration::from_millis(1));
    let error = client.take();
    assert_eq!(error.header("code"), Some("frame-timeout"));
    assert_eq!(error.header("receipt-id"), Some("q"));
    assert_eq!(client.closed, Some(CloseReason::FrameTimeout));

    for begun in ["S", "SEND\n", "SEND\n\n", "SEND\n\nx", "\r"] {
        let mut client = Client::connected(&["--frame-deadline", "5s"]);
        client.say(begun);
        client.pass(Duration::from_secs(5));
        assert_eq!(client.closed, Some(CloseReason::FrameTimeout), "{begun:?}");
    }
}

#[test]
fn each_frame_has_its_own_deadline() {
    let mut client = Client::connected(&["--frame-deadline", "5s"]);
    client.say("SEND\ndestination:/app/rooms/r\n\n");
    for id in 1..9 {
        client.pass(Duration::from_secs(4));
        client.say("x\0SEND\ndestination:/app/rooms/r\n\n");
        client.accept(id);
    }
    client.say("x\0");
    client.pass(Duration::from_secs(20));
    assert_eq!(client.closed, None, "between frames there is no deadline");
}

#[test]
fn a_frame_that_we_do_not_read_has_no_deadline() {
    let mut client = Client::connected(&["--frame-deadline", "5s"]);
    client.say("SUBSCRIBE\nid:a\ndestination:/topic/rooms/r\n\n\0SEND\n");
    client.say("destination:/app/rooms/r\n\n");
    client.say("x\0SEND\ndestination:/app/rooms/r\n\n");
    assert!(!client.session.wants_input());
    client.pass(Duration::from_secs(6));
    client.confirm(0);
    client.pass(Duration::from_secs(4));
    assert_eq!(client.closed, None);
    client.say("x\0");
    assert_eq!(client.publishes.len(), 2);
}

#[test]
fn a_frame_that_nobody_will_read_is_no_reason_to_wake_up() {
    let mut client = Client::connected(&["--frame-deadline", "5s"]);
    client.say("SEND\ndestination:/app/rooms/r\nreceipt:1\n\n\0SEND\n");
    client.session.drain();
    client.pass(Duration::from_secs(6));
    assert_eq!(client.closed, None, "what is in flight is finished first");
    assert!(client.session.timeout().unwrap() > client.now);
}

#[test]
fn a_client_that_reads_slowly_is_given_its_time_when_it_is_heard_again() {
    let mut client = Client::connected(&["--frame-deadline", "5s"]);
    let pair = "BEGIN\ntransaction:t\nreceipt:b\n\n\0ABORT\ntransaction:t\nreceipt:a\n\n\0";
    let frames = format!("{}SEND\n", pair.repeat(200));
    client.session.receive(client.now, frames.as_bytes());
    assert!(
        !client.session.wants_input(),
        "nothing of it has been written"
    );
    client.session.tick(client.now + Duration::from_secs(6));
    client.collect();
    assert!(client.session.wants_input());
    client.pass(Duration::from_secs(10));
    assert_eq!(client.closed, None);
    client.pass(Duration::from_secs(1));
    assert_eq!(client.closed, Some(CloseReason::FrameTimeout));
}

#[test]
fn a_malformed_frame_is_named_by_the_receipt_that_was_read() {
    let large = "x".repeat(70_000);
    for (frame, reason) in [
        (
            "SEND\nreceipt:q\ncontent-length:1\n\nxx\0",
            CloseReason::ProtocolError,
        ),
        (
            "SEND\nreceipt:q\ncontent-length:x\n\nx\0",
            CloseReason::ProtocolError,
        ),
        (
            "SEND\nreceipt:q\nnonsense\n\nx\0",
            CloseReason::ProtocolError,
        ),
        ("SEND\nreceipt:q\nreceipt:r\n\0", CloseReason::ProtocolError),
        ("BEGIN\nreceipt:q\n\nx\0", CloseReason::ProtocolError),
        (
            "SEND\nreceipt:q\ncontent-length:999999\n\nx\0",
            CloseReason::FrameTooLarge,
        ),
        (
            &format!("SEND\nreceipt:q\n\n{large}\0"),
            CloseReason::FrameTooLarge,
        ),
    ] {
        for pieces in [1, 7, 100_000] {
            let mut client = Client::connected(&[]);
            for piece in frame.as_bytes().chunks(pieces) {
                client.session.receive(client.now, piece);
            }
            client.collect();
            let error = client.take();
            assert_eq!(error.header("receipt-id"), Some("q"), "{reason:?}");
            assert_eq!(client.closed, Some(reason));
        }
    }
    let mut client = Client::connected(&[]);
    client.say("BEGIN\ntransaction:t\nreceipt:fine\n\n\0NONSENSE\nreceipt:q\n\n\0");
    assert_eq!(client.take().header("receipt-id"), Some("fine"));
    assert_eq!(client.take().header("receipt-id"), None);
}

#[test]
fn a_subscription_that_the_broker_does_not_confirm_is_named_by_its_receipt() {
    let mut client = Client::connected(&[]);
    client.say("SUBSCRIBE\nid:a\ndestination:/topic/rooms/r\nreceipt:q\n\n\0");
    client.session.joined(client.now, Slot(0), false);
    client.collect();
    assert_eq!(client.take().header("receipt-id"), Some("q"));
    assert_eq!(client.closed, Some(CloseReason::BrokerUnavailable));
}

#[test]
fn a_subscribe_that_is_overtaken_by_its_end_is_told_that_its_past_is_not_whole() {
    for end in [
        "UNSUBSCRIBE\nid:a\nreceipt:e\n\n\0",
        "DISCONNECT\nreceipt:e\n\n\0",
    ] {
        let mut client = Client::connected(&[]);
        client.say(&format!(
            "SUBSCRIBE\nid:a\ndestination:/topic/rooms/r\nafter:{}\nreceipt:s\n\n\0",
            message_id(1)
        ));
        client.confirm(0);
        client.say(end);
        let receipt = client.take();
        assert_eq!(receipt.header("receipt-id"), Some("s"));
        assert_eq!(receipt.header("recovered"), Some("false"));
        assert_eq!(client.take().header("receipt-id"), Some("e"));
        assert!(client.frames.is_empty());
    }
}

#[test]
fn nothing_is_asked_for_after_the_close_that_a_gap_brings() {
    let mut client = Client::connected(&[]);
    for id in 0..3 {
        let after = message_id(1);
        client.say(&format!(
            "SUBSCRIBE\nid:{id}\ndestination:/topic/rooms/r\nafter:{after}\n\n\0"
        ));
    }
    for id in 0..3 {
        client.confirm(id);
    }
    assert_eq!(client.reads.len(), 2, "the third waits for its turn");
    client.past(0, &[2], false);
    assert_eq!(client.closed, Some(CloseReason::GapUnrepaired));
    assert_eq!(client.reads.len(), 2);
}

#[test]
fn every_frame_but_connect_has_its_receipt() {
    let mut client = Client::connected(&[]);
    client.say("SUBSCRIBE\nid:a\ndestination:/topic/rooms/r\nack:client\nreceipt:1\n\n\0");
    client.confirm(0);
    client.live(0, 1);
    client.live(0, 2);
    client.messages();
    let [one, two] = [1, 2].map(message_id);
    client.say("SEND\ndestination:/app/rooms/r\nreceipt:2\n\n\0");
    client.accept(1);
    client.say(&format!(
        "ACK\nid:{one}/a\nreceipt:3\n\n\0NACK\nid:{two}/a\nreceipt:4\n\n\0"
    ));
    client.say("BEGIN\ntransaction:t\nreceipt:5\n\n\0ABORT\ntransaction:t\nreceipt:6\n\n\0");
    client.say("BEGIN\ntransaction:t\nreceipt:7\n\n\0COMMIT\ntransaction:t\nreceipt:8\n\n\0");
    client.say("UNSUBSCRIBE\nid:a\nreceipt:9\n\n\0DISCONNECT\nreceipt:10\n\n\0");
    let told: Vec<_> = client
        .frames
        .iter()
        .map(|frame| (frame.command, frame.header("receipt-id").unwrap()))
        .collect();
    let numbers: Vec<_> = (1..=10).map(|number| number.to_string()).collect();
    let expected: Vec<_> = numbers
        .iter()
        .map(|number| (Command::Receipt, number.as_str()))
        .collect();
    assert_eq!(told, expected);
}

#[test]
fn who_is_slowed_down_again_and_again_must_connect_in_the_end() {
    let rates = ["--byte-rate", "100", "--control-rate", "1"];
    let mut client = Client::new(&rates, JOURNALED);
    let start = client.now;
    client.say("CONNECT\n");
    // It never presses on against one rate for long.
    for turn in 0..50 {
        while client.session.is_slowed() {
            let due = client.session.timeout().unwrap();
            client.pass(due.saturating_duration_since(client.now));
        }
        if turn % 2 == 0 {
            client.say(&format!("h{turn}:{}\n", "x".repeat(300)));
            client.say("y");
        } else {
            while client.closed.is_none() && !client.session.is_slowed() {
                client.session.heard(client.now);
                client.collect();
            }
        }
        if client.closed.is_some() {
            break;
        }
    }
    assert_eq!(client.closed, Some(CloseReason::ConnectTimeout));
    assert!(client.now - start <= Duration::from_secs(10 + 10 + 1));
}
