//! The opening handshake (RFC 6455, section 4.2): from an HTTP request to a [`Socket`].

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::answer::{Answer, error, method_not_allowed, set};
use crate::config::{Origins, Settings};
use crate::websocket::Socket;

/// Our subprotocols, highest first. Some clients offer the lowest first and would fall to it.
const SUBPROTOCOLS: [&str; 3] = ["v12.stomp", "v11.stomp", "v10.stomp"];

/// How long the connection may take to change hands once 101 is on its way.
const CHANGE: Duration = Duration::from_secs(10);

/// Line ends around a frame of the largest size, which are no part of it.
const SLACK: usize = 1 << 10;

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where the connection comes from: the client, or a proxy before it.
    pub address: SocketAddr,
    /// The subprotocol that was selected. It does not bind the STOMP version: `accept-version`
    /// does.
    pub subprotocol: Option<&'static str>,
}

/// Accepts or refuses an upgrade: 101 and the subprotocol selected, or the refusal.
///
/// A page of another origin is 403 unless it is allowed; a request without `Origin` does not come
/// from a browser's page.
pub(crate) fn answer<B>(
    request: &Request<B>,
    origins: &Origins,
) -> Result<(Answer, Option<&'static str>), Answer> {
    let headers = request.headers();
    if request.method() != Method::GET {
        return Err(method_not_allowed("GET"));
    }
    if request.version() != Version::HTTP_11
        || !has_token(headers, UPGRADE, "websocket")
        || !has_token(headers, CONNECTION, "upgrade")
    {
        return Err(upgrade_required("Connect with WebSocket: this is no page."));
    }
    if headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err(upgrade_required("The WebSocket version must be 13."));
    }
    let key = headers
        .get(SEC_WEBSOCKET_KEY)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    if !BASE64_STANDARD
        .decode(key)
        .is_ok_and(|nonce| nonce.len() == 16)
    {
        let message = "Sec-WebSocket-Key must be 16 octets in base64.";
        return Err(error(StatusCode::BAD_REQUEST, "bad-websocket-key", message));
    }
    let Some(host) = headers.get(HOST) else {
        return Err(error(
            StatusCode::BAD_REQUEST,
            "bad-host",
            "The Host header is missing.",
        ));
    };
    if let Some(origin) = headers.get(ORIGIN) {
        let allowed = origin
            .to_str()
            .is_ok_and(|origin| origins.allow(origin, host.to_str().ok()));
        if !allowed {
            let message = "Pages of this origin may not connect; --allowed-origin adds one.";
            return Err(error(StatusCode::FORBIDDEN, "bad-origin", message));
        }
    }
    let subprotocol = SUBPROTOCOLS
        .into_iter()
        .find(|subprotocol| has_token(headers, SEC_WEBSOCKET_PROTOCOL, subprotocol));

    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    set(&mut answer, UPGRADE, "websocket");
    set(&mut answer, CONNECTION, "Upgrade");
    let accept = HeaderValue::try_from(derive_accept_key(key)).expect("base64 is visible ASCII");
    answer.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(subprotocol) = subprotocol {
        set(&mut answer, SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    Ok((answer, subprotocol))
}

/// Waits until the answer is out and the connection is ours. `None` when the client has gone.
pub(crate) async fn finish(upgrade: OnUpgrade, settings: &Settings) -> Option<Socket<TcpStream>> {
    let upgraded = timeout(CHANGE, upgrade).await.ok()?.ok()?;
    // With the stream itself, instead of what the library wraps around it, there is no buffer
    // between the socket and the operating system.
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
    let stream = parts.io.into_inner();
    let max_message_bytes = settings.max_frame_bytes + SLACK;
    Some(
        Socket::new(
            stream,
            &parts.read_buf,
            max_message_bytes,
            settings.max_outbox_bytes,
        )
        .await,
    )
}

/// 426, as RFC 6455 (section 4.4) and RFC 9110 (section 15.5.22) want it.
fn upgrade_required(message: &str) -> Answer {
    let mut answer = error(StatusCode::UPGRADE_REQUIRED, "upgrade-required", message);
    set(&mut answer, UPGRADE, "websocket");
    set(&mut answer, CONNECTION, "Upgrade");
    set(&mut answer, SEC_WEBSOCKET_VERSION, "13");
    answer
}

/// Whether a header that is a list of tokens has this one.
fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|one| one.trim().eq_ignore_ascii_case(token))
}
