//! What a session does while it is asked whether the user may, and when the user may not.

use std::time::Duration;

use gateway::access::{Action, Grants, Verdict};
use gateway::auth::Identity;
use gateway::close::CloseReason;
use gateway::config::ReceiptAfter;
use serde_json::{Value, json};
use shared::message::{RoomName, UserName};
use shared::stomp::{Command, Frame};

use crate::virtual_client::{Client, JOURNALED};

const KEY: &str = "a secret of at least thirty-two octets";
pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

/// Kim, in a gateway with these flags, by a token that claims this.
fn kim(flags: &[&str], claim: Value) -> Client {
    let auth = ["--auth", "jwt", "--jwt-key", KEY];
    let mut client = Client::new(&[&auth, flags].concat(), JOURNALED);
    client.say("CONNECT\naccept-version:1.2\nheart-beat:0,0\n\n\0");
    let who = Identity {
        user: UserName::parse("kim").unwrap(),
        expires: None,
        grants: Grants::from_claim(Some(&claim)).unwrap(),
        is_backend: false,
    };
    client.session.authenticated(client.now, Ok(who));
    client.collect();
    assert_eq!(client.take().command, Command::Connected);
    client
}

/// Kim, where somebody has to be asked.
pub(crate) fn asked(flags: &[&str]) -> Client {
    kim(&[&["--access", "members"], flags].concat(), json!({}))
}

impl Client {
    /// Answers the oldest question, which is this one.
    pub(crate) fn answer(&mut self, at: &str, to: Action, verdict: Verdict) {
        assert!(!self.questions.is_empty(), "a question was expected");
        assert_eq!(self.questions.remove(0), (room(at), to));
        self.session.authorized(self.now, &room(at), to, verdict);
        self.collect();
    }

    /// Allows it for so long.
    pub(crate) fn allow(&mut self, at: &str, to: Action, time: Duration) {
        let until = Some(self.now + time);
        self.answer(at, to, Verdict::Granted { until });
    }

    pub(crate) fn bodies(&self) -> Vec<&str> {
        self.publishes.iter().map(|(_, body, _)| &**body).collect()
    }

    /// Kim listens to what was refused.
    pub(crate) fn listens_to_errors(mut self, ack: &str) -> Self {
        self.say(&format!(
            "SUBSCRIBE\nid:e\ndestination:/user/queue/errors\nack:{ack}\n\n\0"
        ));
        self.confirm(0);
        assert_eq!(self.questions, []);
        self
    }
}

pub(crate) fn send(to: &str, body: &str) -> String {
    format!("SEND\ndestination:/app/rooms/{to}\nreceipt:{body}\n\n{body}\0")
}

pub(crate) fn subscribe(to: &str, more: &str) -> String {
    format!("SUBSCRIBE\nid:{to}\ndestination:/topic/rooms/{to}\n{more}\n\0")
}

pub(crate) fn refusal(frame: &Frame) -> (Value, Value) {
    assert_eq!(frame.command, Command::Message);
    assert_eq!(frame.header("destination"), Some("/user/queue/errors"));
    let body: Value = serde_json::from_slice(&frame.body).unwrap();
    (body["code"].clone(), body["destination"].clone())
}

#[test]
fn a_claim_answers_at_once() {
    let mut client = kim(&[], json!({"team-*": "rw", "lobby": "r"}));
    client.say(&subscribe("lobby", "history:5\n"));
    client.confirm(0);
    client.say(&send("team-a", "one"));
    client.say(&send("team-a", "two"));
    assert_eq!(client.bodies(), ["one", "two"]);
    assert_eq!(client.reads.len(), 1);
    assert_eq!(client.questions, []);
    // The second SEND is remembered.
    assert_eq!(client.decided.len(), 3);
    client.say(&send("lobby", "three"));
    let error = client.take();
    assert_eq!(error.header("code"), Some("forbidden"));
    assert_eq!(error.header("receipt-id"), Some("three"));
    assert_eq!(client.closed, Some(CloseReason::Forbidden));
    assert_eq!(client.bodies(), ["one", "two"]);
    assert_eq!(client.decided.last(), Some(&Verdict::Refused));
}

#[test]
fn a_refusal_says_the_same_whatever_the_room() {
    let mut errors = Vec::new();
    for to in ["lobby", "nowhere", "secret-plans"] {
        let mut client = kim(&[], json!({}));
        client.say(&subscribe(to, ""));
        assert_eq!(client.joins, []);
        errors.push(client.take());
    }
    assert!(errors.windows(2).all(|two| two[0] == two[1]), "{errors:?}");
}

#[test]
fn frames_wait_for_an_answer_in_their_order() {
    let mut client = asked(&[]);
    client.say(&(subscribe("r", "") + &send("r", "one") + &send("s", "two") + &send("r", "three")));
    assert!(!client.session.wants_input());
    assert_eq!((client.joins.len(), client.publishes.len()), (0, 0));
    client.allow("r", Action::Subscribe, 30 * SECOND);
    client.confirm(0);
    client.allow("r", Action::Send, 30 * SECOND);
    assert_eq!(client.bodies(), ["one"]);
    client.allow("s", Action::Send, 30 * SECOND);
    assert_eq!(client.bodies(), ["one", "two", "three"]);
    assert_eq!(client.questions, []);
    assert!(client.session.wants_input());
}

#[test]
fn nothing_that_follows_a_refused_frame_is_done() {
    let mut client = asked(&[]);
    client.say(&(send("r", "one") + &send("s", "two")));
    client.answer("r", Action::Send, Verdict::Refused);
    assert_eq!(client.take().header("code"), Some("forbidden"));
    assert_eq!(client.closed, Some(CloseReason::Forbidden));
    assert_eq!((client.publishes.len(), client.questions.len()), (0, 0));
}

#[test]
fn without_an_answer_a_frame_is_refused_and_the_client_may_come_back() {
    let mut client = asked(&[]);
    client.say(&subscribe("r", "receipt:x\n"));
    client.answer("r", Action::Subscribe, Verdict::Unavailable);
    let error = client.take();
    assert_eq!(error.header("code"), Some("access-unavailable"));
    assert_eq!(error.header("receipt-id"), Some("x"));
    assert_eq!(client.joins, []);
}

#[test]
fn who_may_not_read_the_past_gets_none_of_it_with_a_subscription() {
    for past in [
        "history:5\n",
        "after:018bcfe5-6800-7000-8000-000000010000\n",
    ] {
        let mut client = asked(&[]);
        client.say(&subscribe("r", past));
        client.allow("r", Action::Subscribe, 30 * SECOND);
        client.answer("r", Action::History, Verdict::Refused);
        assert_eq!(client.take().header("code"), Some("forbidden"));
        assert_eq!((client.joins.len(), client.reads.len()), (0, 0));
    }
}

#[test]
fn what_was_allowed_is_not_asked_again_and_no_longer_than_it_counts() {
    let mut client = asked(&[]);
    client.say(&send("r", "one"));
    client.allow("r", Action::Send, 30 * SECOND);
    client.pass(14 * SECOND);
    client.say(&send("r", "two"));
    assert_eq!(client.questions, []);
    // Past half of the time it is asked ahead, and the frame does not wait.
    client.pass(SECOND);
    client.say(&(send("r", "three") + &send("r", "four")));
    assert_eq!(client.bodies().len(), 4);
    client.answer("r", Action::Send, Verdict::Unavailable);
    client.pass(14 * SECOND);
    client.say(&send("r", "five"));
    client.answer("r", Action::Send, Verdict::Unavailable);
    client.pass(SECOND);
    client.say(&send("r", "six"));
    assert_eq!(client.bodies().len(), 5);
    client.answer("r", Action::Send, Verdict::Unavailable);
    assert_eq!(client.closed, Some(CloseReason::AccessUnavailable));
}

#[test]
fn many_rooms_are_remembered_within_bounds() {
    let mut client = asked(&[]);
    for n in 0..1000 {
        client.say(&send(&format!("r{n}"), "x"));
        client.allow(&format!("r{n}"), Action::Send, 30 * SECOND);
        client.accept(n);
    }
    // The newest are known; the oldest have to be asked for again.
    client.say(&send("r999", "x"));
    assert_eq!(client.questions, []);
    client.accept(1000);
    client.say(&send("r0", "x"));
    assert_eq!(client.questions, [(room("r0"), Action::Send)]);
}

#[test]
fn a_users_own_queue_is_never_asked_for_and_anybody_elses_is() {
    let mut client = asked(&[]);
    client.say("SUBSCRIBE\nid:q\ndestination:/user/queue/x\nhistory:3\n\n\0");
    client.confirm(0);
    assert_eq!((client.joins.len(), client.reads.len()), (1, 1));
    assert_eq!(client.questions, []);
    for name in ["kim", "lee"] {
        client.say(&format!("SEND\ndestination:/user/{name}/queue/x\n\nhi\0"));
        let queue = RoomName::queue(&UserName::parse(name).unwrap(), "queue/x").unwrap();
        assert_eq!(client.questions, [(queue.clone(), Action::Send)]);
        client.questions.clear();
        let granted = Verdict::Granted { until: None };
        client
            .session
            .authorized(client.now, &queue, Action::Send, granted);
        client.collect();
    }
    assert_eq!(client.publishes.len(), 2);
}

#[test]
fn a_subscription_is_asked_for_again_and_ends_when_it_is_refused() {
    let mut client = asked(&[]);
    client.say(&subscribe("r", ""));
    client.allow("r", Action::Subscribe, 30 * SECOND);
    client.confirm(0);
    for _ in 0..5 {
        let due = client.session.timeout().unwrap() - client.now;
        assert!(due <= 15 * SECOND, "{due:?}");
        client.pass(15 * SECOND);
        client.allow("r", Action::Subscribe, 30 * SECOND);
        client.say("\n");
    }
    client.live(0, 1);
    assert_eq!(client.messages(), [1]);
    client.pass(15 * SECOND);
    client.answer("r", Action::Subscribe, Verdict::Refused);
    assert_eq!(client.take().header("code"), Some("forbidden"));
    assert_eq!(client.closed, Some(CloseReason::Forbidden));
}

#[test]
fn a_subscription_outlasts_a_short_outage_of_who_is_asked_and_no_long_one() {
    let mut client = asked(&[]);
    client.say(&subscribe("r", ""));
    client.allow("r", Action::Subscribe, 30 * SECOND);
    client.confirm(0);
    let end = client.now + 30 * SECOND;
    let mut tries = 0;
    while client.closed.is_none() {
        let due = client.session.timeout().unwrap();
        client.pass(due - client.now);
        if !client.questions.is_empty() {
            tries += 1;
            client.answer("r", Action::Subscribe, Verdict::Unavailable);
        }
        assert!(client.now <= end);
    }
    assert_eq!((client.now, tries > 2), (end, true));
    assert_eq!(client.closed, Some(CloseReason::AccessUnavailable));
}

#[test]
fn few_subscriptions_are_asked_for_at_one_time_and_all_in_the_end() {
    let mut client = asked(&[]);
    for n in 0..100 {
        let name = format!("r{n}");
        client.say(&subscribe(&name, ""));
        client.allow(&name, Action::Subscribe, 30 * SECOND);
    }
    (0..100).for_each(|n| client.confirm(n));
    client.pass(20 * SECOND);
    let mut rooms = Vec::new();
    while let Some((at, _)) = client.questions.first().cloned() {
        assert!(client.questions.len() <= 16);
        client.allow(at.as_str(), Action::Subscribe, 30 * SECOND);
        rooms.push(at);
    }
    assert_eq!(rooms.len(), 100);
    assert!(client.session.timeout().unwrap() > client.now);
}

#[test]
fn a_client_does_not_pile_up_questions_that_nobody_waits_for() {
    let mut client = asked(&["--refusals", "message"]).listens_to_errors("auto");
    for n in 0..100 {
        client.say(&subscribe(&format!("r{n}"), "history:1\n"));
        let asked = client.questions.iter();
        let asked = asked.rev().find(|(_, to)| *to == Action::Subscribe);
        if let Some((at, to)) = asked.cloned() {
            client.questions.retain(|(_, to)| *to == Action::History);
            client
                .session
                .authorized(client.now, &at, to, Verdict::Refused);
            client.collect();
        }
    }
    assert!(
        client.questions.len() <= 33,
        "{} questions",
        client.questions.len()
    );
    while let Some((at, to)) = client.questions.first().cloned() {
        client.answer(at.as_str(), to, Verdict::Refused);
    }
    assert_eq!(client.closed, None);
    assert!(client.session.wants_input());
    let told = client.frames.iter().map(|frame| refusal(frame).1);
    assert!(told.eq((0..100).map(|n| json!(format!("/topic/rooms/r{n}")))));
}

#[test]
fn a_refusal_can_be_a_message_that_ends_nothing() {
    let mut client = asked(&["--refusals", "message"]).listens_to_errors("auto");
    client.say(&(send("r", "one") + &subscribe("s", "receipt:sub\n") + &send("t", "two")));
    client.answer("r", Action::Send, Verdict::Refused);
    client.answer("s", Action::Subscribe, Verdict::Unavailable);
    client.allow("t", Action::Send, 30 * SECOND);
    assert_eq!(client.bodies(), ["two"]);
    let (first, second) = (client.take(), client.take());
    assert_eq!(refusal(&first), (json!("forbidden"), json!("/app/rooms/r")));
    let told = (json!("access-unavailable"), json!("/topic/rooms/s"));
    assert_eq!(refusal(&second), told);
    assert_eq!(first.header("receipt-id"), Some("one"));
    assert_eq!(second.header("receipt-id"), Some("sub"));
    assert_ne!(first.header("message-id"), second.header("message-id"));
    assert_eq!(first.header("subscription"), Some("e"));
    // The client takes its subscription back, which it never had, and may try again.
    client.say("UNSUBSCRIBE\nid:s\nreceipt:un\n\n\0");
    assert_eq!(client.take().header("receipt-id"), Some("un"));
    client.say(&subscribe("s", ""));
    client.allow("s", Action::Subscribe, 30 * SECOND);
    client.confirm(1);
    assert_eq!((client.joins.len(), client.closed), (2, None));
    client.say("UNSUBSCRIBE\nid:s\n\n\0UNSUBSCRIBE\nid:s\n\n\0");
    assert_eq!(client.closed, Some(CloseReason::UnknownSubscription));
}

#[test]
fn a_refusal_that_nobody_would_hear_is_an_error() {
    let mut client = asked(&["--refusals", "message"]);
    client.say(&send("r", "one"));
    client.answer("r", Action::Send, Verdict::Refused);
    assert_eq!(client.take().header("code"), Some("forbidden"));
    assert_eq!(client.closed, Some(CloseReason::Forbidden));
}

#[test]
fn other_errors_still_end_the_session() {
    let mut client = asked(&["--refusals", "message"]).listens_to_errors("auto");
    client.say("SEND\ndestination:/nowhere\n\n\0");
    assert_eq!(client.closed, Some(CloseReason::BadDestination));
}

#[test]
fn a_subscription_that_ends_is_told_and_nothing_of_its_room_follows() {
    let mut client = asked(&["--refusals", "message"]).listens_to_errors("auto");
    client.say(&subscribe("r", "ack:client\n"));
    client.allow("r", Action::Subscribe, 30 * SECOND);
    client.confirm(1);
    client.live(1, 1);
    assert_eq!(client.messages(), [1]);
    client.pass(15 * SECOND);
    client.answer("r", Action::Subscribe, Verdict::Refused);
    let told = client.take();
    assert_eq!(
        refusal(&told),
        (json!("forbidden"), json!("/topic/rooms/r"))
    );
    assert_eq!(client.joins.len(), 1, "the room is left");
    client.live(1, 2);
    assert!(client.messages().is_empty());
    // What was delivered may be acknowledged late, and the subscription taken back.
    let id = crate::virtual_client::message_id(1);
    client.say(&format!("ACK\nid:{id}/r\n\n\0UNSUBSCRIBE\nid:r\n\n\0"));
    assert_eq!(client.closed, None);
}

#[test]
fn a_refusal_is_acknowledged_like_any_message() {
    let flags = ["--refusals", "message", "--max-unacknowledged", "2"];
    for mode in ["client", "client-individual"] {
        let mut client = asked(&flags).listens_to_errors(mode);
        for _ in 0..10 {
            client.say(&send("r", "one"));
            client.answer("r", Action::Send, Verdict::Refused);
            let ack = client.take().header("ack").unwrap().to_owned();
            client.say(&format!("ACK\nid:{ack}\n\n\0"));
            assert_eq!(client.closed, None);
        }
        // Who does not acknowledge is told otherwise.
        for _ in 0..3 {
            client.say(&send("r", "one"));
            client.answer("r", Action::Send, Verdict::Refused);
        }
        assert_eq!(client.closed, Some(CloseReason::Forbidden));
    }
}

#[test]
fn nothing_of_a_transaction_is_sent_whose_send_was_refused() {
    let mut client = asked(&["--refusals", "message"]).listens_to_errors("auto");
    client.say(
        "BEGIN\ntransaction:t\n\n\0\
         SEND\ndestination:/app/rooms/r\ntransaction:t\n\none\0\
         SEND\ndestination:/app/rooms/s\ntransaction:t\n\ntwo\0\
         COMMIT\ntransaction:t\nreceipt:done\n\n\0",
    );
    client.allow("r", Action::Send, 30 * SECOND);
    client.answer("s", Action::Send, Verdict::Refused);
    let told = client.take();
    assert_eq!(refusal(&told), (json!("forbidden"), json!("/app/rooms/s")));
    let commit = client.take();
    assert_eq!(refusal(&commit), (json!("forbidden"), Value::Null));
    assert_eq!(commit.header("receipt-id"), Some("done"));
    assert_eq!((client.publishes.len(), client.closed), (0, None));
}

#[test]
fn what_speaks_for_the_application_is_asked_nothing() {
    let auth = ["--auth", "jwt", "--jwt-key", KEY, "--access", "members"];
    let mut client = Client::new(&auth, JOURNALED);
    client.say("CONNECT\naccept-version:1.2\nheart-beat:0,0\n\n\0");
    let who = Identity {
        user: UserName::parse("app").unwrap(),
        expires: None,
        grants: Grants::default(),
        is_backend: true,
    };
    client.session.authenticated(client.now, Ok(who));
    client.say(&send("r", "one"));
    client.say("SEND\ndestination:/user/lee/queue/x\n\ntwo\0");
    assert_eq!(client.bodies(), ["one", "two"]);
    assert_eq!(client.publishes[1].2, ReceiptAfter::Accepted);
    assert_eq!(client.questions, []);
}
