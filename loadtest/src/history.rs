//! Reads the whole history of a room over HTTP.

use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use shared::message::{MessageId, Stamp};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::GatewayUrl;
use crate::pass::Pass;

/// Messages of one page.
const PAGE: usize = 200;

/// The largest answer that is read, in octets.
const MAX_ANSWER: usize = 1 << 30;

/// How long to wait before asking again.
const PAUSE: Duration = Duration::from_millis(200);

/// A message as the history has it.
#[derive(Debug)]
pub(crate) struct Stored {
    /// Its id.
    pub id: MessageId,
    /// Who sent it.
    pub sender: String,
    /// Its text; empty where it is none.
    pub body: String,
}

/// Why a history could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HistoryError {
    /// No connection.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// No HTTP.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// The answer broke off, or was too large.
    #[error("{0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// The gateway refused.
    #[error("the gateway answered with status {0}")]
    Status(StatusCode),
    /// The answer is no page.
    #[error("the answer is no page of history: {0}")]
    Json(#[from] serde_json::Error),
    /// A message's id is none, or the next page does not continue the last one.
    #[error("the pages of the history do not follow each other")]
    Disorder,
    /// The gateway did not answer, or said until the end that messages may be missing.
    #[error("the gateway had no complete history in time")]
    Deadline,
}

/// Every message of a room, in the order in which the gateway names them, as `user` reads it. Reads again while there
/// are fewer than `least`, as long as there is time.
///
/// # Errors
/// [`HistoryError`] when it cannot be read to its end.
pub(crate) async fn read(
    gateway: &GatewayUrl,
    pass: &Pass,
    user: &str,
    room: &str,
    least: usize,
    deadline: Instant,
) -> Result<Vec<Stored>, HistoryError> {
    let token = pass.token(user);
    let reading = async {
        let stream = TcpStream::connect(gateway.authority()).await?;
        let stream = pass.secure(gateway, stream).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends when `sender` is dropped; what it fails with, the request fails with too.
        tokio::spawn(connection);
        loop {
            let all = read_once(&mut sender, gateway.authority(), token.as_deref(), room).await?;
            if all.len() >= least || Instant::now() + PAUSE >= deadline {
                return Ok(all);
            }
            sleep(PAUSE).await;
        }
    };
    timeout_at(deadline, reading)
        .await
        .unwrap_or(Err(HistoryError::Deadline))
}

async fn read_once(
    sender: &mut http1::SendRequest<Empty<Bytes>>,
    authority: &str,
    token: Option<&str>,
    room: &str,
) -> Result<Vec<Stored>, HistoryError> {
    let mut all = Vec::<Stored>::new();
    // Before any message: the id of the first millisecond of 1970.
    let mut after = MessageId::new(Stamp { ms: 0, seq: 0 }, 0);
    loop {
        let mut request = Request::get(format!(
            "/api/rooms/{room}/messages?limit={PAGE}&after={after}"
        ))
        .header(HOST, authority);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request
            .body(Empty::new())
            .expect("rooms and ids need no escape in a path, nor tokens in a header");
        // The connection takes a request only once the answer before it is read to its end.
        sender.ready().await?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(HistoryError::Body)?.to_bytes();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            sleep(PAUSE).await;
            continue;
        }
        if status != StatusCode::OK {
            return Err(HistoryError::Status(status));
        }
        let page: Page = serde_json::from_slice(&body)?;
        if !page.complete {
            sleep(PAUSE).await;
            continue;
        }
        let count = page.messages.len();
        for PageMessage { id, sender, body } in page.messages {
            let id = id.parse().map_err(|_| HistoryError::Disorder)?;
            all.push(Stored { id, sender, body });
        }
        if count < PAGE {
            return Ok(all);
        }
        // A page that starts over would be read for ever.
        match all.last() {
            Some(last) if last.id > after => after = last.id,
            _ => return Err(HistoryError::Disorder),
        }
    }
}

#[derive(Deserialize)]
struct Page {
    messages: Vec<PageMessage>,
    complete: bool,
}

#[derive(Deserialize)]
struct PageMessage {
    id: String,
    sender: String,
    #[serde(default)]
    body: String,
}
