//! A run against a real server is clean; the same run is not when one frame is spoilt on the way.

use harness::Process;
use serde_json::Value;
use tempfile::TempDir;

use crate::proxy::{self, Damage};

/// A server of its own for one test.
struct Server {
    process: Process,
    _data: TempDir,
}

impl Server {
    fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let process = Process::spawn(
            "roomcast",
            [
                "--listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
                "--data-dir",
                data.path().to_str().unwrap(),
            ],
        );
        Self {
            process,
            _data: data,
        }
    }
}

/// Runs the load through a proxy that does the damage; returns the exit code and the report.
async fn run(server: &Server, command: &'static str, damage: Damage) -> (Option<i32>, Value) {
    let url = proxy::start(server.process.ready().await, command, 20, damage).await;
    load(&["--gateway", &url, "--settle", "3s"]).await
}

async fn load(flags: &[&str]) -> (Option<i32>, Value) {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let common = [
        "rooms",
        "--users",
        "6",
        "--rooms",
        "2",
        "--rate",
        "100",
        "--duration",
        "1s",
    ];
    let mut flags = common.iter().chain(flags).copied().collect::<Vec<_>>();
    flags.extend(["--json", json.to_str().unwrap()]);
    let mut loadtest = Process::spawn("loadtest", &flags);
    let status = loadtest.wait().await;
    let report = std::fs::read_to_string(json).unwrap_or_else(|_| panic!("{}", loadtest.output()));
    (status.code(), serde_json::from_str(&report).unwrap())
}

/// The faults that are not zero.
fn faults(report: &Value) -> Vec<(&str, u64)> {
    let all = report["faults"].as_object().unwrap().iter();
    all.map(|(name, count)| (&name[..], count.as_u64().unwrap()))
        .filter(|(_, n)| *n > 0)
        .collect()
}

#[tokio::test]
async fn a_server_that_keeps_its_promises_gives_a_clean_run() {
    let server = Server::start();
    let url = format!("ws://{}/ws", server.process.ready().await);
    let pid = format!("roomcast={}", server.process.pid());
    for receipt_after in ["accepted", "stored"] {
        let (code, report) = load(&[
            "--gateway",
            &url,
            "--history-check",
            "--receipt-after",
            receipt_after,
            "--pid",
            &pid,
        ])
        .await;
        assert_eq!(code, Some(0), "{report:#}");
        assert_eq!(report["ok"], true);
        assert_eq!(report["sent"], 100);
        assert_eq!(report["delivered"], 300);
        assert_eq!(report["history"]["messages"], 100);
        assert_eq!(report["send_to_receive_us"]["count"], 300);
        assert_eq!(report["send_to_receipt_us"]["count"], 100);
        assert_eq!(report["processes"][0]["name"], "roomcast");
        assert!(
            report["processes"][0]["us_per_delivery"].as_f64().is_some(),
            "{report:#}"
        );
    }
}

#[tokio::test]
async fn each_damage_on_the_way_is_reported_as_what_it_is() {
    let server = Server::start();
    for (command, damage, expected) in [
        ("MESSAGE", Damage::None, None),
        ("MESSAGE", Damage::Drop, Some("lost")),
        ("MESSAGE", Damage::Repeat, Some("duplicated")),
        ("MESSAGE", Damage::Swap, Some("reordered")),
        ("RECEIPT", Damage::Drop, Some("receipts_missing")),
        ("RECEIPT", Damage::Repeat, Some("receipts_doubled")),
    ] {
        let (code, report) = run(&server, command, damage).await;
        let expected = expected
            .map(|fault| (fault, 1))
            .into_iter()
            .collect::<Vec<_>>();
        assert_eq!(faults(&report), expected, "{command} {damage:?}");
        assert_eq!(
            code,
            Some(i32::from(!expected.is_empty())),
            "{command} {damage:?}"
        );
        assert_eq!(report["ok"], expected.is_empty());
    }
}

#[tokio::test]
async fn what_is_lost_doubled_or_out_of_order_shows_where_ids_are_not_ours_too() {
    let server = Server::start();
    for (damage, fault) in [
        (Damage::Drop, "lost"),
        (Damage::Repeat, "duplicated"),
        (Damage::Swap, "reordered"),
    ] {
        let url = proxy::start(server.process.ready().await, "MESSAGE", 20, damage).await;
        // One sender, so that what follows is its own next message.
        let (code, report) = load(&[
            "--gateway",
            &url,
            "--settle",
            "3s",
            "--server",
            "rabbitmq",
            "--send-to",
            "/app/rooms/{room}",
            "--subscribe-to",
            "/topic/rooms/{room}",
            "--senders",
            "1",
        ])
        .await;
        assert_eq!(faults(&report), [(fault, 1)], "{damage:?}");
        assert_eq!(code, Some(1), "{damage:?}");
    }
}
