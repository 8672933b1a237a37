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
        (&[], "rooms"),
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
                "--html",
            ][..],
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
