//! `--access claims`: which rooms a pattern gives.

use harness::StompFailure;
use serde_json::json;

use super::{READS, Site, WRITES, everything, set};
use crate::running::backend;

#[tokio::test]
async fn a_claim_says_who_may_do_what() {
    let site = Site::new(backend(&[]).await, &[]).await;
    let _storing = site.backend.storing().await;
    let kim = json!({"sub": "kim", "rooms": {"team-*": "rw", "lobby": "r", "box": "w"}});
    for (room, expected) in [
        ("team-a", everything()),
        ("team-", everything()),
        ("lobby", set(&READS)),
        ("box", set(&WRITES)),
        ("team", set(&[])),
        ("xteam-a", set(&[])),
        ("lobby2", set(&[])),
        ("Lobby", set(&[])),
    ] {
        assert_eq!(site.tries(&kim, room).await, expected, "{room}");
    }
    assert!(site.counted("granted") > 0 && site.counted("refused") > 0);
}

#[tokio::test]
async fn a_token_that_claims_no_rooms_gives_none() {
    let site = Site::new(backend(&[]).await, &[]).await;
    for claims in [json!({"sub": "kim"}), json!({"sub": "kim", "rooms": {}})] {
        assert_eq!(site.tries(&claims, "lobby").await, set(&[]));
    }
    // Another claim is not the one that counts.
    let claims = json!({"sub": "kim", "scope": {"*": "rw"}, "Rooms": {"*": "rw"}});
    assert_eq!(site.tries(&claims, "lobby").await, set(&[]));
}

#[tokio::test]
async fn a_token_with_a_malformed_claim_is_not_valid() {
    let site = Site::new(backend(&[]).await, &[]).await;
    for rooms in [
        json!(["*"]),
        json!("*"),
        json!(null),
        json!({"*": "admin"}),
        json!({"lobby": "r", "*": true}),
        json!({"a b": "r"}),
    ] {
        let token = site.issuer.token(json!({"sub": "kim", "rooms": rooms}));
        let bearer = format!("Authorization: Bearer {token}");
        let path = "/api/rooms/lobby/messages";
        let answer = site.gateway.ask("GET", path, &[&bearer], b"").await;
        assert_eq!(answer.status, 401, "{rooms}");
    }
}

#[tokio::test]
async fn a_star_gives_nobodys_queue_and_queues_are_given_by_name() {
    let site = Site::new(backend(&[]).await, &[]).await;
    let _storing = site.backend.storing().await;
    let mut lee = site.client(json!({"sub": "lee"})).await;
    lee.subscribe("q", "/user/queue/x", &[("history", "5")])
        .await
        .unwrap();
    for rooms in [
        json!({"*": "rw"}),
        json!({"*/*": "rw", "user*": "rw", "user/*": "rw"}),
    ] {
        let mut kim = site.client(json!({"sub": "kim", "rooms": rooms})).await;
        let refused = kim
            .send("/user/lee/queue/x", "no", &[("receipt", "r")])
            .await;
        let refused = match refused {
            Ok(()) => kim.receipt("r").await.map(drop),
            failed => failed,
        };
        let Err(StompFailure::Unexpected { got, .. }) = refused else {
            panic!("{rooms}");
        };
        assert_eq!(got.header("code"), Some("forbidden"));
    }
    let rooms = json!({"user/*/queue/*": "w"});
    let mut kim = site.client(json!({"sub": "kim", "rooms": rooms})).await;
    kim.send("/user/lee/queue/x", "yes", &[]).await.unwrap();
    assert_eq!(lee.message().await.unwrap().body, "yes");
}

#[tokio::test]
async fn nobody_reads_anybody_elses_queue_whatever_the_claim() {
    let site = Site::new(backend(&[]).await, &[]).await;
    let _storing = site.backend.storing().await;
    let rooms = json!({"*": "rw", "user/*/*/*": "rw", "user/lee/queue/x": "rw"});
    let claims = json!({"sub": "kim", "rooms": rooms});
    let bearer = format!(
        "Authorization: Bearer {}",
        site.issuer.token(claims.clone())
    );
    for destination in [
        "/user/lee/queue/x",
        "/topic/rooms/user/lee/queue/x",
        "/topic/rooms/user%2Flee%2Fqueue%2Fx",
        "/user/queue/../../lee/queue/x",
        "/user/%2E%2E/lee/queue/x",
    ] {
        let mut kim = site.client(claims.clone()).await;
        let refused = kim.subscribe("s", destination, &[]).await;
        assert!(
            matches!(refused, Err(StompFailure::Unexpected { .. })),
            "{destination}"
        );
    }
    for room in [
        "user%2Flee%2Fqueue%2Fx",
        "user/lee/queue/x",
        "..%2Fuser%2Flee%2Fqueue%2Fx",
    ] {
        let path = format!("/api/rooms/{room}/messages");
        let answer = site.gateway.ask("GET", &path, &[&bearer], b"").await;
        assert!(
            [400, 404].contains(&answer.status),
            "{room}: {}",
            answer.status
        );
    }
}
