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
    let mut loadtest = Process::spawn("loadtest", ["rooms", "--gateway", &url]);
    let status = loadtest.wait().await;
    let output = loadtest.output();
    assert_eq!(status.code(), Some(69), "{output}");
    assert_eq!(output.lines().count(), 1, "{output}");
    assert!(output.contains(&url), "{output}");
}

#[tokio::test]
async fn help_teaches_every_flag() {
    let mut loadtest = Process::spawn("loadtest", ["rooms", "--help"]);
    assert!(loadtest.wait().await.success());
    let output = loadtest.output();
    for flag in [
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
    ] {
        assert!(output.contains(flag), "{flag} is missing from\n{output}");
    }
}
