//! The server as clients from outside see it: a browser with the chat page, and @stomp/stompjs.
//! What they do and check is in `clients/`; here the server is started, killed and started again.

use std::net::SocketAddr;
use std::path::Path;

use harness::{Mongo, Process, Redis};
use tempfile::TempDir;

#[tokio::test]
async fn two_browsers_chat_across_a_killed_server_and_a_lost_network() {
    let data = TempDir::new().unwrap();
    drive("chat.mjs", |listen| standalone(data.path(), listen)).await;
}

#[tokio::test]
async fn stompjs_connects_subscribes_sends_gets_receipts_and_comes_back() {
    let data = TempDir::new().unwrap();
    drive("stompjs.mjs", |listen| standalone(data.path(), listen)).await;
}

#[tokio::test]
async fn stompjs_finds_the_same_in_a_gateway_on_redis_and_mongodb() {
    let redis = Redis::start().await;
    let mongo = Mongo::start().await;
    let (broker, store) = (redis.url(), mongo.url(&Mongo::database()));
    let shared = [
        "--broker",
        &broker,
        "--store",
        &store,
        "--admin-listen",
        "127.0.0.1:0",
    ];
    let _persister = Process::spawn("persister", shared);
    drive("stompjs.mjs", |listen| {
        let listen = listen.to_string();
        Process::spawn("gateway", shared.iter().chain(&["--listen", &listen]))
    })
    .await;
}

#[tokio::test]
async fn the_page_keeps_messages_once_and_in_order_whatever_a_server_answers() {
    let mut client = script("scripted.mjs", "");
    let status = client.wait().await;
    assert!(status.success(), "{status}\n{}", client.output());
}

/// Runs a script against a server, and does with the server what the script asks.
async fn drive(name: &str, start: impl Fn(SocketAddr) -> Process) {
    let mut server = start("127.0.0.1:0".parse().unwrap());
    let address = server.ready().await;
    let mut client = script(name, &format!("http://{address}"));
    loop {
        let line = client
            .next_line(|line| line.starts_with("ask ") || line == "done")
            .await;
        match line.as_str() {
            "ask kill" => {
                server.kill().await;
                client.say("killed").await;
            }
            "ask start" => {
                server = start(address);
                assert_eq!(server.ready().await, address);
                client.say("started").await;
            }
            _ => break,
        }
    }
    let status = client.wait().await;
    assert!(status.success(), "{status}\n{}", client.output());
}

/// Starts a script of `clients/`.
fn script(name: &str, url: &str) -> Process {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients");
    assert!(
        clients.join("node_modules/playwright-core").is_dir(),
        "the clients are not installed: run scripts/test"
    );
    Process::run("node", [clients.join(name)], [("ROOMCAST_URL", url)])
}

fn standalone(data: &Path, listen: SocketAddr) -> Process {
    Process::spawn(
        "roomcast",
        [
            "--data-dir",
            data.to_str().unwrap(),
            "--listen",
            &listen.to_string(),
            "--admin-listen",
            "127.0.0.1:0",
        ],
    )
}
