//! What an attacker, an operator's log or a page of figures must never learn, and names that are meant
//! to be taken for something else.

mod injection;
mod lines;
mod secrets;
mod strangers;
mod tokens;

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Sends octets on a connection of its own, and reads the answer until the server closes it.
async fn answer_to(address: &str, octets: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server that has seen enough does not read the rest.
    let _ = stream.write_all(octets).await;
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer));
    let _ = read.await.expect("an answer in time");
    String::from_utf8_lossy(&answer).into_owned()
}

/// The same for a request by its line and headers, without a body.
async fn request(address: &str, line: &str, headers: &[&str]) -> String {
    let host = format!("Host: {address}");
    let head = [&[line, &host, "Connection: close"], headers, &["", ""]].concat();
    answer_to(address, head.join("\r\n").as_bytes()).await
}
