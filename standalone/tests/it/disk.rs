//! A disk that takes no more.

use harness::{Process, binary, until};
use shared::stomp::Command as Frame;

use crate::fixture::{FILE, client, get, history, start};

/// The largest file that the server may write, in blocks of 512 octets: room for some messages.
const BLOCKS: &str = "400";

/// Starts one whose files cannot grow beyond [`BLOCKS`]: writes fail, as on a full disk.
fn start_confined(folder: &str, more: &[&str]) -> Process {
    let script = r#"trap '' XFSZ; ulimit -S -f "$1"; shift; exec "$@""#;
    let program = binary::path("roomcast");
    let mut args = vec!["-c", script, "sh", BLOCKS, program.to_str().unwrap()];
    args.extend(["--data-dir", folder, "--listen", "127.0.0.1:0"]);
    args.extend(["--admin-listen", "127.0.0.1:0"]);
    args.extend(more);
    Process::run("/bin/sh", args, [("RUST_LOG", "info")])
}

/// Lets its files grow again.
async fn make_room(server: &Process) {
    let pid = server.pid().to_string();
    let mut command = Process::run(
        "prlimit",
        ["--pid", pid.as_str(), "--fsize=unlimited"],
        [("LC_ALL", "C")],
    );
    assert!(command.wait().await.success(), "{}", command.output());
}

#[tokio::test]
async fn a_full_disk_withholds_receipts_and_loses_none_and_service_resumes_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = start_confined(
        folder.path().to_str().unwrap(),
        &["--journal-max", "30", "--receipt-timeout", "1s"],
    );
    let admin = server.admin().await;
    let mut kim = client(&server, "kim").await;
    until("it is ready", async || get(admin, "/readyz").await.0 == 200).await;
    let body = "x".repeat(8000);
    let mut receipted = Vec::new();
    let mut sent = 0;
    // One at a time, until one has no receipt: the disk is full.
    loop {
        let receipt = sent.to_string();
        let headers = [("receipt", receipt.as_str()), ("idempotency-key", &receipt)];
        kim.send("/app/rooms/r", format!("{sent} {body}"), &headers)
            .await
            .unwrap();
        sent += 1;
        match kim.receipt(&receipt).await {
            Ok(frame) => receipted.push(frame.header("message-id").unwrap().to_owned()),
            Err(_) => break,
        }
        assert!(sent < 100, "the disk does not fill");
    }
    let said = |line: &str| line.contains("WARN") && line.contains("make room");
    let line = server.next_line(said).await;
    assert!(line.contains(FILE), "{line}");
    let (status, unmet) = get(admin, "/readyz").await;
    assert_eq!(
        (status, unmet.trim()),
        (503, "not ready: persister"),
        "{unmet}"
    );

    // The journal takes some more, without a receipt, and refuses the rest.
    for number in sent..sent + 30 {
        let key = number.to_string();
        let headers = [("idempotency-key", key.as_str())];
        kim.send("/app/rooms/r", format!("{number} {body}"), &headers)
            .await
            .unwrap();
    }
    let error = kim.expect(Frame::Error).await.unwrap();
    assert_eq!(error.header("code"), Some("journal-full"));

    make_room(&server).await;
    until("it is ready again", async || {
        get(admin, "/readyz").await.0 == 200
    })
    .await;
    let mut kim = client(&server, "kim").await;
    let key = (sent - 1).to_string();
    let headers = [("receipt", "again"), ("idempotency-key", key.as_str())];
    kim.send("/app/rooms/r", format!("{key} {body}"), &headers)
        .await
        .unwrap();
    kim.receipt("again").await.unwrap();
    let found = history(&server, "r").await;
    for (number, id) in receipted.iter().enumerate() {
        assert_eq!(found[number].0, *id);
    }
    // What had no receipt and waited in the journal is there too, each once.
    let bodies: Vec<_> = found
        .iter()
        .map(|(_, body)| body.split(' ').next().unwrap())
        .collect();
    let expected: Vec<_> = (0..found.len()).map(|number| number.to_string()).collect();
    assert_eq!(bodies, expected);
    assert!(found.len() >= sent);
}

#[tokio::test]
async fn what_was_receipted_before_the_disk_was_full_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = start_confined(
        folder.path().to_str().unwrap(),
        &["--receipt-timeout", "1s"],
    );
    let mut kim = client(&server, "kim").await;
    let body = "x".repeat(8000);
    let mut receipted = Vec::new();
    for number in 0..100 {
        let receipt = number.to_string();
        let headers = [("receipt", receipt.as_str())];
        kim.send("/app/rooms/r", format!("{number} {body}"), &headers)
            .await
            .unwrap();
        match kim.receipt(&receipt).await {
            Ok(frame) => receipted.push(frame.header("message-id").unwrap().to_owned()),
            Err(_) => break,
        }
    }
    assert!((1..100).contains(&receipted.len()), "{}", receipted.len());
    server.kill().await;

    let server = start(folder.path(), &[]).await;
    let mut kim = client(&server, "kim").await;
    let headers = [("receipt", "new")];
    kim.send("/app/rooms/r", "new", &headers).await.unwrap();
    let new = kim.receipt("new").await.unwrap();
    let found: Vec<_> = history(&server, "r")
        .await
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    receipted.push(new.header("message-id").unwrap().to_owned());
    assert_eq!(found, receipted);
}

#[tokio::test]
async fn a_stop_while_the_disk_takes_nothing_ends_in_time_and_says_what_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["--drain-timeout", "1s", "--receipt-timeout", "1s"];
    let mut server = start_confined(folder.path().to_str().unwrap(), &more);
    let admin = server.admin().await;
    let mut kim = client(&server, "kim").await;
    let body = "x".repeat(8000);
    for _ in 0..100 {
        kim.send("/app/rooms/r", body.clone(), &[]).await.unwrap();
    }
    until("the disk is full", async || {
        get(admin, "/readyz").await.0 == 503
    })
    .await;
    server.terminate().await;
    server.wait().await;
    let lost = |line: &str| line.contains("ERROR") && line.contains("are lost");
    server.line(lost).await;
}
