//! HTTP octet by octet, and SockJS's client side over it.

use std::collections::VecDeque;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use uuid::Uuid;

use crate::running::Running;
use crate::wire::{DEADLINE, is_like};

/// An answer whose body is still to be read.
pub(super) struct Reply {
    pub(super) status: u16,
    head: String,
    stream: BufReader<TcpStream>,
}

/// Sends a request with these headers on a connection of its own.
pub(super) async fn request(address: &str, line: &str, headers: &[&str], body: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let host = format!("Host: {address}");
    let length = format!("Content-Length: {}", body.len());
    let line = format!("{line} HTTP/1.1");
    let head = [&[&*line, &host, &length], headers].concat();
    let head = head.join("\r\n") + "\r\n\r\n";
    let octets = [head.as_bytes(), body].concat();
    // A server that has seen enough does not read the rest.
    let _ = stream.write_all(&octets).await;
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let read = timeout(DEADLINE, stream.read_line(&mut head));
        assert!(
            read.await.unwrap().unwrap() > 0,
            "the head ends in {head:?}"
        );
    }
    Reply {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head,
        stream,
    }
}

impl Reply {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// The next chunk of a body that is sent in chunks; `None` at its end.
    pub(super) async fn chunk(&mut self) -> Option<String> {
        let mut size = String::new();
        let read = timeout(DEADLINE, self.stream.read_line(&mut size));
        read.await.expect("a chunk in time").unwrap();
        let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        let read = timeout(DEADLINE, self.stream.read_exact(&mut chunk));
        read.await.unwrap().unwrap();
        chunk.truncate(size);
        (size > 0).then(|| String::from_utf8(chunk).unwrap())
    }

    /// The whole body.
    pub(super) async fn text(&mut self) -> String {
        if let Some(length) = self.header("Content-Length") {
            let mut body = vec![0; length.parse().unwrap()];
            let read = timeout(DEADLINE, self.stream.read_exact(&mut body));
            read.await.unwrap().unwrap();
            return String::from_utf8(body).unwrap();
        }
        let mut body = String::new();
        while self.header("Transfer-Encoding").is_some()
            && let Some(chunk) = self.chunk().await
        {
            body.push_str(&chunk);
        }
        body
    }
}

/// Every transport over HTTP, by the last part of its path.
pub(super) const TRANSPORTS: [&str; 5] =
    ["xhr", "xhr_streaming", "eventsource", "htmlfile", "jsonp"];

/// A client of one session over HTTP.
pub(super) struct Client<'a> {
    gateway: &'a Running,
    transport: &'static str,
    /// The path without the transport.
    pub(super) path: String,
    /// The stream that is open.
    stream: Option<Reply>,
    messages: VecDeque<String>,
    /// How many answers there have been with frames in them.
    pub(super) streams: usize,
}

impl<'a> Client<'a> {
    /// Begins a session.
    pub(super) async fn open(gateway: &'a Running, transport: &'static str) -> Self {
        let mut client = Self {
            gateway,
            transport,
            path: format!("/sockjs/000/{}", Uuid::new_v4().simple()),
            stream: None,
            messages: VecDeque::new(),
            streams: 0,
        };
        assert_eq!(client.frame().await, "o");
        client
    }

    /// Begins a session and connects, without heart-beats.
    pub(super) async fn connected(gateway: &'a Running, transport: &'static str) -> Self {
        let mut client = Self::open(gateway, transport).await;
        let connect = "CONNECT\naccept-version:1.2\nlogin:kim\n\n\0";
        client.send(&[connect]).await;
        let connected = client.message().await;
        assert!(connected.starts_with("CONNECTED\n"), "{connected:?}");
        client
    }

    /// Asks for frames.
    pub(super) async fn receive(&self) -> Reply {
        let line = match self.transport {
            "xhr" | "xhr_streaming" => format!("POST {}/{}", self.path, self.transport),
            other => format!("GET {}/{other}?c=_jp.cb", self.path),
        };
        let reply = request(&self.gateway.address, &line, &[], b"").await;
        assert_eq!(reply.status, 200, "{line}");
        reply
    }

    /// Opens a stream where none is open. Its answer has begun: it is the session's receiver.
    pub(super) async fn attach(&mut self) {
        if self.stream.is_some() {
            return;
        }
        let mut stream = self.receive().await;
        self.streams += 1;
        if !matches!(self.transport, "xhr" | "jsonp") {
            let prelude = stream.chunk().await.unwrap();
            assert!(prelude.ends_with('\n'), "{prelude:?}");
        }
        self.stream = Some(stream);
    }

    /// The next frame, for which a stream that has ended is opened again.
    pub(super) async fn frame(&mut self) -> String {
        let is_polling = matches!(self.transport, "xhr" | "jsonp");
        loop {
            self.attach().await;
            let mut stream = self.stream.take().expect("it is attached");
            if let Some(chunk) = stream.chunk().await {
                if is_polling {
                    assert_eq!(stream.chunk().await, None);
                } else {
                    self.stream = Some(stream);
                }
                return unwrap(self.transport, &chunk);
            }
        }
    }

    /// The next message.
    pub(super) async fn message(&mut self) -> String {
        while self.messages.is_empty() {
            let frame = self.frame().await;
            let messages = frame.strip_prefix('a');
            let messages = messages.unwrap_or_else(|| panic!("no messages: {frame:?}"));
            self.messages = serde_json::from_str(messages).unwrap();
        }
        self.messages.pop_front().unwrap()
    }

    /// The next message must be this text; `*` stands for any octets without a line end.
    pub(super) async fn expect(&mut self, golden: &str) {
        let text = self.message().await;
        let transport = self.transport;
        assert!(
            is_like(&text, golden),
            "\n{transport} got {text:?}\nexpected {golden:?}"
        );
    }

    /// Nothing may be left but this frame.
    pub(super) async fn expect_last(&mut self, golden: &str) {
        assert_eq!(self.messages, Vec::<String>::new());
        let transport = self.transport;
        assert_eq!(self.frame().await, golden, "{transport}");
        if let Some(mut stream) = self.stream.take() {
            assert_eq!(stream.chunk().await, None, "{transport}");
        }
    }

    /// Drops the stream that is open.
    pub(super) fn break_off(&mut self) {
        drop(self.stream.take().expect("a stream is open"));
    }

    /// Posts these messages.
    pub(super) async fn send(&self, messages: &[&str]) {
        let array = serde_json::to_string(messages).unwrap();
        let mut reply = self.post(array.as_bytes()).await;
        let (status, text) = (reply.status, reply.text().await);
        let expected = if self.transport == "jsonp" {
            (200, "ok")
        } else {
            (204, "")
        };
        assert_eq!((status, &*text), expected);
    }

    /// Posts this body.
    pub(super) async fn post(&self, body: &[u8]) -> Reply {
        let path = &self.path;
        if self.transport == "jsonp" {
            let line = format!("POST {path}/jsonp_send");
            let form = "Content-Type: application/x-www-form-urlencoded";
            let body = [b"d=", body].concat();
            let body: String = body.iter().map(|b| format!("%{b:02x}")).collect();
            let body = body.replacen("%64%3d", "d=", 1);
            return request(&self.gateway.address, &line, &[form], body.as_bytes()).await;
        }
        let line = format!("POST {path}/xhr_send");
        request(
            &self.gateway.address,
            &line,
            &["Content-Type: text/plain"],
            body,
        )
        .await
    }
}

/// The frame in what a transport writes.
fn unwrap(transport: &str, chunk: &str) -> String {
    let (before, after) = match transport {
        "eventsource" => ("data: ", "\r\n\r\n"),
        "htmlfile" => ("<script>\np(", ");\n</script>\r\n"),
        "jsonp" => ("/**/_jp.cb(", ");\r\n"),
        _ => ("", "\n"),
    };
    let inner = chunk
        .strip_prefix(before)
        .and_then(|chunk| chunk.strip_suffix(after))
        .unwrap_or_else(|| panic!("{transport}: {chunk:?}"));
    match transport {
        "htmlfile" | "jsonp" => serde_json::from_str(inner).unwrap(),
        _ => inner.to_owned(),
    }
}
