//! The session's acknowledgements: what may be unacknowledged, what an ACK covers, and what waits.

use proptest::prelude::*;

use gateway::close::CloseReason;
use gateway::session::output::Slot;
use shared::broker::Guarantees;
use shared::message::Span;
use shared::stomp::Command;

use crate::virtual_client::{Client, JOURNALED, message_id};

const VERSIONS: [&str; 3] = ["1.0", "1.1", "1.2"];

/// A client of this version with a live subscription `s` in this mode, and the next slot.
fn subscribed(version: &str, mode: &str, flags: &[&str]) -> Client {
    let mut client = Client::new(flags, JOURNALED);
    client.say(&format!("CONNECT\naccept-version:{version}\n\n\0"));
    client.take();
    client.say(&format!(
        "SUBSCRIBE\nid:s\ndestination:/topic/rooms/r\nack:{mode}\n\n\0"
    ));
    client.confirm(0);
    client
}

/// ACK or NACK of a message of subscription `s`, as this version spells it.
fn ack(version: &str, command: &str, id: u64, more: &str) -> String {
    let message = message_id(id);
    let named = match version {
        "1.0" => format!("message-id:{message}"),
        "1.1" => format!("message-id:{message}\nsubscription:s"),
        _ => format!("id:{message}/s"),
    };
    format!("{command}\n{named}\n{more}\n\0")
}

#[test]
fn a_full_window_writes_nothing_more_until_an_acknowledgement() {
    for version in VERSIONS {
        for command in ["ACK", "NACK"] {
            for mode in ["client", "client-individual"] {
                let mut client = subscribed(version, mode, &["--max-unacknowledged", "2"]);
                for id in 1..=5 {
                    client.live(0, id);
                }
                assert_eq!(client.messages(), [1, 2], "{version} {command} {mode}");
                client.say(&ack(version, command, 1, ""));
                assert_eq!(client.messages(), [3], "{version} {command} {mode}");
                client.say(&ack(version, command, 2, ""));
                client.say(&ack(version, command, 3, ""));
                assert_eq!(client.messages(), [4, 5], "{version} {command} {mode}");
                assert_eq!(client.closed, None);
            }
        }
    }
}

#[test]
fn client_is_cumulative_in_delivery_order_and_client_individual_is_not() {
    for version in VERSIONS {
        let flags = ["--max-unacknowledged", "3"];
        let mut cumulative = subscribed(version, "client", &flags);
        let mut individual = subscribed(version, "client-individual", &flags);
        for client in [&mut cumulative, &mut individual] {
            for id in 1..=9 {
                client.live(0, id);
            }
            client.messages();
            client.say(&ack(version, "ACK", 3, ""));
        }
        assert_eq!(cumulative.messages(), [4, 5, 6], "{version}");
        assert_eq!(individual.messages(), [4], "{version}");
    }
}

#[test]
fn auto_has_no_window_and_ignores_acknowledgements() {
    for version in VERSIONS {
        let mut client = subscribed(version, "auto", &["--max-unacknowledged", "1"]);
        for id in 1..=3 {
            client.live(0, id);
        }
        assert_eq!(client.messages(), [1, 2, 3]);
        client.say(&ack(version, "ACK", 2, "receipt:a\n"));
        assert_eq!(client.take().header("receipt-id"), Some("a"), "{version}");
        assert_eq!(client.closed, None);
    }
    // What a library writes when a MESSAGE had no `ack` to name.
    let mut client = subscribed("1.2", "auto", &[]);
    client.live(0, 1);
    client.messages();
    client.say("ACK\nid:undefined\nsubscription:s\n\n\0");
    assert_eq!(client.closed, None);
}

#[test]
fn a_repeated_acknowledgement_is_ignored_and_one_of_what_was_never_sent_is_an_error() {
    for version in VERSIONS {
        for command in ["ACK", "NACK"] {
            let mut client = subscribed(version, "client", &["--max-unacknowledged", "2"]);
            for id in [3, 4, 5, 6] {
                client.live(0, id);
            }
            client.say(&ack(version, command, 4, ""));
            client.messages();
            client.say(&ack(version, command, 3, "receipt:again\n"));
            assert_eq!(client.take().header("receipt-id"), Some("again"));
            client.live(0, 7);
            assert!(client.messages().is_empty(), "3 was counted once");
            for id in [2, 7] {
                let mut client = subscribed(version, "client", &["--max-unacknowledged", "2"]);
                for id in [3, 4, 7] {
                    client.live(0, id);
                }
                client.messages();
                client.say(&ack(version, command, id, "receipt:q\n"));
                let error = client.take();
                assert_eq!(error.command, Command::Error);
                assert_eq!(error.header("receipt-id"), Some("q"), "{version} {id}");
                assert_eq!(client.closed, Some(CloseReason::UnknownMessage));
            }
        }
    }
}

#[test]
fn what_names_no_message_is_refused() {
    for (version, frame, reason) in [
        (
            "1.2",
            "message-id:x\nsubscription:s",
            CloseReason::BadHeader,
        ),
        ("1.2", "id:nonsense", CloseReason::UnknownMessage),
        ("1.2", "id:nonsense/s", CloseReason::UnknownMessage),
        ("1.1", "message-id:x", CloseReason::BadHeader),
        ("1.1", "subscription:s", CloseReason::BadHeader),
        (
            "1.1",
            "message-id:x\nsubscription:s",
            CloseReason::UnknownMessage,
        ),
        ("1.0", "subscription:s", CloseReason::BadHeader),
        ("1.0", "message-id:x", CloseReason::UnknownMessage),
    ] {
        for command in ["ACK", "NACK"] {
            let mut client = subscribed(version, "client", &[]);
            client.live(0, 1);
            client.messages();
            client.say(&format!("{command}\n{frame}\nreceipt:q\n\n\0"));
            let error = client.take();
            assert_eq!(error.command, Command::Error);
            assert_eq!(error.header("receipt-id"), Some("q"));
            assert_eq!(client.closed, Some(reason), "{version} {command} {frame:?}");
        }
    }
    // The message is there, the subscription is not.
    let mut client = subscribed("1.2", "client", &[]);
    client.live(0, 1);
    client.messages();
    client.say(&format!("ACK\nid:{}/t\n\n\0", message_id(1)));
    assert_eq!(client.closed, Some(CloseReason::UnknownMessage));
}

#[test]
fn in_1_0_an_acknowledgement_counts_in_every_subscription_that_has_the_message() {
    let mut client = subscribed("1.0", "client", &["--max-unacknowledged", "1"]);
    client.say("SUBSCRIBE\nid:t\ndestination:/topic/rooms/r\nack:client\n\n\0");
    client.confirm(1);
    for id in [1, 2] {
        client.live(0, id);
        client.live(1, id);
    }
    assert_eq!(client.messages(), [1, 1]);
    client.say(&ack("1.0", "ACK", 1, ""));
    assert_eq!(client.messages(), [2, 2]);
    client.say(&ack("1.0", "ACK", 1, ""));
    assert_eq!(client.closed, None, "the second ACK finds nothing to do");
}

#[test]
fn a_window_is_one_subscriptions() {
    let mut client = subscribed("1.2", "client", &["--max-unacknowledged", "1"]);
    client.say("SUBSCRIBE\nid:t\ndestination:/topic/rooms/r\n\n\0");
    client.confirm(1);
    for id in 1..=3 {
        client.live(0, id);
        client.live(1, id);
    }
    assert_eq!(client.messages(), [1, 1, 2, 3]);
}

#[test]
fn a_past_is_read_as_far_as_the_window_has_room() {
    let mut client = Client::connected(&["--max-unacknowledged", "3"]);
    let after = message_id(10);
    client.say(&format!(
        "SUBSCRIBE\nid:s\ndestination:/topic/rooms/r\nack:client\nreceipt:s\nafter:{after}\n\n\0"
    ));
    client.confirm(0);
    assert_eq!(client.reads, [(Slot(0), Span::After(after), 3)]);
    client.live(0, 16);
    client.past(0, &[11, 12, 13], true);
    assert_eq!(client.messages(), [11, 12, 13]);
    assert_eq!(client.reads.len(), 1, "nothing is read that has no room");
    client.say(&ack("1.2", "ACK", 12, ""));
    assert_eq!(
        client.reads[1..],
        [(Slot(0), Span::After(message_id(13)), 2)]
    );
    client.say(&ack("1.2", "ACK", 13, ""));
    assert_eq!(client.reads.len(), 2, "one reading at a time");
    client.past(0, &[14], true);
    assert_eq!(
        client.frames[0].header("message-id"),
        Some(&*message_id(14).to_string())
    );
    assert_eq!(client.frames[1].header("recovered"), Some("true"));
    assert_eq!(client.messages(), [14, 16], "what was held follows");
    client.live(0, 17);
    client.live(0, 18);
    assert_eq!(client.messages(), [17]);
}

#[test]
fn what_of_a_history_has_no_room_is_read_again_when_it_has() {
    for guarantees in [
        JOURNALED,
        Guarantees {
            durable: true,
            journaled: false,
        },
    ] {
        let mut client = Client::new(&["--max-unacknowledged", "2"], guarantees);
        client.say("CONNECT\naccept-version:1.2\n\n\0");
        client.take();
        client.say(
            "SUBSCRIBE\nid:s\ndestination:/topic/rooms/r\nack:client\nreceipt:s\nhistory:4\n\n\0",
        );
        client.live(0, 4);
        client.confirm(0);
        assert_eq!(client.reads, [(Slot(0), Span::Newest, 4)]);
        client.past(0, &[1, 2, 3, 4], true);
        assert_eq!(client.messages(), [1, 2]);
        client.say(&ack("1.2", "ACK", 2, ""));
        assert_eq!(
            client.reads[1..],
            [(Slot(0), Span::After(message_id(2)), 2)]
        );
        client.past(0, &[3, 4], true);
        client.say(&ack("1.2", "ACK", 4, ""));
        client.past(0, &[], true);
        client.live(0, 5);
        assert_eq!(client.messages(), [3, 4, 5], "each once");
        assert_eq!(client.take().command, Command::Receipt);
        assert!(client.frames.is_empty());
    }
}

#[test]
fn what_waits_counts_against_the_outbox_until_it_is_written() {
    let mut client = subscribed("1.2", "client", &["--max-unacknowledged", "1"]);
    for id in 1..=4 {
        client.live(0, id);
    }
    assert!(client.outbox_bytes() > 0);
    assert_eq!(client.messages(), [1]);
    client.say(&ack("1.2", "ACK", 1, ""));
    client.say(&ack("1.2", "ACK", 2, ""));
    client.say(&ack("1.2", "ACK", 3, ""));
    assert_eq!(client.messages(), [2, 3, 4]);
    assert_eq!(client.outbox_bytes(), 0);

    for id in 5..=7 {
        client.live(0, id);
    }
    assert!(client.outbox_bytes() > 0);
    client.say("UNSUBSCRIBE\nid:s\n\n\0");
    assert_eq!(
        client.outbox_bytes(),
        0,
        "what waits goes with its subscription"
    );
}

#[test]
fn an_ephemeral_message_comes_once_in_order_and_moves_nothing() {
    let mut client = Client::connected(&[]);
    client.say("SUBSCRIBE\nid:s\ndestination:/topic/rooms/r\nhistory:2\n\n\0");
    client.live(0, 5);
    client.ephemeral(0, 900);
    client.live(0, 6);
    client.ephemeral(0, 1);
    client.confirm(0);
    client.past(0, &[4, 5], true);
    assert_eq!(client.messages(), [4, 5, 900, 6, 1]);
    client.live(0, 7);
    client.ephemeral(0, 901);
    client.live(0, 8);
    client.live(0, 7);
    assert_eq!(client.messages(), [7, 901, 8]);
}

#[test]
fn an_ephemeral_message_is_acknowledged_like_any_other() {
    let mut client = subscribed("1.2", "client", &["--max-unacknowledged", "2"]);
    client.live(0, 5);
    client.ephemeral(0, 900);
    client.live(0, 6);
    assert_eq!(client.messages(), [5, 900]);
    client.say(&ack("1.2", "ACK", 900, ""));
    client.ephemeral(0, 2);
    assert_eq!(client.messages(), [6, 2]);
    client.say(&ack("1.2", "ACK", 2, "receipt:a\n"));
    assert_eq!(client.take().header("receipt-id"), Some("a"));
}

proptest! {
    /// Whatever a subscriber acknowledges in whatever order: it is never further ahead than its
    /// window, and gets everything once and in order.
    #[test]
    fn a_subscriber_runs_no_further_ahead_than_its_window_and_misses_nothing(
        steps in proptest::collection::vec(proptest::option::of(any::<usize>()), 0..80),
        window in 1..5usize,
        cumulative in any::<bool>(),
    ) {
        let mut client = Client::connected(&["--max-unacknowledged", &window.to_string()]);
        let mode = if cumulative { "client" } else { "client-individual" };
        client.say(&format!("SUBSCRIBE\nid:s\ndestination:/topic/rooms/r\nack:{mode}\n\n\0"));
        client.confirm(0);
        let (mut live, mut delivered, mut open) = (0, Vec::<u64>::new(), Vec::<u64>::new());
        // At the end every message is acknowledged, so that all of them come.
        let all = (0..steps.len()).map(Some);
        for step in steps.clone().into_iter().chain(all) {
            let before = delivered.len();
            match step {
                None => {
                    live += 1;
                    client.live(0, live);
                }
                Some(_) if delivered.is_empty() => continue,
                Some(at) => {
                    let id = delivered[at % delivered.len()];
                    client.say(&format!("ACK\nid:{}/s\n\n\0", message_id(id)));
                    if let Some(at) = open.iter().position(|each| *each == id) {
                        let from = if cumulative { 0 } else { at };
                        open.drain(from..=at);
                    }
                }
            }
            let came = client.messages();
            open.extend(&came);
            delivered.extend(&came);
            let expected = (live as usize).min(before + window - (open.len() - came.len()));
            prop_assert_eq!(delivered.len(), expected);
        }
        prop_assert_eq!(delivered, (1..=live).collect::<Vec<_>>());
        prop_assert_eq!(client.closed, None);
    }
}
