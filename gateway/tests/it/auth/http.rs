//! Who may ask over HTTP, and in whose name messages are posted.

use harness::{Issuer, until};
use serde_json::json;

use crate::running::backend;

const PATH: &str = "/api/rooms/r/messages";

fn header(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

#[tokio::test]
async fn who_brings_no_good_token_is_told_so_as_http_does_and_gets_nothing() {
    let issuer = Issuer::rs256();
    let backend = backend(&[]).await;
    let gateway = backend.gateway(&issuer.flags()).await;
    let expired = header(&issuer.token(json!({"sub": "kim", "exp": 1})));
    let forged = header(&Issuer::rs256().user("kim"));
    let message = json!({"body": "x"});
    for (given, code, challenge) in [
        ("X: x", "unauthorized", "Bearer"),
        (
            "Authorization: Basic a2ltOmtpbQ==",
            "unauthorized",
            "Bearer",
        ),
        (&forged, "unauthorized", "Bearer error=\"invalid_token\""),
        (
            &expired,
            "token-expired",
            "Bearer error=\"invalid_token\", error_",
        ),
    ] {
        let read = gateway.ask("GET", PATH, &[given], b"").await;
        let sent = gateway.post_with("r", "", &[given], &message).await;
        for answer in [read, sent] {
            assert_eq!((answer.status, &*answer.code()), (401, code), "{given}");
            let told = answer.header("WWW-Authenticate").unwrap();
            assert!(told.starts_with(challenge), "{told}");
        }
        // A stranger is not told whether what it asks for makes sense.
        let odd = gateway
            .ask("GET", "/api/rooms/%00/messages?x=1", &[given], b"")
            .await;
        assert_eq!(odd.status, 401);
    }
    assert_eq!(gateway.metrics.gateway.messages_received.get(), 0);
    let failures = &gateway.metrics.gateway.auth_failures;
    assert_eq!(failures.with_label_values(&["expired"]).get(), 3);
    assert_eq!(failures.with_label_values(&["missing"]).get(), 6);
}

#[tokio::test]
async fn the_sender_of_a_posted_message_is_the_tokens_user_and_only_a_back_end_names_another() {
    let issuer = Issuer::es256();
    let backend = backend(&[]).await;
    let _storing = backend.storing().await;
    let flags = [&issuer.flags()[..], &["--access", "open"]].concat();
    let gateway = backend.gateway(&flags).await;
    let kim = header(&issuer.user("kim"));
    let app = header(&issuer.token(json!({"sub": "app", "backend": true})));
    let post = async |given: &str, message| gateway.post_with("r", "", &[given], &message).await;

    post(&kim, json!({"body": "1"})).await.created();
    post(&kim, json!({"body": "2", "sender": "kim"}))
        .await
        .created();
    let refused = post(&kim, json!({"body": "no", "sender": "lee"})).await;
    assert_eq!((refused.status, &*refused.code()), (403, "forbidden"));
    post(&app, json!({"body": "3", "sender": "lee"}))
        .await
        .created();
    post(&app, json!({"body": "4"})).await.created();

    until("all to be stored", async || {
        let page = gateway.ask("GET", PATH, &[&kim], b"").await.json();
        page["messages"].as_array().unwrap().len() == 4
    })
    .await;
    let page = gateway.ask("GET", PATH, &[&kim], b"").await.json();
    let senders: Vec<_> = page["messages"].as_array().unwrap().iter().collect();
    let senders: Vec<_> = senders
        .iter()
        .map(|one| one["sender"].as_str().unwrap())
        .collect();
    assert_eq!(senders, ["kim", "kim", "lee", "app"]);
}

#[tokio::test]
async fn a_token_in_the_query_is_no_parameter_of_the_question() {
    let issuer = Issuer::hs256();
    let backend = backend(&[]).await;
    let _storing = backend.storing().await;
    let flags = ["--jwt-query", "access_token", "--access", "open"];
    let gateway = backend
        .gateway(&[&issuer.flags()[..], &flags].concat())
        .await;
    let token = issuer.user("kim");
    let path = format!("{PATH}?access_token={token}&limit=5");
    assert_eq!(gateway.ask("GET", &path, &[], b"").await.status, 200);
    let query = format!("?receipt=accepted&access_token={token}");
    let sent = gateway
        .post_with("r", &query, &[], &json!({"body": "x"}))
        .await;
    assert_eq!(sent.status, 201, "{}", sent.body);
    let path = format!("{PATH}?other={token}");
    assert_eq!(gateway.ask("GET", &path, &[], b"").await.status, 401);
}

#[tokio::test]
async fn a_large_body_without_a_token_is_read_to_its_end_so_that_the_refusal_arrives() {
    let issuer = Issuer::hs256();
    let backend = backend(&[]).await;
    let gateway = backend.gateway(&issuer.flags()).await;
    let message = json!({"body": "x".repeat(1 << 20)});
    let refused = gateway.post_with("r", "", &[], &message).await;
    assert_eq!(refused.status, 401);
}
