//! A session whose client has to prove who it is, with a virtual clock.

use std::time::Duration;

use gateway::access::Grants;
use gateway::auth::{AuthError, Credentials, Identity, Token};
use gateway::close::CloseReason;
use gateway::transport::TransportName;
use shared::message::UserName;
use shared::stomp::Command;

use crate::virtual_client::{Client, JOURNALED};

const FLAGS: [&str; 6] = [
    "--auth",
    "jwt",
    "--jwt-key",
    "a secret of 32 octets, or of more",
    "--access",
    "open",
];
const CONNECT: &str = "CONNECT\naccept-version:1.2\nAuthorization:Bearer t\nreceipt:c\n\n\0";
const DEADLINE: Duration = Duration::from_secs(10);

fn client() -> Client {
    Client::new(&FLAGS, JOURNALED)
}

fn kim(client: &Client, lasts: Option<Duration>) -> Identity {
    Identity {
        user: UserName::parse("kim").unwrap(),
        expires: lasts.map(|lasts| client.now + lasts),
        grants: Grants::default(),
        is_backend: false,
    }
}

fn answer(client: &mut Client, who: Result<Identity, AuthError>) {
    client.session.authenticated(client.now, who);
    client.collect();
}

/// One that is kim for so long.
fn known(client: &mut Client, lasts: Duration) {
    client.say(CONNECT);
    let who = kim(client, Some(lasts));
    answer(client, Ok(who));
    assert_eq!(client.take().command, Command::Connected);
}

#[test]
fn what_a_client_proves_itself_with_is_authorization_in_any_case_or_else_passcode() {
    for (headers, token) in [
        ("Authorization:Bearer a\npasscode:b", Some("a")),
        ("authorization:bearer a", Some("a")),
        ("AUTHORIZATION:Bearer  a ", Some("a")),
        ("Authorization:Basic a\npasscode:b", Some("b")),
        ("Authorization:Bearer\npasscode:b", Some("b")),
        ("passcode:b", Some("b")),
        ("passcode:", None),
        ("login:kim", None),
        ("X:x", None),
    ] {
        let mut client = client();
        client.say(&format!("CONNECT\naccept-version:1.2\n{headers}\n\n\0"));
        let asked = Credentials {
            login: None,
            token: token.map(Token::new),
        };
        assert_eq!(client.credentials, [asked], "{headers}");
        assert!(client.frames.is_empty());
    }
}

#[test]
fn nothing_happens_before_it_is_known_who_the_client_is() {
    let mut client = client();
    let subscribe = "SUBSCRIBE\nid:s\ndestination:/user/queue/q\nreceipt:1\n\n\0";
    client.say(&format!("{CONNECT}{subscribe}"));
    assert!(!client.session.wants_input());
    client.say("SEND\ndestination:/app/rooms/r\n\nhi\0");
    assert!(client.joins.is_empty() && client.publishes.is_empty() && client.frames.is_empty());

    let who = kim(&client, None);
    answer(&mut client, Ok(who));
    let connected = client.take();
    assert_eq!(connected.header("user-name"), Some("kim"));
    assert_eq!(client.joins.len(), 1);
    client.confirm(0);
    assert_eq!(client.take().header("receipt-id"), Some("1"));
    assert_eq!(client.publishes.len(), 1);
    assert!(client.session.wants_input());
}

#[test]
fn a_login_is_not_who_the_client_is() {
    let mut client = client();
    client.say("CONNECT\naccept-version:1.2\nlogin:root\npasscode:t\n\n\0");
    let who = kim(&client, None);
    answer(&mut client, Ok(who));
    assert_eq!(client.take().header("user-name"), Some("kim"));
}

#[test]
fn who_is_not_let_in_is_told_in_an_error_and_nothing_else_happens() {
    for (error, reason) in [
        (AuthError::Missing, CloseReason::Unauthorized),
        (AuthError::Invalid, CloseReason::Unauthorized),
        (AuthError::Expired, CloseReason::TokenExpired),
        (AuthError::Unavailable, CloseReason::AuthUnavailable),
    ] {
        let mut client = client();
        client.say(&format!("{CONNECT}SEND\ndestination:/app/rooms/r\n\nhi\0"));
        answer(&mut client, Err(error));
        let frame = client.take();
        assert_eq!(frame.command, Command::Error);
        assert_eq!(frame.header("code"), Some(reason.code()));
        assert_eq!(frame.header("receipt-id"), Some("c"));
        assert_eq!(client.closed, Some(reason));
        assert!(client.publishes.is_empty());
    }
}

#[test]
fn an_answer_that_does_not_come_ends_the_session_at_the_connect_deadline() {
    let mut client = client();
    client.pass(DEADLINE / 2);
    client.say(CONNECT);
    assert_eq!(client.session.timeout(), Some(client.now + DEADLINE / 2));
    client.pass(DEADLINE / 2);
    assert_eq!(client.closed, Some(CloseReason::AuthUnavailable));
    // It comes after all.
    let who = kim(&client, None);
    client.session.authenticated(client.now, Ok(who));
    assert!(client.session.poll().is_none());
}

#[test]
fn a_server_that_goes_away_does_not_wait_for_the_answer() {
    let mut client = client();
    client.say(CONNECT);
    client.session.drain();
    client.collect();
    assert_eq!(client.closed, Some(CloseReason::Restart));
    let who = kim(&client, None);
    answer(&mut client, Ok(who));
    assert!(client.frames.is_empty());
}

#[test]
fn a_session_ends_when_its_token_does_whatever_its_transport() {
    for transport in [TransportName::WebSocket, TransportName::Xhr] {
        let mut client = Client::through(transport, &FLAGS, JOURNALED);
        let lasts = Duration::from_secs(20);
        known(&mut client, lasts);
        let end = client.now + lasts;
        assert!(client.session.timeout().is_some_and(|due| due <= end));
        client.pass(lasts - Duration::from_millis(1));
        assert_eq!(client.closed, None);
        client.pass(Duration::from_millis(1));
        let error = client.take();
        assert_eq!(error.header("code"), Some("token-expired"));
        assert_eq!(client.closed, Some(CloseReason::TokenExpired));
    }
}

#[test]
fn a_token_that_ends_while_the_client_leaves_does_not_cost_its_receipts() {
    let mut client = client();
    known(&mut client, Duration::from_secs(1));
    client.say("SEND\ndestination:/app/rooms/r\nreceipt:1\n\nhi\0DISCONNECT\nreceipt:2\n\n\0");
    client.pass(Duration::from_secs(2));
    client.accept(1);
    assert_eq!(client.take().header("receipt-id"), Some("1"));
    assert_eq!(client.take().header("receipt-id"), Some("2"));
    assert_eq!(client.closed, Some(CloseReason::ClientDisconnected));
}

#[test]
fn a_second_answer_changes_nothing() {
    let mut client = client();
    known(&mut client, Duration::from_secs(1));
    answer(&mut client, Err(AuthError::Invalid));
    let other = Identity {
        user: UserName::parse("lee").unwrap(),
        ..kim(&client, None)
    };
    answer(&mut client, Ok(other));
    assert!(client.frames.is_empty() && client.closed.is_none());
    client.pass(Duration::from_secs(1));
    assert_eq!(client.closed, Some(CloseReason::TokenExpired));
}
