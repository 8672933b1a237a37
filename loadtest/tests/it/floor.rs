//! What figures are compared with does its work, and no less than that.

use harness::{Process, Rabbitmq};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn floor() -> Process {
    Process::spawn("loadtest", ["floor", "--listen", "127.0.0.1:0"])
}

async fn run(flags: &str, url: &str) -> (bool, String) {
    let flags = flags.split_whitespace().chain(["--gateway", url]);
    let mut loadtest = Process::spawn("loadtest", flags);
    let status = loadtest.wait().await;
    (status.success(), loadtest.output())
}

#[tokio::test]
async fn the_floor_delivers_everything_once_and_in_order() {
    let floor = floor();
    let url = format!("ws://{}/ws", floor.ready().await);
    let pid = format!("as process {}", floor.pid());
    floor.line(|line| line.ends_with(&pid)).await;
    for flags in [
        "pairs --users 20 --rate 200 --duration 1s",
        "fanout --users 60 --room-size 30 --rate 100 --duration 1s --body-bytes 70000",
        "idle --connections 100 --subscribe --hold 1s",
    ] {
        let (ok, output) = run(flags, &url).await;
        assert!(ok, "{flags}: {output}");
    }
}

#[tokio::test]
async fn the_floor_ends_who_speaks_something_else_and_goes_on() {
    let floor = floor();
    let address = floor.ready().await;
    let mut stranger = TcpStream::connect(address).await.unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    stranger.read_to_end(&mut answer).await.unwrap();
    assert!(answer.is_empty(), "{answer:?}");
    let url = format!("ws://{address}/ws");
    let (ok, output) = run("pairs --users 4 --rate 50 --duration 1s", &url).await;
    assert!(ok, "{output}");
}

#[tokio::test]
async fn rabbitmq_delivers_everything_and_leaves_no_process_behind() {
    let rabbitmq = Rabbitmq::start().await;
    let flags = "pairs --server rabbitmq --users 20 --rate 100 --duration 2s";
    let (ok, output) = run(flags, &rabbitmq.url()).await;
    assert!(ok, "{output}\n{}", rabbitmq.log());
    let started = rabbitmq.processes();
    assert_eq!(started.len(), 2, "the broker and its name server");
    drop(rabbitmq);
    for process in started {
        let line = std::fs::read(format!("/proc/{process}/cmdline"));
        assert!(line.unwrap_or_default().is_empty(), "{process} goes on");
    }
}
