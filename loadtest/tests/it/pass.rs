//! Users who prove who they are, over TLS, to the real server.

use std::path::Path;

use harness::{Authority, Issuer, Process};
use serde_json::json;

/// A server that wants tokens and speaks TLS, and its URL.
async fn server(folder: &Path, authority: &Authority, issuer: &Issuer) -> (Process, String) {
    let certified = authority.certify("server", &["127.0.0.1"]);
    let mut flags = [
        "--data-dir",
        folder.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
        "--tls-cert",
        certified.certificate.to_str().unwrap(),
        "--tls-key",
        certified.key.to_str().unwrap(),
    ]
    .to_vec();
    flags.extend(issuer.flags());
    let server = Process::spawn("roomcast", flags);
    let url = format!("wss://{}/ws", server.ready().await);
    (server, url)
}

/// Runs a small load; its exit code, and what it said.
async fn load(load: &str, flags: &[&str]) -> (Option<i32>, String) {
    let mut loadtest = Process::spawn("loadtest", [load].iter().chain(flags));
    let status = loadtest.wait().await;
    (status.code(), loadtest.output())
}

#[tokio::test]
async fn users_with_tokens_are_loaded_over_tls_and_strangers_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, issuer) = (Authority::new(), Issuer::hs256());
    let (_server, url) = server(folder.path(), &authority, &issuer).await;
    let ca = authority.file();
    let small = ["--gateway", &url, "--users", "4", "--rate", "20"];
    let trusting = [
        &small[..],
        &["--ca", ca.to_str().unwrap(), "--duration", "1s"],
    ]
    .concat();
    let secret = ["--token-secret", issuer.public()];

    let flags = [&trusting[..], &secret, &["--history-check"]].concat();
    let (code, output) = load("rooms", &flags).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(!output.contains(issuer.public()), "{output}");

    let chaos = ["--gateway", &url, "--rooms", "1", "--duration", "1s"];
    let chaos = [&chaos[..], &["--ca", ca.to_str().unwrap()], &secret].concat();
    let (code, output) = load("chaos", &chaos).await;
    assert_eq!(code, Some(0), "{output}");

    // Each may only what its token says, so that rooms of others stay unread.
    let file = folder.path().join("tokens");
    let rooms = json!({"load-*-r*": "rw"});
    let tokens = (0..4).map(|n| issuer.token(json!({"sub": format!("user {n}"), "rooms": rooms})));
    std::fs::write(&file, tokens.collect::<Vec<_>>().join("\n")).unwrap();
    let given = ["--token-file", file.to_str().unwrap(), "--history-check"];
    let (code, output) = load("rooms", &[&trusting[..], &given].concat()).await;
    assert_eq!(code, Some(0), "{output}");

    for (flags, code, names) in [
        (trusting.clone(), 69, "unauthorized"),
        (
            [&trusting[..], &["--token-secret", &"x".repeat(32)]].concat(),
            69,
            "unauthorized",
        ),
        ([&small[..], &secret].concat(), 64, "--ca"),
        (
            [&trusting[..], &given, &["--users", "5"]]
                .concat()
                .into_iter()
                .filter(|flag| *flag != "4")
                .collect::<Vec<_>>(),
            64,
            "--users",
        ),
    ] {
        let (ended, output) = load("rooms", &flags).await;
        assert_eq!(ended, Some(code), "{output}");
        assert_eq!(output.lines().count(), 1, "{output}");
        assert!(output.contains(names), "{output}");
        assert!(!output.contains(issuer.public()), "{output}");
    }

    let other = Authority::new();
    let stranger = other.file();
    let flags = [&small[..], &["--ca", stranger.to_str().unwrap()], &secret].concat();
    let (code, output) = load("rooms", &flags).await;
    assert_eq!(code, Some(69), "{output}");
    assert!(output.contains("certificate"), "{output}");
}

#[tokio::test]
async fn what_lets_nobody_in_is_refused_as_a_flag() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    let path = file.to_str().unwrap();
    let issuer = Issuer::hs256();
    let twice = [issuer.user("kim"), issuer.user("kim")].join("\n");
    for (flag, text, names) in [
        ("--token-file", "", "--users"),
        ("--token-file", "no token", "line 1"),
        ("--token-file", &twice, "line 2"),
        ("--ca", "", "no certificate"),
        ("--ca", "-----BEGIN CERTIFICATE-----\nx", "--ca"),
    ] {
        std::fs::write(&file, text).unwrap();
        let flags = [
            "--gateway",
            "ws://127.0.0.1:1/ws",
            "--users",
            "2",
            flag,
            path,
        ];
        let (code, output) = load("rooms", &flags).await;
        assert_eq!(code, Some(64), "{flag} {text}: {output}");
        assert_eq!(output.lines().count(), 1, "{output}");
        assert!(output.contains(names), "{output}");
    }
    for flags in [
        &["rooms", "--gateway", "ws://a/ws", "--token-secret", "short"][..],
        &["rooms", "--gateway", "wss://a/ws"],
        &[
            "chaos",
            "--token-secret",
            "0123456789abcdef0123456789abcdef",
        ],
    ] {
        let (code, output) = load(flags[0], &flags[1..]).await;
        assert_eq!(code, Some(64), "{flags:?}: {output}");
        assert_eq!(output.lines().count(), 1, "{output}");
    }
}
