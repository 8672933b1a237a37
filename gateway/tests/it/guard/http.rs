//! HTTP as nobody means it: each case has a bound and an end.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::running::backend;
use crate::serving::DEADLINE;

/// What comes until the server closes, which it must; what is sent may meet a closed connection.
async fn exchange(mut stream: TcpStream, octets: &[u8]) -> String {
    let (mut read, mut write) = stream.split();
    let mut heard = Vec::new();
    let sending = async {
        write.write_all(octets).await.ok();
    };
    let reading = async {
        let mut some = [0; 4096];
        while let Ok(length @ 1..) = read.read(&mut some).await {
            heard.extend_from_slice(&some[..length]);
        }
    };
    let both = async { tokio::join!(sending, reading) };
    timeout(DEADLINE, both).await.expect("an end in time");
    String::from_utf8_lossy(&heard).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strange_requests_are_answered_or_cut_off() {
    let gateway = backend(&[])
        .await
        .gateway(&["--connect-deadline", "2s"])
        .await;
    let post =
        "POST /api/rooms/r/messages HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    let cases = [
        (
            "HTTP/2",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(),
            &["", "505", "400"][..],
        ),
        (
            "a huge URL",
            format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(1 << 20)),
            &["414", "431"],
        ),
        (
            "many headers",
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
                "a: b\r\n".repeat(2_000)
            ),
            &["431"],
        ),
        (
            "a header that never ends",
            format!("GET / HTTP/1.1\r\nHost: {}", "a".repeat(1 << 20)),
            &["431"],
        ),
        (
            "a body that is awaited and does not come",
            format!("{post}Content-Length: 10\r\nExpect: 100-continue\r\n\r\n"),
            &["100"],
        ),
        (
            "two lengths",
            format!("{post}Content-Length: 1\r\nContent-Length: 2\r\n\r\nx"),
            &["400"],
        ),
        (
            "a length that is none",
            format!("{post}Content-Length: 99999999999999999999999\r\n\r\nx"),
            &["400"],
        ),
        (
            "a length of 2^63",
            format!("{post}Content-Length: 9223372036854775808\r\n\r\nx"),
            &["413"],
        ),
        (
            "endless chunk extensions",
            format!(
                "{post}Transfer-Encoding: chunked\r\n\r\n1;{}\r\nx\r\n",
                "e=x;".repeat(100_000)
            ),
            &["400"],
        ),
        (
            "a chunk of 2^64",
            format!("{post}Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nx"),
            &["400"],
        ),
        (
            "endless trailers",
            format!(
                "{post}Transfer-Encoding: chunked\r\n\r\n0\r\n{}",
                "a: b\r\n".repeat(100_000)
            ),
            &["400"],
        ),
        (
            "a body with an upgrade",
            "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                Content-Length: 100000\r\n\r\nx"
                .into(),
            &["101", "400"],
        ),
    ];
    for (what, octets, statuses) in cases {
        let heard = exchange(gateway.connect().await, octets.as_bytes()).await;
        let status = heard.split(' ').nth(1).unwrap_or_default();
        assert!(statuses.contains(&status), "{what}: {heard:?}");
    }
    let answer = gateway.ask("GET", "/sockjs/info", &[], b"").await;
    assert_eq!(answer.status, 200, "and others are served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_thousands_of_things_at_once_and_reads_nothing_holds_up_nobody() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let ask = "GET /api/openapi.json HTTP/1.1\r\nHost: a\r\n\r\n".repeat(5_000);
    let mut deaf = Vec::new();
    for _ in 0..20 {
        let mut stream = gateway.connect().await;
        let ask = ask.clone();
        // What is not answered is not read: then nothing more can be sent.
        deaf.push(tokio::spawn(async move {
            stream.write_all(ask.as_bytes()).await.ok();
            std::future::pending::<()>().await;
        }));
    }
    let answered = || {
        let requests = &gateway.metrics.gateway.http_requests;
        requests.with_label_values(&["2xx"]).get()
    };
    harness::until("them to be answered no more", async || {
        let before = answered();
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        before > 20 && answered() == before
    })
    .await;
    assert!(answered() < 20 * 5_000, "{}", answered());
    let answer = gateway.ask("GET", "/sockjs/info", &[], b"").await;
    assert_eq!(answer.status, 200);
    for stream in deaf {
        stream.abort();
    }
}
