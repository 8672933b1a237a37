//! What operators ask of a process over HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use shared::admin::{self, Readiness};
use shared::listen;
use shared::metrics::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const LONG: Duration = Duration::from_secs(60);

struct Admin {
    address: SocketAddr,
    metrics: Metrics,
    readiness: Readiness,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

async fn start() -> Admin {
    let listener = listen::bind("--admin-listen", ([127, 0, 0, 1], 0).into())
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    let (metrics, readiness, stop) = (Metrics::new(), Readiness::new(), CancellationToken::new());
    let server = tokio::spawn(admin::serve(
        listener,
        metrics.clone(),
        readiness.clone(),
        stop.clone(),
    ));
    Admin {
        address,
        metrics,
        readiness,
        stop,
        server,
    }
}

impl Admin {
    /// Sends a request and reads the response to its end.
    async fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream
            .write_all(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut response = String::new();
        timeout(LONG, stream.read_to_string(&mut response))
            .await
            .unwrap()
            .unwrap();
        response
    }
}

#[tokio::test]
async fn ready_is_said_only_while_every_condition_is_met() {
    let admin = start().await;
    let broker = admin.readiness.latch("broker");
    let store = admin.readiness.latch("store");
    broker.set(true);
    let response = admin.ask("GET /readyz").await;
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert!(response.ends_with("not ready: store\n"), "{response}");

    store.set(true);
    let response = admin.ask("GET /readyz").await;
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");

    drop(broker);
    let response = admin.ask("GET /readyz").await;
    assert!(response.ends_with("not ready: broker\n"), "{response}");
    assert!(!admin.readiness.is_ready());
    assert!(
        admin.ask("GET /livez").await.starts_with("HTTP/1.1 200 "),
        "alive all the while"
    );
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let admin = start().await;
    admin.metrics.gateway.messages_received.inc_by(3);
    let response = admin.ask("GET /metrics?x=1").await;
    assert!(response.contains("text/plain; version=0.0.4"), "{response}");
    assert!(
        response.contains("\nroomcast_gateway_messages_received_total 3\n"),
        "{response}"
    );
}

#[tokio::test]
async fn what_is_not_there_is_said_plainly() {
    let admin = start().await;
    assert!(admin.ask("GET /").await.starts_with("HTTP/1.1 404 "));
    let response = admin.ask("POST /readyz").await;
    assert!(response.starts_with("HTTP/1.1 405 "), "{response}");
    assert!(
        response.to_lowercase().contains("allow: get, head"),
        "{response}"
    );
    let response = admin.ask("HEAD /livez").await;
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    assert!(
        response.ends_with("\r\n\r\n"),
        "no body follows: {response}"
    );
}

#[tokio::test]
async fn nothing_but_three_paths_is_served_whatever_is_asked_for() {
    let admin = start().await;
    let head = "HTTP/1.1 404 Not Found\r\n";
    for path in [
        "/",
        "/metrics/",
        "//metrics",
        "/METRICS",
        "/metrics/../livez",
        "/%6detrics",
        "/livez/x",
        "/ws",
        "/api/rooms/r/messages",
        "/debug/pprof/heap",
        "/env",
        "/config",
        "/quit",
        "*",
        "/%2e%2e/etc/passwd",
    ] {
        for method in ["GET", "POST", "DELETE", "TRACE", "OPTIONS"] {
            let answer = admin.ask(&format!("{method} {path}")).await;
            let is_nothing = answer.starts_with(head) || answer.starts_with("HTTP/1.1 400 ");
            assert!(is_nothing, "{method} {path}: {answer}");
            assert!(!answer.contains("roomcast_"), "{method} {path}: {answer}");
        }
    }
    for path in ["/metrics", "/livez", "/readyz"] {
        for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"] {
            let answer = admin.ask(&format!("{method} {path}")).await;
            assert!(
                answer.starts_with("HTTP/1.1 405 "),
                "{method} {path}: {answer}"
            );
        }
    }
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let admin = start().await;
    let failure = listen::bind("--admin-listen", admin.address)
        .await
        .unwrap_err();
    assert_eq!(failure.code(), 69);
    assert!(
        failure.to_string().contains(&admin.address.to_string()),
        "{failure}"
    );
}

#[tokio::test]
async fn idle_connections_do_not_keep_others_out_or_the_process_alive() {
    let admin = start().await;
    let mut idle = Vec::new();
    for _ in 0..65 {
        let mut stream = TcpStream::connect(admin.address).await.unwrap();
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nHo")
            .await
            .unwrap();
        idle.push(stream);
    }
    assert!(admin.ask("GET /livez").await.starts_with("HTTP/1.1 200 "));
    admin.stop.cancel();
    timeout(LONG, admin.server)
        .await
        .expect("the server ends with connections open")
        .unwrap();
}
