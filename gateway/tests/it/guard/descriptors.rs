//! A process that has no descriptor left.

use std::net::SocketAddr;
use std::time::Duration;

use harness::{Process, Redis, StompClient, StompOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What the operators' page at this path says.
async fn admin(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    let read = timeout(Duration::from_secs(20), stream.read_to_string(&mut text));
    read.await.expect("an answer in time").unwrap();
    text
}

/// The clock ticks for which a process has had a processor (proc(5)).
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    [11, 12]
        .iter()
        .map(|at| fields[*at].parse::<u64>().unwrap())
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_descriptors_accepting_pauses_and_goes_on_when_there_are_some() {
    let redis = Redis::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}", folder.path().join("chat.db").display());
    let script = "ulimit -n 128 && exec \"$0\" \"$@\"";
    let url = redis.url();
    let args = [
        "-c",
        script,
        env!("CARGO_BIN_EXE_gateway"),
        "--broker",
        &url,
        "--store",
        &file,
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
        "--connect-deadline",
        "1h",
    ];
    let mut gateway = Process::run("sh", args, [("RUST_LOG", "info")]);
    gateway.line(|line| line.contains("ulimit -n")).await;
    let (address, operators) = (gateway.ready().await, gateway.admin().await);

    // More than there are descriptors: who is not accepted waits in the system's queue.
    let mut hostile = Vec::new();
    for _ in 0..120 {
        hostile.push(TcpStream::connect(address).await.unwrap());
    }
    gateway
        .line(|line| line.contains("accepting connections pauses"))
        .await;
    let before = ticks(gateway.pid());
    for _ in 0..50 {
        // Operators are answered all the while.
        assert!(admin(operators, "/readyz").await.contains("ready"));
    }
    let metrics = admin(operators, "/metrics").await;
    assert!(
        metrics.contains("roomcast_gateway_accept_pauses_total 1\n"),
        "{metrics}"
    );
    let spent = ticks(gateway.pid()) - before;
    assert!(spent < 100, "{spent} hundredths of a second: it spins");

    drop(hostile);
    let url = format!("ws://{address}/ws");
    let mut honest = StompClient::connect(&url, StompOptions::login("kim"))
        .await
        .unwrap();
    honest.subscribe("0", "/topic/rooms/r", &[]).await.unwrap();
    gateway
        .line(|line| line.contains("connections are accepted again"))
        .await;
    let pauses = gateway
        .output()
        .matches("accepting connections pauses")
        .count();
    assert_eq!(pauses, 1, "it is told once");
    assert!(gateway.runs());
}
