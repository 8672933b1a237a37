//! Who may do what in which room, tried by somebody who may not, over real sockets.

pub(crate) mod application;
mod callback;
mod live;
mod members;
mod refusals;
mod rooms;

use std::collections::BTreeSet;

use harness::token::Issuer;
use harness::{StompClient, StompFailure, StompOptions};
use serde_json::{Value, json};
use shared::stomp::{Command, Frame};

use crate::running::{Backend, Running};

/// A gateway that knows its users by tokens.
pub(crate) struct Site {
    pub(crate) issuer: Issuer,
    pub(crate) gateway: Running,
    pub(crate) backend: Backend,
}

impl Site {
    pub(crate) async fn new(backend: Backend, flags: &[&str]) -> Self {
        let issuer = Issuer::hs256();
        let gateway = backend.gateway(&[&issuer.flags(), flags].concat()).await;
        Self {
            issuer,
            gateway,
            backend,
        }
    }

    /// A client whose token claims this.
    pub(crate) async fn client(&self, claims: Value) -> StompClient {
        let bearer = format!("Bearer {}", self.issuer.token(claims));
        let options = StompOptions {
            headers: vec![("Authorization".into(), bearer)],
            ..StompOptions::default()
        };
        StompClient::connect(&self.gateway.url(), options)
            .await
            .unwrap()
    }

    /// Tries everything in a room, each on a connection of its own, and says what could be done. What
    /// could not was refused in so many words.
    pub(crate) async fn tries(&self, claims: &Value, room: &str) -> BTreeSet<&'static str> {
        let mut done = BTreeSet::new();
        let topic = format!("/topic/rooms/{room}");
        for (what, more) in [("subscribe", vec![]), ("replay", vec![("history", "5")])] {
            let mut client = self.client(claims.clone()).await;
            if is_done(client.subscribe("s", &topic, &more).await.map(drop)) {
                done.insert(what);
            }
        }
        let mut client = self.client(claims.clone()).await;
        let frame = Frame::new(Command::Send)
            .with("destination", &format!("/app/rooms/{room}"))
            .with("receipt", "sent")
            .with_body("hi");
        client.send_frame(frame).await.unwrap();
        if is_done(client.receipt("sent").await.map(drop)) {
            done.insert("send");
        }
        let bearer = format!(
            "Authorization: Bearer {}",
            self.issuer.token(claims.clone())
        );
        let path = format!("/api/rooms/{room}/messages");
        let got = self.gateway.ask("GET", &path, &[&bearer], b"").await;
        let posted = self
            .gateway
            .post_with(room, "", &[&bearer], &json!({"body": "hi"}))
            .await;
        for (what, answer, expected) in [("get", got, 200), ("post", posted, 201)] {
            if answer.status == expected {
                done.insert(what);
            } else {
                let said = (answer.status, answer.code());
                let refusals = [(403, "forbidden"), (503, "access-unavailable")];
                assert!(refusals.contains(&(said.0, &*said.1)), "{what}: {said:?}");
            }
        }
        done
    }

    /// The value of a counter.
    pub(crate) fn counted(&self, outcome: &str) -> u64 {
        let decisions = &self.gateway.metrics.gateway.access_decisions;
        decisions.with_label_values(&[outcome]).get()
    }
}

/// Whether it was done; else it was refused.
fn is_done(outcome: Result<(), StompFailure>) -> bool {
    let Err(failure) = outcome else {
        return true;
    };
    let StompFailure::Unexpected { got, .. } = failure else {
        panic!("{failure}");
    };
    assert_eq!(got.command, Command::Error);
    let code = got.header("code").unwrap();
    assert!(
        ["forbidden", "access-unavailable"].contains(&code),
        "{got:?}"
    );
    false
}

pub(crate) const READS: [&str; 3] = ["get", "replay", "subscribe"];
pub(crate) const WRITES: [&str; 2] = ["post", "send"];

pub(crate) fn set(done: &[&'static str]) -> BTreeSet<&'static str> {
    done.iter().copied().collect()
}

pub(crate) fn everything() -> BTreeSet<&'static str> {
    set(&[&READS[..], &WRITES].concat())
}
