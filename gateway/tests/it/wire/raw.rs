//! What a WebSocket library would not send: other subprotocols, fragments, octets.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::running::Running;
use crate::wire::{DEADLINE, Wire};

/// FIN and the opcodes of RFC 6455, section 5.2.
pub(crate) const FIN: u8 = 0x80;
pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;

/// A WebSocket frame as a client sends it: `first` is FIN, RSV and opcode; the mask is zero.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut octets = vec![first];
    match payload.len() {
        length @ 0..126 => octets.push(0x80 | length as u8),
        length @ 126..0x1_0000 => {
            octets.push(0x80 | 126);
            octets.extend((length as u16).to_be_bytes());
        }
        length => {
            octets.push(0x80 | 127);
            octets.extend((length as u64).to_be_bytes());
        }
    }
    octets.extend([0; 4]);
    octets.extend(payload);
    octets
}

/// Asks for an upgrade with these header lines beside the usual ones: the answer's head, and the
/// connection.
pub(crate) async fn request(gateway: &Running, lines: &[&str]) -> (String, TcpStream) {
    let stream = TcpStream::connect(&gateway.address).await.unwrap();
    request_on(stream, gateway, lines).await
}

/// Reads to the end of an answer's head.
pub(crate) async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let octet = timeout(DEADLINE, stream.read_u8()).await;
        head.push(octet.expect("an answer in time").unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn request_on(
    mut stream: TcpStream,
    gateway: &Running,
    lines: &[&str],
) -> (String, TcpStream) {
    let host = format!("Host: {}", gateway.address);
    let usual = [
        "GET /ws HTTP/1.1",
        &host,
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let request = [&usual, lines, &["", ""]].concat().join("\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    (head(&mut stream).await, stream)
}

impl Wire {
    /// Upgrades with these subprotocols on offer: the one that is selected, and the client.
    pub(crate) async fn offering(gateway: &Running, offered: &[&str]) -> (Option<String>, Self) {
        let line = format!("Sec-WebSocket-Protocol: {}", offered.join(", "));
        let lines = if offered.is_empty() {
            vec![]
        } else {
            vec![&*line]
        };
        let (head, stream) = request(gateway, &lines).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let selected = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-protocol"))
            .map(|(_, value)| value.to_owned());
        let socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
        (selected, Self { socket })
    }

    /// Upgrades on a socket that holds little of what is not read.
    pub(crate) async fn narrow(gateway: &Running) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        let address = gateway.address.parse().unwrap();
        let stream = socket.connect(address).await.unwrap();
        let (head, stream) = request_on(stream, gateway, &[]).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
        Self { socket }
    }

    /// Writes octets past the WebSocket library.
    pub(crate) async fn raw(&mut self, octets: &[u8]) {
        self.try_raw(octets).await.unwrap();
    }

    /// As [`raw`](Self::raw), where the server may have gone.
    pub(crate) async fn try_raw(&mut self, octets: &[u8]) -> std::io::Result<()> {
        self.socket.get_mut().write_all(octets).await
    }

    /// Sends one message in fragments; `opcode` is the first one's.
    pub(crate) async fn fragments(&mut self, opcode: u8, parts: &[&[u8]]) {
        let last = parts.len() - 1;
        let mut octets = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let opcode = if at == 0 { opcode } else { CONTINUATION };
            let fin = if at == last { FIN } else { 0 };
            octets.extend(masked(fin | opcode, part));
        }
        self.raw(&octets).await;
    }

    /// The server must end the connection with this ERROR and close code; `*` in the detail is as
    /// in [`expect`](Self::expect).
    pub(crate) async fn expect_error(&mut self, code: &str, detail: &str, close: u16) {
        let lines = format!("message:*\ncode:{code}\ncontent-type:text/plain\n");
        let golden = format!("ERROR\n{lines}content-length:*\n\n{detail}\0");
        self.expect(&golden).await;
        self.expect_close(close).await;
    }
}
