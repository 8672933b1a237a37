//! What the command line promises, with nothing behind it.

use harness::Process;

#[tokio::test]
async fn a_wrong_flag_ends_with_64_and_says_what_is_right() {
    for (flags, names) in [
        (&["rooms"][..], "--gateway"),
        (
            &["rooms", "--gateway", "http://127.0.0.1:1/ws"],
            "ws://127.0.0.1:8080/ws",
        ),
        (
            &[
                "rooms",
                "--gateway",
                "ws://127.0.0.1:1/ws",
                "--users",
                "2",
                "--rooms",
                "3",
            ],
            "--users",
        ),
        (
            &[
                "rooms",
                "--gateway",
                "ws://127.0.0.1:1/ws",
                "--body-bytes",
                "39",
            ],
            "40",
        ),
        (
            &[
                "rooms",
                "--gateway",
                "ws://127.0.0.1:1/ws",
                "--pid",
                "gateway",
            ],
            "gateway=4711",
        ),
        (
            &[
                "pairs",
                "--gateway",
                "ws://127.0.0.1:1/ws",
                "--room-size",
                "3",
            ],
            "two",
        ),
        (
            &[
                "fanout",
                "--gateway",
                "ws://127.0.0.1:1/ws",
                "--send-to",
                "/app/rooms",
            ],
            "{room}",
        ),
        (
            &[
                "fanout",
                "--gateway",
                "ws://127.0.0.1:1/ws",
                "--header",
                "nothing",
            ],
            "persistent:true",
        ),
        (
            &[
                "fanout",
                "--gateway",
                "ws://127.0.0.1:1/ws",
                "--source",
                "localhost",
            ],
            "127.0.0.2",
        ),
        (
            &[
                "fanout",
                "--gateway",
                "ws://127.0.0.1:1/ws",
                "--server",
                "spring",
                "--history-check",
            ],
            "--history-check",
        ),
        (
            &[
                "fanout",
                "--gateway",
                "ws://127.0.0.1:1/ws",
                "--quiet",
                "--progress",
            ],
            "--quiet",
        ),
        (
            &["idle", "--gateway", "ws://127.0.0.1:1/ws", "--burst", "1"],
            "--subscribe",
        ),
        (
            &[
                "idle",
                "--gateway",
                "ws://127.0.0.1:1/ws",
                "--connections",
                "0",
            ],
            "--connections",
        ),
        (
            &[
                "storm",
                "--gateway",
                "ws://127.0.0.1:1/ws",
                "--server",
                "rabbitmq",
                "--after",
            ],
            "--after",
        ),
        (
            &["ramp", "--gateway", "ws://127.0.0.1:1/ws", "--factor", "1"],
            "1.05",
        ),
        (
            &[
                "ramp",
                "--gateway",
                "ws://127.0.0.1:1/ws",
                "--no-receipts",
                "--of",
                "receipt",
            ],
            "--of",
        ),
        (
            &[
                "soak",
                "--gateway",
                "ws://127.0.0.1:1/ws",
                "--duration",
                "10s",
            ],
            "--warm-up",
        ),
        (&["compare"], "FILE"),
        (&["chaos", "--rounds", "0"], "--rounds"),
        (&["chaos", "--duration", "5s"], "--gateway"),
        (
            &[
                "chaos",
                "--gateway",
                "ws://127.0.0.1:1/ws",
                "--stored",
                "1.5",
            ],
            "0 to 1",
        ),
        (
            &[
                "chaos",
                "--gateway",
                "ws://127.0.0.1:1/ws",
                "--senders",
                "5",
            ],
            "senders",
        ),
        (
            &["chaos", "--gateway", "ws://127.0.0.1:1/ws", "--list"],
            "--list",
        ),
        (&[], "fanout"),
    ] {
        let mut loadtest = Process::spawn("loadtest", flags);
        let status = loadtest.wait().await;
        let output = loadtest.output();
        assert_eq!(status.code(), Some(64), "{flags:?}: {output}");
        assert_eq!(output.lines().count(), 1, "{output}");
        assert!(output.contains(names), "{output}");
    }
}

#[tokio::test]
async fn a_gateway_that_is_not_there_ends_it_with_69() {
    // The port was free a moment ago, and this listener's end makes it refuse.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("ws://{address}/ws");
    for (flags, names) in [
        (&["rooms"][..], &url[..]),
        (&["chaos", "--connect-timeout", "1s"], "no connection"),
    ] {
        let flags = [flags, &["--gateway", &url]].concat();
        let mut loadtest = Process::spawn("loadtest", flags);
        let status = loadtest.wait().await;
        let output = loadtest.output();
        assert_eq!(status.code(), Some(69), "{output}");
        assert_eq!(output.lines().count(), 1, "{output}");
        assert!(output.contains(names), "{output}");
    }
}

#[tokio::test]
async fn help_teaches_every_flag() {
    for (load, flags) in [
        (
            "rooms",
            &[
                "--gateway",
                "--users",
                "--rooms",
                "--room-size",
                "--rate",
                "--duration",
                "--body-bytes",
                "--receipt-after",
                "--history-check",
                "--seed",
                "--pid",
                "--json",
                "--senders",
                "--server",
                "--send-to",
                "--source",
                "--threads",
                "--strict",
                "--html",
                "Exit code 0",
            ][..],
        ),
        (
            "idle",
            &[
                "--connections",
                "--connect-rate",
                "--cycles",
                "--burst-bytes",
            ],
        ),
        (
            "storm",
            &["--rounds", "--jitter", "--backoff", "--after", "--within"],
        ),
        (
            "ramp",
            &["--p99", "--of", "--start", "--factor", "--precision"],
        ),
        (
            "soak",
            &["--warm-up", "--memory-growth", "--latency-growth"],
        ),
        (
            "compare",
            &["FILE", "--over", "--html", "--markdown", "Exit code 0"],
        ),
        (
            "chaos",
            &[
                "--scenario",
                "--rounds",
                "--seed",
                "--list",
                "--control",
                "--bin-dir",
                "--keep-logs",
                "--json",
                "--markdown",
                "--gateway",
                "--duration",
                "--no-resume",
                "--no-keys",
                "Exit code 0",
            ],
        ),
    ] {
        let mut loadtest = Process::spawn("loadtest", [load, "--help"]);
        assert!(loadtest.wait().await.success());
        let output = loadtest.output();
        for flag in flags {
            assert!(output.contains(flag), "{flag} is missing from\n{output}");
        }
    }
}

#[tokio::test]
async fn too_few_descriptors_are_a_wrong_flag_and_a_source_that_is_not_here_is_said_so() {
    let program = harness::binary::path("loadtest");
    let run = |limit: &str, flags: &[&str]| {
        let script = format!("ulimit {limit}; exec \"$@\"");
        let program = program.to_str().unwrap();
        let args = [&["-c", &script, "sh", program, "idle"], flags].concat();
        Process::run("/bin/sh", args, [("LC_ALL", "C")])
    };
    let url = "ws://127.0.0.1:1/ws";
    let mut loadtest = run("-n 200", &["--gateway", url, "--connections", "500"]);
    assert_eq!(
        loadtest.wait().await.code(),
        Some(64),
        "{}",
        loadtest.output()
    );
    let output = loadtest.output();
    assert!(output.contains("descriptors than the 200"), "{output}");
    // The soft limit is no obstacle: this one fails because nobody listens.
    let mut loadtest = run("-Sn 200", &["--gateway", url, "--connections", "500"]);
    assert_eq!(
        loadtest.wait().await.code(),
        Some(69),
        "{}",
        loadtest.output()
    );
    let flags = ["--gateway", url, "--source", "192.0.2.1"];
    let mut loadtest = run("-Sn 200", &flags);
    assert_eq!(
        loadtest.wait().await.code(),
        Some(69),
        "{}",
        loadtest.output()
    );
    let output = loadtest.output();
    assert!(output.contains("--source 192.0.2.1: "), "{output}");
}
