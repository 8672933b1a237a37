//! The session's transactions: nothing before COMMIT, all of it after, and what each receipt says.

use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;

use gateway::close::CloseReason;
use gateway::config::ReceiptAfter;
use gateway::session::Published;
use shared::broker::{Guarantees, PublishError};
use shared::stomp::Command;

use crate::virtual_client::{Client, JOURNALED, message_id};

fn send(body: &str, more: &str) -> String {
    format!("SEND\ndestination:/app/rooms/r\ntransaction:t\n{more}\n{body}\0")
}

fn bodies(client: &Client) -> Vec<&str> {
    client
        .publishes
        .iter()
        .map(|(_, body, _)| body.as_str())
        .collect()
}

fn receipts(client: &mut Client) -> Vec<String> {
    client
        .frames
        .drain(..)
        .map(|frame| {
            assert_eq!(frame.command, Command::Receipt);
            frame.header("receipt-id").unwrap().to_owned()
        })
        .collect()
}

#[test]
fn what_is_in_a_transaction_is_published_at_commit_in_order() {
    let mut client = Client::connected(&[]);
    client.say("BEGIN\ntransaction:t\nreceipt:b\n\n\0");
    client.say(&send("1", "receipt:one\n"));
    client.say("SEND\ndestination:/app/rooms/r\n\nnow\0");
    client.say(&send("2", ""));
    assert_eq!(bodies(&client), ["now"]);
    assert_eq!(receipts(&mut client), ["b"]);
    client.say("COMMIT\ntransaction:t\nreceipt:c\n\n\0");
    assert_eq!(bodies(&client), ["now", "1", "2"]);
    client.accept(1);
    client.accept(2);
    assert_eq!(
        receipts(&mut client),
        ["one"],
        "COMMIT's covers all of them"
    );
    client.accept(3);
    assert_eq!(receipts(&mut client), ["c"]);
    client.say("BEGIN\ntransaction:t\n\n\0");
    assert_eq!(client.closed, None, "its name is free again");
}

#[test]
fn abort_drops_what_came_and_its_receipts() {
    let mut client = Client::connected(&[]);
    client.say("BEGIN\ntransaction:t\n\n\0");
    client.say(&send("1", "receipt:one\n"));
    client.say("ABORT\ntransaction:t\nreceipt:a\n\n\0");
    assert_eq!(receipts(&mut client), ["a"]);
    client.say("BEGIN\ntransaction:t\n\n\0COMMIT\ntransaction:t\nreceipt:c\n\n\0");
    assert_eq!(receipts(&mut client), ["c"]);
    assert!(client.publishes.is_empty());
}

#[test]
fn disconnect_aborts_what_is_open() {
    let mut client = Client::connected(&[]);
    client.say("BEGIN\ntransaction:t\n\n\0");
    client.say(&send("1", "receipt:one\n"));
    client.say("DISCONNECT\nreceipt:d\n\n\0");
    assert_eq!(receipts(&mut client), ["d"]);
    assert!(client.publishes.is_empty());
    assert_eq!(client.closed, Some(CloseReason::ClientDisconnected));
}

#[test]
fn acknowledgements_in_a_transaction_count_at_commit() {
    for (end, after) in [("COMMIT", vec![2, 3]), ("ABORT", vec![])] {
        for (version, named) in [
            ("1.0", format!("message-id:{}", message_id(1))),
            (
                "1.1",
                format!("message-id:{}\nsubscription:s", message_id(1)),
            ),
            ("1.2", format!("id:{}/s", message_id(1))),
        ] {
            let mut client = Client::new(&["--max-unacknowledged", "1"], JOURNALED);
            client.say(&format!("CONNECT\naccept-version:{version}\n\n\0"));
            client.take();
            client.say("SUBSCRIBE\nid:s\ndestination:/topic/rooms/r\nack:client\n\n\0");
            client.confirm(0);
            client.say("BEGIN\ntransaction:t\n\n\0");
            for id in [1, 2] {
                client.live(0, id);
            }
            assert_eq!(client.messages(), [1]);
            client.say(&format!("ACK\n{named}\ntransaction:t\nreceipt:a\n\n\0"));
            assert!(client.frames.is_empty(), "nothing happens before COMMIT");
            client.say(&format!("{end}\ntransaction:t\n\n\0"));
            let released = client.messages();
            assert_eq!(released, after[..after.len().min(1)], "{end} {version}");
            let told = receipts(&mut client);
            assert_eq!(told.is_empty(), after.is_empty(), "{end} {version}");
        }
    }
}

#[test]
fn an_acknowledgement_whose_subscription_has_ended_commits_to_nothing() {
    let mut client = Client::connected(&[]);
    client.say("SUBSCRIBE\nid:s\ndestination:/topic/rooms/r\nack:client\n\n\0");
    client.confirm(0);
    client.live(0, 1);
    client.messages();
    let id = message_id(1);
    client.say(&format!(
        "BEGIN\ntransaction:t\n\n\0NACK\nid:{id}/s\ntransaction:t\n\n\0UNSUBSCRIBE\nid:s\n\n\0\
         COMMIT\ntransaction:t\nreceipt:c\n\n\0"
    ));
    assert_eq!(receipts(&mut client), ["c"]);
}

#[test]
fn what_is_wrong_in_a_transaction_is_refused_when_it_comes() {
    for (frame, reason) in [
        (
            "SEND\ndestination:/elsewhere\ntransaction:t\nreceipt:q\n\nx\0",
            CloseReason::BadDestination,
        ),
        (
            "ACK\nid:nonsense\ntransaction:t\nreceipt:q\n\n\0",
            CloseReason::UnknownMessage,
        ),
        (
            "SEND\ndestination:/app/rooms/r\ntransaction:u\nreceipt:q\n\nx\0",
            CloseReason::UnknownTransaction,
        ),
        (
            "COMMIT\ntransaction:u\nreceipt:q\n\n\0",
            CloseReason::UnknownTransaction,
        ),
        (
            "ABORT\ntransaction:u\nreceipt:q\n\n\0",
            CloseReason::UnknownTransaction,
        ),
        (
            "BEGIN\ntransaction:t\nreceipt:q\n\n\0",
            CloseReason::DuplicateTransaction,
        ),
        ("BEGIN\nreceipt:q\n\n\0", CloseReason::BadHeader),
        ("COMMIT\nreceipt:q\n\n\0", CloseReason::BadHeader),
        ("ABORT\nreceipt:q\n\n\0", CloseReason::BadHeader),
        (
            "COMMIT\ntransaction:t\nreceipt-after:soon\nreceipt:q\n\n\0",
            CloseReason::BadHeader,
        ),
    ] {
        let mut client = Client::connected(&[]);
        client.say("BEGIN\ntransaction:t\n\n\0");
        client.say(&send("kept", ""));
        client.say(frame);
        let error = client.take();
        assert_eq!(error.command, Command::Error, "{frame:?}");
        assert_eq!(error.header("receipt-id"), Some("q"), "{frame:?}");
        assert_eq!(client.closed, Some(reason), "{frame:?}");
        assert!(client.publishes.is_empty(), "{frame:?}");
    }
}

#[test]
fn transactions_their_frames_and_their_octets_are_bounded() {
    let mut client = Client::connected(&["--max-transactions", "2"]);
    client.say("BEGIN\ntransaction:a\n\n\0BEGIN\ntransaction:b\n\n\0ABORT\ntransaction:a\n\n\0");
    client.say("BEGIN\ntransaction:c\n\n\0");
    assert_eq!(client.closed, None);
    client.say("BEGIN\ntransaction:d\nreceipt:q\n\n\0");
    assert_eq!(client.take().header("receipt-id"), Some("q"));
    assert_eq!(client.closed, Some(CloseReason::TooManyTransactions));

    let mut client = Client::connected(&["--max-transaction-frames", "2"]);
    client.say("BEGIN\ntransaction:t\n\n\0");
    client.say(&send("1", ""));
    client.say(&send("2", ""));
    assert_eq!(client.closed, None);
    client.say(&send("3", "receipt:q\n"));
    assert_eq!(client.take().header("receipt-id"), Some("q"));
    assert_eq!(client.closed, Some(CloseReason::TransactionTooLarge));

    let flags = ["--max-frame-bytes", "1KiB", "--max-outbox-bytes", "2KiB"];
    let mut client = Client::connected(&flags);
    let large = "x".repeat(800);
    for _ in 0..3 {
        client.say("BEGIN\ntransaction:t\n\n\0");
        client.say(&send(&large, ""));
        client.say(&send(&large, ""));
        client.say("ABORT\ntransaction:t\n\n\0");
    }
    client.say("BEGIN\ntransaction:u\n\n\0BEGIN\ntransaction:t\n\n\0");
    client.say(&send(&large, ""));
    client.say(&send(&large, ""));
    assert_eq!(client.closed, None);
    client.say(&format!(
        "SEND\ndestination:/app/rooms/r\ntransaction:u\nreceipt:q\n\n{large}\0"
    ));
    assert_eq!(client.take().header("receipt-id"), Some("q"));
    assert_eq!(client.closed, Some(CloseReason::TransactionTooLarge));
}

#[test]
fn a_commit_that_fails_half_way_is_an_error_that_names_it() {
    let mut client = Client::connected(&[]);
    client.say("BEGIN\ntransaction:t\n\n\0");
    for body in ["1", "2", "3"] {
        client.say(&send(body, "receipt:s\n"));
    }
    client.say("COMMIT\ntransaction:t\nreceipt:c\n\n\0");
    client.accept(1);
    client.take();
    let (token, ..) = client.publishes.remove(0);
    let failed = Err(PublishError::Unavailable);
    client.session.published(client.now, token, failed);
    client.collect();
    let error = client.take();
    assert_eq!(error.command, Command::Error);
    assert_eq!(error.header("receipt-id"), Some("c"));
    client.accept(3);
    assert!(client.frames.is_empty());
    assert_eq!(client.closed, Some(CloseReason::BrokerUnavailable));
}

#[test]
fn commits_receipt_says_of_all_of_them_what_a_sends_says_of_one() {
    let until = |guarantees: Guarantees, flags: &[&str], commit: &str| {
        let mut client = Client::new(flags, guarantees);
        client.say("CONNECT\naccept-version:1.2\n\n\0BEGIN\ntransaction:t\n\n\0");
        client.say(&send("1", ""));
        client.say(&send("2", "receipt-after:stored\n"));
        client.say(&format!("COMMIT\ntransaction:t\n{commit}\n\0"));
        let until: Vec<_> = client.publishes.iter().map(|publish| publish.2).collect();
        until
    };
    use ReceiptAfter::{Accepted, Stored};
    let durable = JOURNALED;
    let volatile = Guarantees {
        durable: false,
        journaled: true,
    };
    assert_eq!(until(durable, &[], ""), [Accepted, Accepted]);
    assert_eq!(until(durable, &[], "receipt:c\n"), [Accepted, Stored]);
    let asked = "receipt:c\nreceipt-after:stored\n";
    assert_eq!(until(durable, &[], asked), [Stored, Stored]);
    let flags = ["--receipt-after", "stored"];
    assert_eq!(until(durable, &flags, "receipt:c\n"), [Stored, Stored]);
    assert_eq!(until(volatile, &[], "receipt:c\n"), [Stored, Stored]);
}

#[test]
fn commits_receipt_is_withheld_when_one_that_it_covers_is() {
    let mut client = Client::connected(&[]);
    client.say("BEGIN\ntransaction:t\n\n\0");
    client.say(&send("1", "receipt-after:stored\n"));
    client.say(&send("2", ""));
    client.say("COMMIT\ntransaction:t\nreceipt:c\n\n\0");
    let (token, ..) = client.publishes.remove(0);
    let withheld = Ok(Published::Withheld);
    client.session.published(client.now, token, withheld);
    client.accept(2);
    assert!(client.frames.is_empty());
    assert_eq!(client.closed, None);
}

#[test]
fn disconnect_waits_for_a_commit_under_way() {
    let mut client = Client::connected(&[]);
    client.say("BEGIN\ntransaction:t\n\n\0");
    client.say(&send("1", ""));
    client.say("COMMIT\ntransaction:t\nreceipt:c\n\n\0DISCONNECT\nreceipt:d\n\n\0");
    assert!(client.frames.is_empty());
    client.accept(1);
    assert_eq!(receipts(&mut client), ["c", "d"]);
}

proptest! {
    /// Whatever is sent in whatever transaction: what is committed is published once, in order and
    /// not before, and a COMMIT's RECEIPT comes right after the last answer that it covers.
    #[test]
    fn what_is_committed_is_published_once_and_its_receipt_comes_last(
        steps in proptest::collection::vec((0..5u8, 0..3u8), 0..80)
    ) {
        let mut client = Client::connected(&[]);
        let mut open: HashMap<u8, Vec<String>> = HashMap::new();
        let (mut published, mut expected) = (Vec::new(), Vec::new());
        // What waits for an answer, and the COMMIT whose RECEIPT that answer earns.
        let mut pending: VecDeque<Option<String>> = VecDeque::new();
        let mut answered = 0;
        for (at, (kind, name)) in steps.into_iter().enumerate() {
            match kind {
                0 if !open.contains_key(&name) => {
                    client.say(&format!("BEGIN\ntransaction:{name}\n\n\0"));
                    open.insert(name, Vec::new());
                }
                0 | 1 => {
                    let transaction = match open.get_mut(&name) {
                        Some(bodies) => {
                            bodies.push(at.to_string());
                            format!("transaction:{name}\n")
                        }
                        None => {
                            expected.push(at.to_string());
                            pending.push_back(None);
                            String::new()
                        }
                    };
                    client.say(&format!("SEND\ndestination:/app/rooms/r\n{transaction}\n{at}\0"));
                }
                2 => if let Some(bodies) = open.remove(&name) {
                    client.say(&format!("COMMIT\ntransaction:{name}\nreceipt:{at}\n\n\0"));
                    if bodies.is_empty() {
                        let receipt = client.take();
                        prop_assert_eq!(receipt.header("receipt-id"), Some(&*at.to_string()));
                    } else {
                        pending.extend((1..bodies.len()).map(|_| None));
                        pending.push_back(Some(at.to_string()));
                    }
                    expected.extend(bodies);
                }
                3 => if open.remove(&name).is_some() {
                    client.say(&format!("ABORT\ntransaction:{name}\n\n\0"));
                }
                _ => if let Some(earned) = pending.pop_front() {
                    published.push(client.publishes[0].1.clone());
                    answered += 1;
                    client.accept(answered);
                    let told = client.frames.pop();
                    let told = told.as_ref().and_then(|frame| frame.header("receipt-id"));
                    prop_assert_eq!(told, earned.as_deref());
                }
            }
            prop_assert!(client.frames.is_empty(), "{:?}", client.frames);
        }
        published.extend(client.publishes.iter().map(|(_, body, _)| body.clone()));
        prop_assert_eq!(published, expected);
        prop_assert_eq!(client.closed, None);
    }
}
