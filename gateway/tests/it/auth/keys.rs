//! Keys that change, or cannot be had, while sessions live.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::token::Behaviour;
use harness::{Issuer, KeyServer, Process, Redis, StompClient, until};
use serde_json::json;

use crate::auth::bearer;
use crate::running::backend;

const QUICK: [&str; 2] = ["--jwt-jwks-refresh", "1s"];

#[tokio::test]
async fn a_new_key_is_taken_and_an_old_one_dropped_while_sessions_live() {
    let (old, new) = (Issuer::rs256().named("old"), Issuer::es256().named("new"));
    let keys = KeyServer::start(&[&old]).await;
    let backend = backend(&[]).await;
    let _storing = backend.storing().await;
    let flags = [&keys.flags()[..], &QUICK, &["--access", "open"]].concat();
    let gateway = backend.gateway(&flags).await;
    let mut client = gateway.known(&old.user("kim")).await.unwrap();
    client.subscribe("s", "/topic/rooms/r", &[]).await.unwrap();

    keys.publish(&[&old, &new]);
    until("the new key to be known", async || {
        gateway.user_of(&new.user("lee")).await == Ok("lee".into())
    })
    .await;
    assert_eq!(gateway.user_of(&old.user("mia")).await, Ok("mia".into()));
    keys.publish(&[&new]);
    until("the old key to be dropped", async || {
        gateway.user_of(&old.user("mia")).await == Err("unauthorized".into())
    })
    .await;

    let mut lee = gateway.known(&new.user("lee")).await.unwrap();
    lee.send("/app/rooms/r", "hi", &[]).await.unwrap();
    let message = client.message().await.unwrap();
    assert_eq!(message.header("sender"), Some("lee"));
}

#[tokio::test]
async fn tokens_with_unknown_keys_do_not_make_the_gateway_ask_the_issuer_again_and_again() {
    let (known, stranger) = (Issuer::es256().named("a"), Issuer::es256());
    let keys = KeyServer::start(&[&known]).await;
    let backend = backend(&[]).await;
    let gateway = backend.gateway(&keys.flags()).await;
    let flood = (0..200).map(|nth| {
        let token = stranger.sign(&json!({"alg": "ES256", "kid": nth.to_string()}), json!({}));
        let gateway = &gateway;
        async move { gateway.user_of(&token).await }
    });
    let answers = futures_util::future::join_all(flood).await;
    assert!(answers.iter().all(Result::is_err));
    // It read them when it started, a moment ago.
    assert_eq!(keys.requests(), 1);
    assert_eq!(gateway.user_of(&known.user("kim")).await, Ok("kim".into()));
}

#[tokio::test]
async fn keys_are_kept_while_their_server_fails_hangs_or_never_stops_talking() {
    let (known, unknown) = (Issuer::eddsa().named("a"), Issuer::eddsa().named("b"));
    let keys = KeyServer::start(&[&known]).await;
    let backend = backend(&[]).await;
    let gateway = backend.gateway(&[&keys.flags()[..], &QUICK].concat()).await;
    let failed = || {
        let refreshes = &gateway.metrics.gateway.key_refreshes;
        refreshes.with_label_values(&["failed"]).get()
    };
    let private = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "", "d": ""}]});
    for behaviour in [
        Behaviour::Other(500, String::new()),
        Behaviour::Other(200, "<html>".into()),
        Behaviour::Other(200, json!({"keys": []}).to_string()),
        Behaviour::Other(200, json!({"keys": [Issuer::hs256().jwk()]}).to_string()),
        Behaviour::Other(200, private.to_string()),
        Behaviour::Flood,
        Behaviour::Hang,
    ] {
        let before = failed();
        keys.behave(behaviour.clone());
        until("an attempt to fail", async || failed() > before).await;
        let user = gateway.user_of(&known.user("kim")).await;
        assert_eq!(user, Ok("kim".into()), "{behaviour:?}");
        let asked = Instant::now();
        let user = gateway.user_of(&unknown.user("kim")).await;
        assert_eq!(user, Err("auth-unavailable".into()), "{behaviour:?}");
        assert!(asked.elapsed() < Duration::from_secs(30), "{behaviour:?}");
    }
    keys.behave(Behaviour::Answer);
    keys.publish(&[&unknown]);
    until("the keys to be read again", async || {
        gateway.user_of(&unknown.user("kim")).await.is_ok()
    })
    .await;
}

/// A gateway's own process with these flags, its URL, and the folder of its store.
async fn started(redis: &Redis, flags: &[&str]) -> (Process, String, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let (broker, store) = (redis.url(), format!("sqlite:{}/x.db", dir.path().display()));
    let own = ["--broker", &broker, "--store", &store, "--access", "open"];
    let anywhere = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let process = Process::spawn_at(
        Path::new(env!("CARGO_BIN_EXE_gateway")),
        [&own, &anywhere[..], flags].concat(),
    );
    let url = format!("ws://{}/ws", process.ready().await);
    (process, url, dir)
}

#[tokio::test]
async fn key_files_are_read_anew_on_sighup_and_bad_ones_change_nothing() {
    let redis = Redis::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.pem");
    let (old, new) = (Issuer::es256(), Issuer::rs256());
    std::fs::write(&file, old.public()).unwrap();
    let flags = ["--auth", "jwt", "--jwt-key-file", file.to_str().unwrap()];
    let (process, url, _dir) = started(&redis, &flags).await;
    let is_known = async |issuer: &Issuer| {
        StompClient::connect(&url, bearer(&issuer.user("kim")))
            .await
            .is_ok()
    };
    assert!(is_known(&old).await && !is_known(&new).await);

    std::fs::write(&file, new.public()).unwrap();
    process.hang_up().await;
    until("the new key to be read", async || is_known(&new).await).await;
    assert!(!is_known(&old).await);

    std::fs::write(&file, new.private()).unwrap();
    process.hang_up().await;
    until("the bad file to be refused", async || {
        process.output().contains("private key")
    })
    .await;
    assert!(is_known(&new).await);
}

#[test]
fn keys_that_cannot_be_used_end_the_process_with_one_line_that_does_not_show_them() {
    let rsa = Issuer::rs256();
    let private = rsa.private();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.pem");
    std::fs::write(&file, &private).unwrap();
    let missing = folder.path().join("none");
    let ok = "a secret of 32 octets, or of more";
    let jwt = |rest: &[&'static str]| [&["--auth", "jwt"], rest].concat();
    for (args, code, hint) in [
        (jwt(&[]), 64, "--jwt-key"),
        (vec!["--jwt-key", ok], 64, "--auth jwt"),
        (jwt(&["--jwt-key", "s3cret"]), 64, "at least 32"),
        (
            [&jwt(&["--jwt-key"])[..], &[&private]].concat(),
            64,
            "private key",
        ),
        (
            [&jwt(&["--jwt-key-file"])[..], &[file.to_str().unwrap()]].concat(),
            64,
            "private key",
        ),
        (
            [&jwt(&["--jwt-key-file"])[..], &[missing.to_str().unwrap()]].concat(),
            64,
            "No such",
        ),
        (
            jwt(&["--jwt-jwks-url", "http://id.example/keys"]),
            64,
            "https://",
        ),
        (
            jwt(&["--jwt-jwks-url", "https://kim:s3cret@id.example/"]),
            64,
            "password",
        ),
        (
            jwt(&["--jwt-key", ok, "--jwt-leeway", "1h"]),
            64,
            "--jwt-leeway",
        ),
        (
            jwt(&["--jwt-key", ok, "--jwt-query", "limit"]),
            64,
            "--jwt-query",
        ),
        (
            jwt(&["--jwt-key", ok, "--jwt-cookie", "a b"]),
            64,
            "--jwt-cookie",
        ),
        (
            jwt(&[
                "--jwt-key",
                ok,
                "--jwt-cookie",
                "a",
                "--allowed-origin",
                "*",
            ]),
            64,
            "--allowed-origin *",
        ),
    ] {
        let store = format!("sqlite:{}", folder.path().join("x.db").display());
        let output = Command::new(env!("CARGO_BIN_EXE_gateway"))
            .args(&args)
            .args(["--broker", "redis://127.0.0.1:1", "--store", &store])
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--connect-timeout", "300ms"])
            .env("RUST_LOG", "off")
            .output()
            .unwrap();
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {line}");
        assert!(line.contains(hint), "{args:?}: {line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(
            !line.contains("s3cret") && !line.contains("BEGIN PRIVATE"),
            "{line}"
        );
    }
}

#[tokio::test]
async fn keys_that_cannot_be_had_at_start_end_the_process_as_other_servers_do() {
    let redis = Redis::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (broker, store) = (
        redis.url(),
        format!("sqlite:{}/x.db", folder.path().display()),
    );
    let dead = format!("http://127.0.0.1:{}/keys?key=s3cret", harness::port::free());
    let args = [
        "--broker",
        &broker,
        "--store",
        &store,
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
        "--connect-timeout",
        "1s",
        "--auth",
        "jwt",
        "--jwt-jwks-url",
        &dead,
    ];
    let mut process = Process::spawn_at(Path::new(env!("CARGO_BIN_EXE_gateway")), args);
    assert_eq!(process.wait().await.code(), Some(69));
    let output = process.output();
    assert!(
        output.contains("--jwt-jwks-url: the keys at http://127.0.0.1"),
        "{output}"
    );
    assert!(!output.contains("s3cret"), "{output}");
}
