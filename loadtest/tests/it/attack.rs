//! `loadtest attack` as a user runs it: a short selection of its kinds, and servers that do not stand
//! it.

use std::sync::{Arc, Mutex};

use harness::{Process, binary};
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

/// What a run came to.
struct Attacked {
    code: Option<i32>,
    rows: Vec<Value>,
    output: String,
}

/// Starts `loadtest attack` with these flags.
fn start(flags: &[&str]) -> Process {
    // It finds the programs beside itself.
    binary::path("roomcast");
    let flags = [&["attack"], flags].concat();
    Process::run(binary::path("loadtest"), &flags, [("TZ", "UTC")])
}

/// Runs it to its end.
async fn attack(flags: &[&str]) -> Attacked {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("rows.json");
    let file = ["--json", json.to_str().unwrap()];
    let mut attack = start(&[flags, &file].concat());
    while attack.runs() {
        // A run of several kinds takes longer than one condition may.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let status = attack.wait().await;
    let output = attack.output();
    let rows = std::fs::read_to_string(json).unwrap_or_else(|_| panic!("{output}"));
    Attacked {
        code: status.code(),
        rows: serde_json::from_str(&rows).unwrap_or_else(|_| panic!("{output}")),
        output,
    }
}

/// How often the server ended a hostile connection in a way that begins so.
fn ended(row: &Value, how: &str) -> u64 {
    let ends = row["hostile"]["ends"].as_object().unwrap().iter();
    ends.filter(|(name, _)| name.starts_with(how))
        .map(|(_, end)| end["count"].as_u64().unwrap())
        .sum()
}

#[tokio::test]
async fn honest_users_are_served_under_every_attack_of_a_selection() {
    // Not a whole second, when the next octet of a header drips.
    let connect_deadline = "--server-flag=--connect-deadline=2500ms";
    let frame_deadline = "--server-flag=--frame-deadline=1s";
    let Attacked { code, rows, output } = attack(&[
        "silent",
        "slow-headers",
        "no-connect",
        "half-frame",
        "ping-flood",
        "huge-frame",
        "compressed",
        "header-bomb",
        "bad-tokens",
        "reconnect-storm",
        "tls-half",
        "--server=roomcast",
        "--connections=200",
        "--honest=20",
        "--peace=1s",
        "--hold=6s",
        "--seed=3",
        connect_deadline,
        frame_deadline,
    ])
    .await;
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(rows.len(), 11, "{output}");
    for (row, how) in rows.iter().zip([
        Some("closed without a word"),
        Some("closed without a word"),
        Some("closed 1008 connect-timeout"),
        Some("closed 1008 frame-timeout"),
        None,
        Some("closed 1009 frame-too-large"),
        Some("closed 1002 malformed-frame"),
        None,
        None,
        None,
        Some("closed without a word"),
    ]) {
        let kind = &row["kind"];
        assert!(row["hostile"]["most"].as_u64().unwrap() > 0, "{output}");
        assert!(row["memory"]["before"].as_u64().unwrap() > 0, "{output}");
        for when in ["peace", "attacked"] {
            let delivered = &row[when]["send_to_receive_us"]["count"];
            assert!(delivered.as_u64().unwrap() > 0, "{kind} {when}: {output}");
            let connected = &row[when]["connect_us"]["count"];
            assert!(connected.as_u64().unwrap() > 0, "{kind} {when}: {output}");
        }
        if let Some(how) = how {
            assert_eq!(ended(row, how), 200, "{kind}: {output}");
        }
    }
    assert!(ended(&rows[7], "HTTP 431") > 0, "{output}");
    assert!(ended(&rows[7], "closed 1009") > 0, "{output}");
    // Honest users have tokens there, and are served; nobody else is let in.
    let refused = ended(&rows[8], "closed 3000 unauthorized");
    let expired = ended(&rows[8], "closed 4001 token-expired");
    assert!(refused > expired && expired > 0, "{output}");
    assert!(ended(&rows[8], "closed 1009") > 0, "{output}");
    let ends = rows[8]["hostile"]["ends"].as_object().unwrap();
    assert_eq!(ends.len(), 3, "{output}");
}

#[tokio::test]
async fn a_newcomer_who_is_not_let_in_is_told_of() {
    let Attacked { code, output, .. } = attack(&[
        "silent",
        "--server=roomcast",
        "--server-flag=--max-connections=60",
        "--connections=200",
        "--honest=20",
        "--peace=1s",
        "--hold=1s",
        "--markdown=-",
    ])
    .await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("honest newcomers not let in"), "{output}");
    assert!(output.contains("\n| silent | "), "{output}");
}

#[tokio::test]
async fn memory_that_is_not_given_back_is_told_of() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/ws", listener.local_addr().unwrap());
    let leaked = Arc::new(Mutex::new(Vec::new()));
    let leak = Arc::clone(&leaked);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            leak.lock().unwrap().push(vec![1u8; 1 << 20]);
            tokio::spawn(async move { stream.read_to_end(&mut Vec::new()).await });
        }
    });
    let pid = format!("--pid={}", std::process::id());
    let flags = [
        "silent",
        "--connections=150",
        "--honest=0",
        "--peace=1s",
        "--hold=1s",
        "--settle=1s",
        "--url",
        &url,
        &pid,
    ];
    let Attacked { code, output, .. } = attack(&flags).await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("memory is kept"), "{output}");
    assert_eq!(leaked.lock().unwrap().len(), 150);
}

#[tokio::test]
async fn a_server_that_ends_is_told_of() {
    let data = tempfile::tempdir().unwrap();
    let folder = format!("--data-dir={}", data.path().display());
    let ports = ["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"];
    let mut server = Process::spawn("roomcast", [&ports[..], &[&folder]].concat());
    let url = format!("ws://{}/ws", server.ready().await);
    let pid = format!("--pid={}", server.pid());
    let mut attack = start(&[
        "silent",
        "--connections=100",
        "--honest=10",
        "--peace=1s",
        "--hold=4s",
        "--settle=1s",
        "--url",
        &url,
        &pid,
    ]);
    attack.line(|line| line.contains("silent: holding")).await;
    server.kill().await;
    assert_eq!(attack.wait().await.code(), Some(1));
    let output = attack.output();
    assert!(output.contains("the server has ended"), "{output}");
}

#[tokio::test]
async fn every_kind_is_listed_and_others_are_refused() {
    let mut list = start(&["--list"]);
    assert_eq!(list.wait().await.code(), Some(0));
    let output = list.output();
    for kind in [
        "silent",
        "slow-headers",
        "sockjs-sessions",
        "subscribe-flood",
    ] {
        let mut lines = output.lines();
        assert!(lines.any(|line| line.starts_with(kind)), "{output}");
    }
    for (flags, named) in [
        (&["loud"][..], "loud"),
        (&["silent", "--pid=1"], "--url"),
        (&["silent", "--connections=0"], "--connections"),
        (&["silent", "--ca=file"], "--url"),
        (&["silent", "--url=wss://127.0.0.1:1/ws"], "--ca"),
        (&["silent", "--token-secret=short"], "32 octets"),
    ] {
        let mut wrong = start(flags);
        assert_eq!(wrong.wait().await.code(), Some(64), "{flags:?}");
        assert!(wrong.output().contains(named), "{}", wrong.output());
    }
}
