//! Tokens that somebody else than the issuer has made, or made for something else.

use harness::token::{hs256, now, unsigned};
use harness::{Issuer, KeyServer};
use serde_json::{Value, json};

use crate::running::{Running, backend};

const UNAUTHORIZED: &str = "unauthorized";

/// A gateway that trusts this issuer, for the audience `chat` of `https://id.example`.
async fn strict(issuer: &Issuer) -> (Running, crate::running::Backend) {
    let backend = backend(&[]).await;
    let rules = [
        "--jwt-audience",
        "chat",
        "--jwt-issuer",
        "https://id.example",
    ];
    let flags = [&issuer.flags()[..], &rules].concat();
    (backend.gateway(&flags).await, backend)
}

fn claims(change: Value) -> Value {
    let mut claims = json!({"sub": "kim", "aud": "chat", "iss": "https://id.example"});
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

#[tokio::test]
async fn every_kind_of_key_lets_in_whom_it_has_signed_and_nobody_else() {
    for make in [Issuer::hs256, Issuer::rs256, Issuer::es256, Issuer::eddsa] {
        let (issuer, stranger) = (make(), make());
        let (gateway, _backend) = strict(&issuer).await;
        let good = issuer.token(claims(json!({})));
        assert_eq!(gateway.user_of(&good).await, Ok("kim".into()));
        let (message, signature) = good.rsplit_once('.').unwrap();
        let root = unsigned(&json!({"alg": "HS256"}), claims(json!({"sub": "root"})));
        for forged in [
            stranger.token(claims(json!({}))),
            // Another's claims under a good signature.
            format!("{}.{signature}", root.clone()),
            format!("{message}.{}", signature.chars().rev().collect::<String>()),
            format!("{message}."),
            message.to_owned(),
        ] {
            assert_eq!(
                gateway.user_of(&forged).await,
                Err(UNAUTHORIZED.into()),
                "{forged}"
            );
        }
        let failures = &gateway.metrics.gateway.auth_failures;
        assert_eq!(failures.with_label_values(&["invalid"]).get(), 5);
    }
}

#[tokio::test]
async fn a_token_that_says_by_which_algorithm_or_key_it_is_to_be_checked_is_not_believed() {
    let issuer = Issuer::rs256();
    let (gateway, _backend) = strict(&issuer).await;
    let own = Issuer::es256();
    let secret = Issuer::hs256();
    let published = KeyServer::start(&[&own]).await;
    let with = |alg: &str, name: &str, value: Value| json!({"alg": alg, name: value});
    let none = unsigned(&json!({"alg": "none"}), claims(json!({})));
    let as_secret = unsigned(&json!({"alg": "HS256"}), claims(json!({})));
    for forged in [
        format!("{none}."),
        format!("{}.", unsigned(&json!({"alg": "NonE"}), claims(json!({})))),
        format!("{}.", unsigned(&json!({}), claims(json!({})))),
        // The public key is no secret, or whoever has it could sign.
        hs256(&as_secret, issuer.public().as_bytes()),
        hs256(&as_secret, issuer.public().trim_end().as_bytes()),
        hs256(&as_secret, b""),
        // Keys that come along are the sender's own.
        own.sign(&with("ES256", "jwk", own.jwk()), claims(json!({}))),
        secret.sign(&with("HS256", "jwk", secret.jwk()), claims(json!({}))),
        own.sign(
            &with("ES256", "jku", json!(published.url())),
            claims(json!({})),
        ),
        own.sign(
            &with("ES256", "x5u", json!(published.url())),
            claims(json!({})),
        ),
        own.sign(
            &with("ES256", "kid", json!("../../dev/null")),
            claims(json!({})),
        ),
        own.sign(&with("RS256", "kid", json!("x")), claims(json!({}))),
        // It is the issuer's, by an algorithm that is not the key's.
        issuer.sign(&json!({"alg": "RS512"}), claims(json!({}))),
        issuer.sign(&json!({"alg": "PS256"}), claims(json!({}))),
        // It wants something that nobody here knows.
        issuer.sign(&with("RS256", "crit", json!(["exp"])), claims(json!({}))),
    ] {
        assert_eq!(
            gateway.user_of(&forged).await,
            Err(UNAUTHORIZED.into()),
            "{forged}"
        );
    }
    assert_eq!(
        published.requests(),
        0,
        "what a token names is never fetched"
    );
    let good = issuer.sign(
        &with("RS256", "jku", json!(published.url())),
        claims(json!({})),
    );
    assert_eq!(gateway.user_of(&good).await, Ok("kim".into()));
}

#[tokio::test]
async fn a_token_counts_only_here_only_now_and_only_for_somebody() {
    let issuer = Issuer::es256();
    let (gateway, _backend) = strict(&issuer).await;
    for (change, code) in [
        (json!({"exp": now() - 31}), "token-expired"),
        (json!({"exp": null}), UNAUTHORIZED),
        (json!({"exp": "tomorrow"}), UNAUTHORIZED),
        (json!({"nbf": now() + 60}), UNAUTHORIZED),
        (json!({"aud": "mail"}), UNAUTHORIZED),
        (json!({"aud": ["mail", "news"]}), UNAUTHORIZED),
        (json!({"aud": null}), UNAUTHORIZED),
        (json!({"iss": "https://evil.example"}), UNAUTHORIZED),
        (json!({"iss": null}), UNAUTHORIZED),
        (json!({"sub": null}), UNAUTHORIZED),
        (json!({"sub": ""}), UNAUTHORIZED),
        (json!({"sub": "kim\u{0}"}), UNAUTHORIZED),
        (json!({"sub": "kim\r\nuser-name:root"}), UNAUTHORIZED),
        (json!({"sub": "x".repeat(129)}), UNAUTHORIZED),
        (json!({"sub": ["kim"]}), UNAUTHORIZED),
        // Whose time is up and who is nobody here learns nothing of the former.
        (json!({"exp": now() - 31, "aud": "mail"}), UNAUTHORIZED),
    ] {
        let token = issuer.token(claims(change.clone()));
        assert_eq!(gateway.user_of(&token).await, Err(code.into()), "{change}");
    }
    let late = issuer.token(claims(json!({"exp": now() - 10, "nbf": now() + 10})));
    assert_eq!(
        gateway.user_of(&late).await,
        Ok("kim".into()),
        "clocks differ"
    );
}

#[tokio::test]
async fn what_is_no_token_at_all_is_refused_whatever_its_size() {
    let issuer = Issuer::hs256();
    let backend = backend(&[]).await;
    let room = ["--max-header-bytes", "20KiB"];
    let gateway = backend
        .gateway(&[&issuer.flags()[..], &room].concat())
        .await;
    let large = issuer.token(claims(json!({"pad": "x".repeat(10_000)})));
    for token in [
        "x",
        "null",
        "..",
        "a.b.c",
        "Bearer",
        "\u{1}\u{2}",
        "토큰",
        "e30.e30.e30",
        &large,
        &".".repeat(9_000),
        &"[".repeat(9_000),
    ] {
        let user = gateway.user_of(token).await;
        assert_eq!(user, Err(UNAUTHORIZED.into()), "{} octets", token.len());
    }
    let good = issuer.token(claims(json!({})));
    assert_eq!(gateway.user_of(&good).await, Ok("kim".into()));
}
