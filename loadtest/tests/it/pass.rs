//! How users get in: whom they trust, and the tokens that they are given.

use std::path::Path;

use harness::{Authority, Issuer, Process};

/// A server that speaks TLS, and its URL.
async fn server(folder: &Path, authority: &Authority) -> (Process, String) {
    let certified = authority.certify("server", &["127.0.0.1"]);
    let flags = [
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
    ];
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
async fn a_load_goes_over_tls_and_only_to_whom_it_trusts() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (_server, url) = server(folder.path(), &authority).await;
    let (ca, other) = (authority.file(), Authority::new());
    let stranger = other.file();
    let small = ["--gateway", &url, "--duration", "1s"];
    let users = ["--users", "4", "--rate", "20", "--history-check"];
    let trusting = ["--ca", ca.to_str().unwrap()];

    let (code, output) = load("rooms", &[&small[..], &users, &trusting].concat()).await;
    assert_eq!(code, Some(0), "{output}");
    let (code, output) = load("chaos", &[&small[..], &trusting].concat()).await;
    assert_eq!(code, Some(0), "{output}");

    let mistaken = ["--ca", stranger.to_str().unwrap()];
    let (code, output) = load("rooms", &[&small[..], &users, &mistaken].concat()).await;
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
