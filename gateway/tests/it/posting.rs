//! HTTP requests to a running gateway, octet by octet.

use serde_json::Value;
use shared::message::MessageId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::running::Running;
use crate::serving::{Answer, DEADLINE, answer, head};

impl Running {
    /// Posts JSON to a room on a connection of its own.
    pub(crate) async fn post(&self, room: &str, message: &Value) -> Answer {
        self.post_with(room, "", &[], message).await
    }

    /// Posts JSON to a room, with a query and more headers.
    pub(crate) async fn post_with(
        &self,
        room: &str,
        query: &str,
        headers: &[&str],
        message: &Value,
    ) -> Answer {
        let headers = [&["Content-Type: application/json"], headers].concat();
        let path = format!("/api/rooms/{room}/messages{query}");
        self.ask("POST", &path, &headers, message.to_string().as_bytes())
            .await
    }

    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: &[u8],
    ) -> Answer {
        let mut stream = self.connect().await;
        let headers = [&["Connection: close"], headers].concat();
        let request = self.request(method, path, &headers, body);
        stream.write_all(&request).await.unwrap();
        answer(&mut stream).await
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.unwrap()
    }

    /// A request as it stands on the wire.
    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: &[u8],
    ) -> Vec<u8> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.address);
        for header in headers {
            head += &format!("{header}\r\n");
        }
        head += &format!("Content-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    }
}

/// Reads one answer of a connection that goes on.
pub(crate) async fn next(stream: &mut TcpStream) -> Answer {
    let mut answer = head(stream).await;
    let length = answer.header("Content-Length").unwrap().parse().unwrap();
    let mut body = vec![0; length];
    timeout(DEADLINE, stream.read_exact(&mut body))
        .await
        .unwrap()
        .unwrap();
    answer.body = String::from_utf8(body).unwrap();
    answer
}

impl Answer {
    /// The id in a 201, which must be one.
    pub(crate) fn created(&self) -> MessageId {
        assert_eq!(self.status, 201, "{}", self.body);
        self.json()["id"].as_str().unwrap().parse().unwrap()
    }
}
