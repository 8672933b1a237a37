//! What one client, one address and all together may take, as who wants more meets it.

mod bodies;
mod descriptors;
mod http;
mod memory;
mod shares;

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::running::Running;

/// A connection from one of this machine's addresses, `127.0.0.x`.
async fn from(x: u8, gateway: &Running) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, x], 0))).unwrap();
    let address = gateway.address.parse().unwrap();
    socket.connect(address).await.unwrap()
}

/// The same, on which something is asked.
async fn ask_from(x: u8, gateway: &Running, request: &[u8]) -> TcpStream {
    let mut stream = from(x, gateway).await;
    stream.write_all(request).await.unwrap();
    stream
}

fn turned_away(gateway: &Running, reason: &str) -> u64 {
    let counter = &gateway.metrics.gateway.turned_away;
    counter.with_label_values(&[reason]).get()
}
