//! The session under every order of events.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;

use shared::broker::PublishError;
use shared::stomp::{Command, Frame};

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
    let frame = (0..13, room, 0..3u32).prop_map(|(kind, room, id)| match kind {
        0 | 1 => format!("SEND\ndestination:/app/rooms/{room}\nreceipt:r{id}\n\nhi\0"),
        2 => format!("SEND\ndestination:/app/rooms/{room}\n\nhi\0"),
        3 => format!("SUBSCRIBE\nid:{id}\ndestination:/topic/rooms/{room}\nreceipt:s\n\n\0"),
        4 => format!("SUBSCRIBE\nid:{id}\ndestination:/topic/rooms/{room}\nhistory:9\n\n\0"),
        5 => format!("UNSUBSCRIBE\nid:{id}\n\n\0"),
        6 => "\n".to_owned(),
        7 => format!(
            "BEGIN\ntransaction:{id}\n\n\0\
             SEND\ndestination:/app/rooms/{room}\ntransaction:{id}\nreceipt:r{id}\n\nhi\0"
        ),
        8 => format!("COMMIT\ntransaction:{id}\nreceipt:c\n\n\0"),
        9 => format!(
            "SUBSCRIBE\nid:{id}\ndestination:/topic/rooms/{room}\nack:client\nhistory:9\n\n\0"
        ),
        10 => format!("ACK\nid:{}/{id}\n\n\0", message_id(1 + u64::from(id))),
        11 => "CONNECT\naccept-version:1.1,1.2\nheart-beat:1000,1000\n\n\0".to_owned(),
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
    /// or a COMMIT's RECEIPT comes only after its answer and at most once, and nothing panics.
    #[test]
    fn no_frame_follows_an_error_and_no_receipt_precedes_its_answer(
        steps in proptest::collection::vec(step(), 0..60)
    ) {
        let mut client = Client::new(&["--max-unacknowledged", "2"], JOURNALED);
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
        let told = |what: fn(&Frame) -> bool| {
            let receipts = client.frames.iter().filter(|frame| frame.command == Command::Receipt);
            receipts.filter(|frame| what(frame)).count() as u64
        };
        prop_assert!(told(|frame| frame.header("message-id").is_some()) <= answered);
        prop_assert!(told(|frame| frame.header("receipt-id") == Some("c")) <= answered);
    }
}
