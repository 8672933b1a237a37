//! A server to test, and ways to ask it.

use std::net::SocketAddr;
use std::path::Path;

use harness::{Process, StompClient, StompOptions};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The file in a server's folder.
pub(crate) const FILE: &str = "messages.db";

/// Starts one on this folder, with further flags.
pub(crate) async fn start(folder: &Path, more: &[&str]) -> Process {
    let folder = folder.to_str().unwrap();
    let flags = [
        "--data-dir",
        folder,
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
    ];
    Process::spawn("roomcast", flags.iter().chain(more))
}

/// A client that has connected.
pub(crate) async fn client(server: &Process, user: &str) -> StompClient {
    let url = format!("ws://{}/ws", server.ready().await);
    StompClient::connect(&url, StompOptions::login(user))
        .await
        .unwrap()
}

/// The status and the body of a page.
pub(crate) async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    (status, body.to_owned())
}

/// What a room's history has: each message's id and body, in its order.
pub(crate) async fn history(server: &Process, room: &str) -> Vec<(String, String)> {
    let address = server.ready().await;
    let mut all: Vec<(String, String)> = Vec::new();
    loop {
        let after = all
            .last()
            .map_or("00000000-0000-7000-8000-000000000000", |(id, _)| {
                id.as_str()
            });
        let path = format!("/api/rooms/{room}/messages?limit=100&after={after}");
        let (status, body) = get(address, &path).await;
        assert_eq!(status, 200, "{body}");
        let page: Value = serde_json::from_str(&body).unwrap();
        let messages = page["messages"].as_array().unwrap();
        if messages.is_empty() {
            return all;
        }
        all.extend(messages.iter().map(|message| {
            let text = |field: &str| message[field].as_str().unwrap().to_owned();
            (text("id"), text("body"))
        }));
    }
}
