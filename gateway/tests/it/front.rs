//! What stands before the clients' octets: TLS, and proxies that say whose connections they pass on.

mod certificates;
mod encrypted;
mod forwarded;
mod haproxy;
mod proxies;
mod refused;
mod reload;

use std::net::SocketAddr;
use std::sync::Arc;

use gateway::session::output::Outgoing;
use gateway::transport::{Incoming, Peer, Serve, Transport};
use harness::Authority;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;

use crate::serving::{DEADLINE, Serving, head, serving, serving_to};

/// The client's end of a connection, over TLS or not.
trait Wire: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire for S {}

/// Tells each client the address that it is held to have.
struct Tell;

impl Serve for Tell {
    fn serve<T: Transport>(
        &self,
        transport: T,
        peer: Peer,
    ) -> impl Future<Output = ()> + Send + 'static {
        tell(transport, peer)
    }
}

async fn tell(mut transport: impl Transport, peer: Peer) {
    let told = peer.address.to_string();
    transport.queue(Outgoing::Binary(told.into())).unwrap();
    while transport.next().await == Incoming::Alive {}
    transport.close(1000, "", DEADLINE).await;
}

/// A server that tells each client its address.
async fn telling(flags: &[&str]) -> Serving {
    serving_to(flags, Tell).await
}

/// A server over TLS, on which what WebSocket clients send comes back to them, and its authority.
async fn encrypted(flags: &[&str]) -> (Authority, Serving) {
    let authority = Authority::new();
    let files = tls_flags(&authority, "server");
    let files: Vec<_> = files.iter().map(String::as_str).collect();
    let serving = serving(&[&files, flags].concat()).await;
    (authority, serving)
}

/// The flags for a certificate of the loopback's addresses, in files of this name.
fn tls_flags(authority: &Authority, name: &str) -> [String; 4] {
    let server = authority.certify(name, &["127.0.0.1", "localhost"]);
    let path = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    [
        "--tls-cert".to_owned(),
        path(server.certificate),
        "--tls-key".to_owned(),
        path(server.key),
    ]
}

/// Connects from an address of the loopback's network.
async fn connect_from(address: &str, server: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    let from = SocketAddr::new(address.parse().unwrap(), 0);
    socket.bind(from).unwrap();
    socket.connect(server.parse().unwrap()).await.unwrap()
}

/// The client's side of a handshake on a connection.
async fn secure<S: Wire>(config: Arc<ClientConfig>, stream: S) -> std::io::Result<TlsStream<S>> {
    let name = "127.0.0.1".try_into().unwrap();
    let connecting = TlsConnector::from(config).connect(name, stream);
    timeout(DEADLINE, connecting).await.unwrap()
}

/// Upgrades with these header lines beside the usual ones, and reads the one short message that the
/// server then sends.
async fn told(stream: &mut impl Wire, headers: &[&str]) -> String {
    let usual = [
        "GET /ws HTTP/1.1",
        "Host: x",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let lines = usual.iter().chain(headers).chain(&["", ""]);
    let request = lines.copied().collect::<Vec<_>>().join("\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(head(stream).await.status, 101);
    let mut message = [0; 2];
    timeout(DEADLINE, stream.read_exact(&mut message))
        .await
        .unwrap()
        .unwrap();
    let mut text = vec![0; usize::from(message[1])];
    stream.read_exact(&mut text).await.unwrap();
    String::from_utf8(text).unwrap()
}

/// Reads until the server ends the connection, which may be by a reset.
async fn end(stream: &mut TcpStream) -> Vec<u8> {
    let mut octets = Vec::new();
    let read = stream.read_to_end(&mut octets);
    let _ended = timeout(DEADLINE, read).await.expect("the server ends it");
    octets
}

impl Serving {
    /// How many connections came to nothing for this reason.
    fn failures(&self, reason: &str) -> u64 {
        let failures = &self.metrics.gateway.http_failures;
        failures.with_label_values(&[reason]).get()
    }
}
