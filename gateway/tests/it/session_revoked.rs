//! What a session does when the user may no longer what was allowed before.

use gateway::access::{Action, Verdict};
use gateway::close::CloseReason;
use gateway::session::output::Slot;
use serde_json::{Value, json};

use crate::session_access::{SECOND, asked, refusal, send, subscribe};

#[test]
fn a_transaction_is_sent_only_where_that_is_still_allowed_at_its_commit() {
    let transaction = "BEGIN\ntransaction:t\n\n\0\
         SEND\ndestination:/app/rooms/r\ntransaction:t\n\none\0\
         SEND\ndestination:/app/rooms/s\ntransaction:t\n\ntwo\0\
         SEND\ndestination:/app/rooms/r\ntransaction:t\n\nthree\0";
    let commit = "COMMIT\ntransaction:t\nreceipt:done\n\n\0";
    let opened = || {
        let mut client = asked(&["--refusals", "message"]).listens_to_errors("auto");
        client.say(transaction);
        client.allow("r", Action::Send, 30 * SECOND);
        client.allow("s", Action::Send, 30 * SECOND);
        client.pass(31 * SECOND);
        client.say(&(commit.to_owned() + &send("t", "after")));
        assert_eq!(client.bodies(), Vec::<&str>::new());
        client.allow("r", Action::Send, 30 * SECOND);
        client
    };
    let mut client = opened();
    client.answer("s", Action::Send, Verdict::Refused);
    let told = client.take();
    assert_eq!(refusal(&told), (json!("forbidden"), Value::Null));
    assert_eq!(told.header("receipt-id"), Some("done"));
    client.allow("t", Action::Send, 30 * SECOND);
    assert_eq!(client.bodies(), ["after"]);
    client.say("BEGIN\ntransaction:t\n\n\0");
    assert_eq!(client.closed, None, "the refused one is gone");

    let mut client = opened();
    client.allow("s", Action::Send, 30 * SECOND);
    client.allow("t", Action::Send, 30 * SECOND);
    assert_eq!(client.bodies(), ["one", "two", "three", "after"]);
    assert_eq!(client.questions, []);
}

#[test]
fn subscriptions_end_in_time_though_there_are_too_many_to_ask_for() {
    let mut client = asked(&[]);
    for n in 0..100 {
        let name = format!("r{n}");
        client.say(&subscribe(&name, ""));
        client.allow(&name, Action::Subscribe, 30 * SECOND);
    }
    (0..100).for_each(|n| client.confirm(n));
    let start = client.now;
    client.pass_until_closed();
    assert_eq!(client.closed, Some(CloseReason::AccessUnavailable));
    assert_eq!(client.now - start, (30 + 15 + 2) * SECOND);
}

#[test]
fn a_room_that_is_taken_back_while_it_is_joined_is_left_when_that_is_over() {
    for confirmed in [true, false] {
        let mut client = asked(&["--refusals", "message"]).listens_to_errors("auto");
        client.say(&subscribe("r", "receipt:x\n"));
        client.allow("r", Action::Subscribe, 30 * SECOND);
        client.pass(15 * SECOND);
        client.answer("r", Action::Subscribe, Verdict::Refused);
        assert_eq!(client.take().header("receipt-id"), Some("x"));
        client.live(1, 1);
        assert!(client.messages().is_empty());
        assert_eq!(client.joins.len(), 2);
        client.session.joined(client.now, Slot(1), confirmed);
        client.collect();
        assert_eq!((client.joins.len(), client.closed), (1, None));
        client.say(&send("t", "two"));
        client.allow("t", Action::Send, 30 * SECOND);
        assert_eq!(client.bodies(), ["two"]);
    }
}
