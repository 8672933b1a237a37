//! The program as an operator meets it.

use std::net::TcpListener;
use std::process::{Command, Output};

use harness::{Mongo, Redis};
use redis::{Value, cmd};
use tempfile::TempDir;

/// Runs it to its end, with nothing of this environment's own settings.
fn persister(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_persister"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ROOMCAST_") {
            command.env_remove(name);
        }
    }
    command
        .args(args)
        .args(["--admin-listen", "127.0.0.1:0"])
        .env("RUST_LOG", "off");
    command.output().unwrap()
}

/// Its exit code, and the one line that it says.
fn failure(args: &[&str]) -> (i32, String) {
    let output = persister(args);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(output.stdout.is_empty());
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
            &[
                "--broker",
                "redis://127.0.0.1:1",
                "--store",
                "mongodb://host",
            ],
            "database name",
        ),
        (&["--batch-max", "0"], "--batch-max"),
        (&["--linger", "20"], "500ms"),
        (&["--retention", "soon"], "90d"),
        (&["--no-such-flag"], "--no-such-flag"),
    ] {
        let (code, line) = failure(args);
        assert_eq!(code, 64, "{line}");
        assert!(line.contains(hint), "{args:?}: {line}");
    }
}

#[test]
fn a_file_that_is_no_store_ends_with_64() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "these are notes and no database ".repeat(100)).unwrap();
    let store = format!("sqlite:{}", path.display());
    let (code, line) = failure(&["--broker", "redis://127.0.0.1:1", "--store", &store]);
    assert_eq!(code, 64, "{line}");
    assert!(line.contains("is not an SQLite database"), "{line}");
}

#[test]
fn a_store_that_is_not_there_ends_with_69() {
    let store = "mongodb://ann:s3cr3t@127.0.0.1:1/chat";
    let quick = ["--connect-timeout", "300ms"];
    let (code, line) = failure(
        &[
            &["--broker", "redis://127.0.0.1:1", "--store", store],
            &quick[..],
        ]
        .concat(),
    );
    assert_eq!(code, 69, "{line}");
    assert!(
        line.contains("MongoDB at 127.0.0.1:1 is not available"),
        "{line}"
    );
    assert!(!line.contains("s3cr3t"), "{line}");
}

#[test]
fn a_broker_that_is_not_there_ends_with_69() {
    let folder = TempDir::new().unwrap();
    let store = format!("sqlite:{}", folder.path().join("chat.db").display());
    let quick = ["--connect-timeout", "300ms"];
    let (code, line) = failure(
        &[
            &["--broker", "redis://127.0.0.1:1", "--store", &store],
            &quick[..],
        ]
        .concat(),
    );
    assert_eq!(code, 69, "{line}");
    assert!(line.contains("Redis at 127.0.0.1:1: "), "{line}");
}

#[test]
fn a_broker_that_says_nothing_is_named_and_ends_with_69() {
    let folder = TempDir::new().unwrap();
    let store = format!("sqlite:{}", folder.path().join("chat.db").display());
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let broker = format!("redis://:s3cr3t@{address}");
    let quick = ["--connect-timeout", "300ms"];
    let (code, line) = failure(&[&["--broker", &broker, "--store", &store], &quick[..]].concat());
    assert_eq!(code, 69, "{line}");
    assert!(
        line.contains(&format!("Redis at {address} does not answer")),
        "{line}"
    );
}

#[tokio::test]
async fn a_failure_stays_one_line_when_the_store_is_open_already() {
    let (redis, mongo) = (Redis::start().await, Mongo::start().await);
    let (broker, store) = (redis.url(), mongo.url(&Mongo::database()));
    let backends = ["--broker", &broker, "--store", &store];
    let setup: Value = cmd("SET")
        .arg(&["rc:shards", "3"])
        .query_async(&mut redis.connection().await)
        .await
        .unwrap();
    assert_eq!(setup, Value::Okay);
    // What the driver leaves to do when it is dropped met the end of the runtime now and then.
    for _ in 0..25 {
        let (code, line) = failure(&backends);
        assert_eq!(code, 64, "{line}");
        assert!(line.contains("3 shards"), "{line}");
    }
}

#[test]
fn its_help_says_how_to_run_it() {
    let output = persister(&["--help"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "persister --broker redis://",
        "--batch-max",
        "ROOMCAST_RETENTION",
        "Exit codes",
    ] {
        assert!(text.contains(part), "{part} is missing");
    }
}
