//! The load of `loadtest chaos` on a server that breaks: members who come back as they should are
//! owed nothing in the end, and without `after` or without keys the ledger shows it.

use std::path::Path;

use harness::Process;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::proxy::{self, Damage};

fn server(listen: &str, data: &Path, flags: &[&str]) -> Process {
    let data = data.to_str().unwrap();
    let common = [
        "--listen",
        listen,
        "--admin-listen",
        "127.0.0.1:0",
        "--data-dir",
        data,
    ];
    Process::spawn("roomcast", common.iter().chain(flags))
}

/// A load on `url`, and where its report will be.
fn load(url: &str, flags: &[&str]) -> (Process, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("rows.json");
    let common = ["chaos", "--gateway", url, "--settle", "15s", "--rooms", "2"];
    let mut flags = common.iter().chain(flags).copied().collect::<Vec<_>>();
    flags.extend(["--json", json.to_str().unwrap()]);
    (Process::spawn("loadtest", &flags), folder)
}

/// The exit code and the only row, once the load has ended.
async fn row((mut load, folder): (Process, TempDir)) -> (Option<i32>, Value) {
    let status = load.wait().await;
    let json = std::fs::read_to_string(folder.path().join("rows.json"))
        .unwrap_or_else(|_| panic!("{}", load.output()));
    let mut rows: Value = serde_json::from_str(&json).unwrap();
    (status.code(), rows[0].take())
}

/// The debts that are not zero.
fn debts(row: &Value) -> Vec<(&str, u64)> {
    let all = row["debts"].as_object().unwrap().iter();
    all.map(|(name, count)| (&name[..], count.as_u64().unwrap()))
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// A load through a proxy that does the damage once.
async fn spoilt(command: &'static str, damage: Damage, flags: &[&str]) -> (Option<i32>, Value) {
    let data = tempfile::tempdir().unwrap();
    let server = server("127.0.0.1:0", data.path(), &[]);
    // Past the two rooms' first messages, so that everybody is subscribed and has seen some.
    let url = proxy::start(server.ready().await, command, 60, damage).await;
    let common = ["--duration", "4s", "--rate", "100", "--resend-after", "2s"];
    let flags = common.iter().chain(flags).copied().collect::<Vec<_>>();
    row(load(&url, &flags)).await
}

#[tokio::test]
async fn who_comes_back_with_after_misses_nothing_and_without_it_what_came_meanwhile() {
    let ((code, row), (code_without, row_without)) = tokio::join!(
        spoilt("MESSAGE", Damage::End, &[]),
        spoilt("MESSAGE", Damage::End, &["--no-resume"]),
    );
    assert_eq!((code, debts(&row)), (Some(0), vec![]), "{row:#}");
    assert!(row["receipted"].as_u64().unwrap() > 300, "{row:#}");

    let lost = debts(&row_without);
    assert_eq!(code_without, Some(1), "{row_without:#}");
    assert!(matches!(lost[..], [("lost", 1..)]), "{row_without:#}");
    let note = row_without["notes"][0].as_str().unwrap();
    assert!(note.contains("never got message"), "{note}");
}

#[tokio::test]
async fn what_has_no_receipt_is_sent_again_as_one_message_and_without_a_key_as_two() {
    for damage in [Damage::End, Damage::Drop] {
        let ((code, row), (code_without, row_without)) = tokio::join!(
            spoilt("RECEIPT", damage, &[]),
            spoilt("RECEIPT", damage, &["--no-keys"]),
        );
        assert_eq!((code, debts(&row)), (Some(0), vec![]), "{row:#}");

        assert_eq!(code_without, Some(1), "{row_without:#}");
        let messages = row_without["debts"]["misnamed"].as_u64().unwrap();
        assert!(messages > 0, "{row_without:#}");
        // By each of four members, and by the history.
        assert_eq!(
            debts(&row_without),
            [("doubled", 5 * messages), ("misnamed", messages)],
            "{row_without:#}"
        );
    }
}

#[tokio::test]
async fn each_damage_that_nothing_repairs_is_a_debt() {
    let (lost, doubled, out_of_order) = tokio::join!(
        spoilt("MESSAGE", Damage::Drop, &[]),
        spoilt("MESSAGE", Damage::Repeat, &[]),
        spoilt("MESSAGE", Damage::Swap, &[]),
    );
    for ((code, row), debt) in [
        (lost, "lost"),
        (doubled, "doubled"),
        (out_of_order, "out_of_order"),
    ] {
        assert_eq!(debts(&row), [(debt, 1)], "{row:#}");
        assert_eq!(code, Some(1));
    }
}

#[tokio::test]
async fn a_server_that_is_killed_and_started_again_owes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let mut doomed = server("127.0.0.1:0", data.path(), &[]);
    let address = doomed.ready().await;
    let url = format!("ws://{address}/ws");
    let load = load(&url, &["--duration", "5m", "--rate", "200"]);
    for _ in 0..3 {
        under_way(&doomed).await;
        doomed.kill().await;
        doomed = server(&address.to_string(), data.path(), &[]);
    }
    under_way(&doomed).await;
    load.0.terminate().await;
    let (code, row) = row(load).await;
    assert_eq!((code, debts(&row)), (Some(0), vec![]), "{row:#}");
    assert_eq!(row["told"], 0, "{row:#}");
    assert!(row["interruption"]["max"].as_f64().unwrap() > 0.0);
}

/// Waits until the server has received messages, by its own metrics.
async fn under_way(server: &Process) {
    let admin = server.admin().await;
    harness::until("the load to be under way", async || {
        let request = "GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
        let mut answer = String::new();
        let mut stream = TcpStream::connect(admin).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.read_to_string(&mut answer).await.unwrap();
        let received = answer
            .lines()
            .find_map(|line| line.strip_prefix("roomcast_gateway_messages_received_total "));
        received.unwrap().parse::<u64>().unwrap() > 100
    })
    .await;
}
