//! The server as clients from outside see it: a browser with the chat page, and @stomp/stompjs.
//! What they do and check is in `clients/`; here the server is started, killed and started again.

use std::net::SocketAddr;
use std::path::Path;

use harness::Process;
use tempfile::TempDir;

#[tokio::test]
async fn two_browsers_chat_across_a_killed_server_and_a_lost_network() {
    drive("chat.mjs").await;
}

#[tokio::test]
async fn stompjs_connects_subscribes_sends_gets_receipts_and_comes_back() {
    drive("stompjs.mjs").await;
}

/// Runs a script of `clients/` against a server, and does with the server what the script asks.
async fn drive(script: &str) {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients");
    assert!(
        clients.join("node_modules/ws").is_dir(),
        "the clients are not installed: run scripts/test"
    );
    let data = TempDir::new().unwrap();
    let mut server = start(data.path(), "127.0.0.1:0".parse().unwrap());
    let address = server.ready().await;

    let script = clients.join(script);
    let mut client = Process::run(
        "node",
        [script.as_os_str()],
        [("ROOMCAST_URL", format!("http://{address}"))],
    );
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
                server = start(data.path(), address);
                assert_eq!(server.ready().await, address);
                client.say("started").await;
            }
            _ => break,
        }
    }
    let status = client.wait().await;
    assert!(status.success(), "{status}\n{}", client.output());
}

fn start(data: &Path, listen: SocketAddr) -> Process {
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
