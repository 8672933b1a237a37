//! The session under every order of events.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;

use shared::broker::PublishError;
use shared::stomp::Command;

use crate::virtual_client::{Client, JOURNALED, message_id};

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
    let frame = (0..16, room, 0..3u32).prop_map(|(kind, room, id)| match kind {
        0 | 1 => format!("SEND\ndestination:/app/rooms/{room}\nreceipt:r{id}\n\nhi\0"),
        2 => format!("SEND\ndestination:/app/rooms/{room}\n\nhi\0"),
        3 => format!("SUBSCRIBE\nid:{id}\ndestination:/topic/rooms/{room}\nreceipt:s\n\n\0"),
        4 => format!("SUBSCRIBE\nid:{id}\ndestination:/topic/rooms/{room}\nhistory:9\n\n\0"),
        5 => format!("UNSUBSCRIBE\nid:{id}\n\n\0"),
        6 => "\n".to_owned(),
        7 => "CONNECT\naccept-version:1.1,1.2\nheart-beat:1000,1000\n\n\0".to_owned(),
        8 => format!("SUBSCRIBE\nid:{id}\ndestination:/topic/rooms/{room}\nack:client\n\n\0"),
        9 => format!("ACK\nid:{}/{id}\nreceipt:a\n\n\0", message_id(1)),
        10 => format!("NACK\nid:{}/{id}\ntransaction:{id}\n\n\0", message_id(2)),
        11 => format!("BEGIN\ntransaction:{id}\nreceipt:b\n\n\0"),
        12 => format!("COMMIT\ntransaction:{id}\nreceipt:c\n\n\0"),
        13 => format!("ABORT\ntransaction:{id}\n\n\0"),
        14 => format!("SEND\ndestination:/app/rooms/{room}\ntransaction:{id}\nreceipt:t\n\nhi\0"),
        _ => "DISCONNECT\nreceipt:d\n\n\0".to_owned(),
    });
    prop_oneof![
        6 => frame.prop_map(Step::Say),
        1 => "[A-Z:\n\0]{0,12}".prop_map(Step::Say),
        4 => any::<bool>().prop_map(Step::Accept),
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
        let mut joined = HashSet::new();
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
