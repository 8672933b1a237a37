//! The program as an operator meets it.

use std::net::TcpListener;
use std::process::{Command, Output};

use gateway::close::{CloseReason, Reconnect};
use harness::{Process, Redis, StompClient, StompOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Runs it to its end, with nothing of this environment's own settings.
fn gateway(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ROOMCAST_") {
            command.env_remove(name);
        }
    }
    command
        .args(args)
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .env("RUST_LOG", "off");
    command.output().unwrap()
}

/// Its exit code, and the one line that it says.
fn failure(args: &[&str]) -> (i32, String) {
    let output = gateway(args);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    (output.status.code().unwrap(), text)
}

#[test]
fn a_wrong_flag_is_named_and_ends_with_64() {
    for (args, hint) in [
        (&[][..], "--broker"),
        (&["--broker", "redis://127.0.0.1:1"], "--store"),
        (
            &["--broker", "memory:", "--store", "sqlite:x.db"],
            "run roomcast",
        ),
        (
            &["--broker", "redis://h", "--store", "mongodb://host"],
            "database name",
        ),
        (&["--max-frame-bytes", "1"], "--max-frame-bytes"),
        (&["--receipt-after", "never"], "--receipt-after"),
        (
            &[
                "--broker",
                "redis://h",
                "--store",
                "mongodb://h/d",
                "--user-max-rooms",
                "5",
            ],
            "--user-… flags need --auth jwt",
        ),
    ] {
        let (code, line) = failure(args);
        assert_eq!(code, 64, "{line}");
        assert!(line.contains(hint), "{args:?}: {line}");
    }
}

#[test]
fn a_redis_or_mongodb_that_is_not_there_is_named_and_ends_with_69() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}", folder.path().join("chat.db").display());
    let (redis, mongo) = (
        format!("redis://{address}"),
        format!("mongodb://{address}/chat"),
    );
    for (broker, store, hint) in [(&redis, &file, "Redis"), (&redis, &mongo, "MongoDB")] {
        let patience = ["--connect-timeout", "500ms"];
        let args = [
            "--broker",
            broker,
            "--store",
            store,
            patience[0],
            patience[1],
        ];
        let (code, line) = failure(&args);
        assert_eq!(code, 69, "{line}");
        assert!(
            line.contains(hint) && line.contains(&address.to_string()),
            "{line}"
        );
    }
}

#[tokio::test]
async fn a_gateway_whose_redis_does_not_answer_yet_is_not_ready() {
    // Takes connections into the system's queue, and answers none.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let broker = format!("redis://{}", silent.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", folder.path().join("chat.db").display());
    let open = ["--broker", &broker, "--store", &store];
    let listen = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let patience = ["--connect-timeout", "10m"];
    let gateway = Process::spawn("gateway", open.iter().chain(&listen).chain(&patience));
    let mut operator = TcpStream::connect(gateway.admin().await).await.unwrap();
    let request = b"GET /readyz HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n";
    operator.write_all(request).await.unwrap();
    let mut answer = String::new();
    operator.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[tokio::test]
async fn a_term_signal_sends_clients_away_and_ends_with_0() {
    let redis = Redis::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}", folder.path().join("chat.db").display());
    let url = redis.url();
    let flags = [
        "--broker",
        &url,
        "--store",
        &file,
        "--listen",
        "127.0.0.1:0",
    ];
    let admin = ["--admin-listen", "127.0.0.1:0"];
    let mut gateway = Process::spawn("gateway", flags.iter().chain(&admin));
    let url = format!("ws://{}/ws", gateway.ready().await);
    let mut client = StompClient::connect(&url, StompOptions::login("kim"))
        .await
        .unwrap();
    client
        .send("/app/rooms/r", "hi", &[("receipt", "1")])
        .await
        .unwrap();
    client.receipt("1").await.unwrap();
    gateway.terminate().await;
    assert_eq!(client.close_code().await.unwrap(), Some(1012));
    assert_eq!(gateway.wait().await.code(), Some(0));
}

#[test]
fn the_readme_has_every_flag_and_every_reason() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let rows: Vec<_> = readme
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let help = String::from_utf8(gateway(&["--help"]).stdout).unwrap();
    let mut count = 0;
    for text in help.split("\n      --").skip(1) {
        let (flag, text) = text.split_once(char::is_whitespace).unwrap();
        let (alone, named) = (format!("`--{flag}`"), format!("`--{flag} "));
        let mut with_it = rows
            .iter()
            .filter(|row| row.starts_with("| `--"))
            .filter(|row| {
                let flags = row.split(" | ").next().unwrap_or_default();
                flags.contains(&alone) || flags.contains(&named)
            });
        let row = with_it.next().unwrap_or_else(|| panic!("--{flag}"));
        assert_eq!(with_it.next(), None, "--{flag} has two rows");
        let default = text.split_once("[default: ");
        let default = default.map(|(_, rest)| rest.split_once(']').unwrap().0);
        // The table has no URL, and says what 0 means.
        let told = match (flag, default) {
            ("sockjs-client-url", _) => "jsDelivr's `sockjs-client@1`",
            ("send-rate", Some("0")) => "none",
            (_, Some(default)) => default,
            (_, None) => continue,
        };
        let cell = row.split(" | ").nth(1).unwrap();
        let mut defaults = cell.split(", ").map(|cell| cell.trim_matches('`'));
        assert!(
            told == cell || defaults.any(|default| default == told),
            "--{flag} is {told}, and not {cell}"
        );
        count += 1;
    }
    assert!(count > 30, "{help}");
    for reason in CloseReason::ALL {
        // These two are no ERRORs.
        if reason.websocket_code() == 1000 {
            continue;
        }
        let (code, close) = (reason.code(), reason.websocket_code());
        let is_there = |row: &&&str| {
            row.contains(&format!("`{code}`")) && row.contains(&format!("| {close} |"))
        };
        let row = rows.iter().find(is_there);
        let row = row.unwrap_or_else(|| panic!("{code} with {close}"));
        let comes_back = row.contains("| yes");
        assert_eq!(comes_back, reason.reconnect() == Reconnect::Yes, "{code}");
    }
}
