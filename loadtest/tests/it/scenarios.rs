//! Each scenario runs small against a real server, and its report is right.

use harness::Process;
use serde_json::Value;
use tempfile::TempDir;

/// A server of its own for one test.
struct Server {
    process: Process,
    _data: TempDir,
}

impl Server {
    fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().to_str().unwrap();
        let flags = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let process = Process::spawn("roomcast", [&flags[..], &["--data-dir", folder]].concat());
        Self {
            process,
            _data: data,
        }
    }

    /// Runs a scenario on it; the exit code, the report, and what was printed.
    async fn run(&self, flags: &str) -> (Option<i32>, Value, String) {
        let url = format!("ws://{}/ws", self.process.ready().await);
        let pid = format!("roomcast={}", self.process.pid());
        let folder = tempfile::tempdir().unwrap();
        let json = folder.path().join("report.json");
        let mut flags = flags.split_whitespace().collect::<Vec<_>>();
        flags.extend(["--gateway", &url, "--pid", &pid]);
        flags.extend(["--json", json.to_str().unwrap()]);
        let mut loadtest = Process::spawn("loadtest", &flags);
        let status = loadtest.wait().await;
        let output = loadtest.output();
        let report = std::fs::read_to_string(json).unwrap_or_else(|_| panic!("{output}"));
        (
            status.code(),
            serde_json::from_str(&report).unwrap(),
            output,
        )
    }
}

/// A figure of a step.
fn figure(step: &Value, name: &str) -> f64 {
    let mut figures = step["figures"].as_array().unwrap().iter();
    let figure = figures.find(|figure| figure["name"] == name);
    figure.unwrap_or_else(|| panic!("{name}: {step:#}"))["value"]
        .as_f64()
        .unwrap()
}

#[tokio::test]
async fn only_some_members_of_a_room_send_where_that_is_asked_for() {
    let server = Server::start();
    let (code, report, output) = server
        .run("fanout --users 12 --room-size 6 --senders 1 --rate 40 --duration 2s --progress --interval 200ms")
        .await;
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(
        (&report["sent"], &report["delivered"]),
        (&80.into(), &480.into())
    );
    let senders = output.lines().filter(|line| line.contains("delivered/s"));
    assert!(senders.count() >= 2, "a line each interval: {output}");
    let series = report["series"].as_array().unwrap();
    let sum = |name: &str| {
        series
            .iter()
            .map(|it| it[name].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!((sum("sent"), sum("delivered")), (80, 480));
    assert_eq!(series[0]["connections"], 12);
    assert_eq!(report["connect_us"]["count"], 12);
}

#[tokio::test]
async fn pairs_are_rooms_of_two() {
    let server = Server::start();
    let (code, report, output) = server
        .run("pairs --users 10 --rate 50 --duration 1s --history-check --quiet")
        .await;
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(report["scenario"], "pairs");
    assert_eq!(report["load"]["rooms"], 5);
    assert_eq!(report["delivered"], 100);
    assert_eq!(report["history"]["messages"], 50);
    assert!(!output.contains("delivered/s"), "{output}");
}

#[tokio::test]
async fn a_server_without_receipts_and_ids_is_checked_for_the_rest() {
    let server = Server::start();
    for preset in [
        "--server spring",
        "--server rabbitmq --no-receipts --send-to /app/rooms/{room} --subscribe-to /topic/rooms/{room} \
         --send-header x:y --subscribe-header x:y --header x:{user}",
    ] {
        let flags = format!("fanout --users 6 --rooms 2 --rate 60 --duration 1s {preset}");
        let (code, report, output) = server.run(&flags).await;
        assert_eq!(code, Some(0), "{output}");
        assert_eq!(report["sent"], 60);
        assert_eq!(report["delivered"], 180);
        assert_eq!(report["send_to_receipt_us"]["count"], 0);
        let notes = report["notes"].to_string();
        for omitted in ["receipts", "one order", "who the server says"] {
            assert!(notes.contains(omitted), "{notes}");
        }
    }
}

#[tokio::test]
async fn idle_connections_are_held_and_given_back_cycle_after_cycle() {
    let server = Server::start();
    let (code, report, output) = server
        .run(
            "idle --connections 60 --connect-rate 600 --heartbeat 1s --hold 4s --cycles 2 --subscribe \
             --room-size 6 --burst 2 --burst-bytes 20KiB --rest 500ms --source 127.0.0.2-127.0.0.4",
        )
        .await;
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(report["connect_us"]["count"], 120);
    assert_eq!(report["load"]["sources"], 3);
    // Two messages in each of ten rooms of six, twice.
    assert_eq!(
        (&report["sent"], &report["delivered"]),
        (&40.into(), &240.into())
    );
    let steps = report["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 2);
    assert_eq!(figure(&steps[0], "connections"), 60.0);
    assert!(figure(&steps[0], "roomcast each") > 0.0, "{output}");
    let held = report["series"].as_array().unwrap().iter();
    assert!(held.clone().all(|it| it["connections"] == 60), "{output}");
    assert!(
        report["kernel"]["peak"]["tcp_sockets"].as_u64() >= Some(120),
        "{output}"
    );
}

#[tokio::test]
async fn who_is_told_to_end_lets_idle_connections_go_and_reports_what_there_was() {
    let server = Server::start();
    let url = format!("ws://{}/ws", server.process.ready().await);
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let flags = [
        "idle",
        "--connections",
        "30",
        "--hold",
        "1h",
        "--cycles",
        "9",
    ];
    let more = [
        "--progress",
        "--gateway",
        &url,
        "--json",
        json.to_str().unwrap(),
    ];
    let mut loadtest = Process::spawn("loadtest", flags.iter().chain(&more));
    loadtest
        .line(|line| line.contains("30 connected after"))
        .await;
    loadtest.terminate().await;
    let status = loadtest.wait().await;
    assert_eq!(status.code(), Some(0), "{}", loadtest.output());
    let report = std::fs::read_to_string(json).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["connect_us"]["count"], 30);
    assert_eq!(report["steps"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn everybody_comes_back_after_a_storm_and_gets_what_it_missed() {
    let server = Server::start();
    let (code, report, output) = server
        .run("storm --users 40 --room-size 4 --rounds 2 --jitter 200ms --after --heartbeat 5s")
        .await;
    assert_eq!(code, Some(0), "{output}");
    let steps = report["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 2);
    for step in steps {
        for nothing in ["not back", "lost", "told", "failed attempts"] {
            assert_eq!(figure(step, nothing), 0.0, "{nothing}: {step:#}");
        }
        assert!(figure(step, "all back") >= figure(step, "back p50"));
    }
    assert_eq!(report["connect_us"]["count"], 120, "at first, and twice");
}

#[tokio::test]
async fn a_ramp_finds_the_rate_between_one_that_is_kept_and_one_that_is_not() {
    let server = Server::start();
    // Nothing takes an hour, so that the highest rate is the most that is tried.
    let (code, report, output) = server
        .run("ramp --users 6 --room-size 3 --start 20 --factor 2 --most 60 --step 1s --p99 1h")
        .await;
    assert_eq!(code, Some(0), "{output}");
    let rates = report["steps"].as_array().unwrap().iter();
    let rates = rates.map(|step| figure(step, "rate")).collect::<Vec<_>>();
    assert_eq!(rates, [20.0, 40.0, 60.0]);
    assert_eq!(report["sent"], 60, "the report is that of the best step");
    assert!(
        report["notes"][0]
            .as_str()
            .unwrap()
            .starts_with("60 messages"),
        "{output}"
    );
    // Nothing takes a microsecond either.
    let (code, report, output) = server
        .run("ramp --users 6 --room-size 3 --start 4 --step 1s --p99 1us --of receipt")
        .await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("no rate keeps p99 1µs"), "{output}");
    assert_eq!(report["steps"][0]["ok"], false);
}

#[tokio::test]
async fn a_soak_has_a_trend_and_fails_where_it_is_beyond_its_bound() {
    let server = Server::start();
    let soak = "soak --users 6 --room-size 3 --rate 50 --duration 3s --interval 200ms --warm-up 1s";
    let (code, report, output) = server.run(&format!("{soak} --latency-growth 1e9")).await;
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(report["scenario"], "soak");
    let notes = report["notes"].to_string();
    assert!(notes.contains("roomcast's memory: "), "{notes}");
    assert!(notes.contains("p99 from send to receive: "), "{notes}");
}

#[tokio::test]
async fn a_rate_that_no_generator_keeps_is_blamed_on_the_generator() {
    let server = Server::start();
    let (code, report, output) = server
        .run("fanout --users 2 --rate 1000000 --duration 1s --body-bytes 8192 --no-receipts --strict --settle 60s")
        .await;
    let bottleneck = report["generator"]["bottleneck"].as_str();
    assert!(bottleneck.is_some(), "{output}");
    // Where the server cut somebody off, that comes first.
    assert!(matches!(code, Some(1 | 3)), "{output}");
}
