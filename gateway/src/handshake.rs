//! The opening handshake (RFC 6455, section 4.2): from an HTTP request to a [`Socket`].

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::answer::{Answer, empty, error, method_not_allowed, set};
use crate::config::Origins;
use crate::front::Stream;
use crate::origin::Page;
use crate::transport::TransportName;
use crate::websocket::Socket;

/// Our subprotocols, highest first. Some clients offer the lowest first and would fall to it.
const SUBPROTOCOLS: [&str; 3] = ["v12.stomp", "v11.stomp", "v10.stomp"];

/// How long the connection may take to change hands once 101 is on its way.
const CHANGE: Duration = Duration::from_secs(10);

/// Line ends around a frame of the largest size, which are no part of it.
pub(crate) const SLACK: usize = 1 << 10;

/// An upgrade that is granted.
pub(crate) struct Grant {
    accept: HeaderValue,
    /// The subprotocol selected.
    pub(crate) subprotocol: Option<&'static str>,
}

impl Grant {
    /// 101.
    pub(crate) fn answer(self) -> Answer {
        let mut answer = empty(StatusCode::SWITCHING_PROTOCOLS);
        set(&mut answer, UPGRADE, "websocket");
        set(&mut answer, CONNECTION, "Upgrade");
        answer
            .headers_mut()
            .insert(SEC_WEBSOCKET_ACCEPT, self.accept);
        if let Some(subprotocol) = self.subprotocol {
            set(&mut answer, SEC_WEBSOCKET_PROTOCOL, subprotocol);
        }
        answer
    }
}

/// Checks a request for a WebSocket.
///
/// A page of another origin is refused unless it is allowed; a request without `Origin` does not
/// come from a page.
pub(crate) fn check<B>(request: &Request<B>, origins: &Origins) -> Result<Grant, Refusal> {
    let headers = request.headers();
    if request.method() != Method::GET {
        return Err(Refusal::Method);
    }
    if request.version() != Version::HTTP_11
        || !has_token(headers, UPGRADE, "websocket")
        || !has_token(headers, CONNECTION, "upgrade")
    {
        return Err(Refusal::NoUpgrade);
    }
    if headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err(Refusal::Version);
    }
    let key = headers
        .get(SEC_WEBSOCKET_KEY)
        .ok_or(Refusal::Key)?
        .as_bytes();
    if !BASE64_STANDARD
        .decode(key)
        .is_ok_and(|nonce| nonce.len() == 16)
    {
        return Err(Refusal::Key);
    }
    if !headers.contains_key(HOST) {
        return Err(Refusal::Host);
    }
    if origins.judge(headers) == Page::Foreign {
        return Err(Refusal::Origin);
    }
    Ok(Grant {
        accept: HeaderValue::try_from(derive_accept_key(key)).expect("base64 is visible ASCII"),
        subprotocol: SUBPROTOCOLS.into_iter().find(|subprotocol| {
            // Exactly: a client fails what it has not offered (RFC 6455, section 4.1).
            tokens(headers, SEC_WEBSOCKET_PROTOCOL).any(|one| one == *subprotocol)
        }),
    })
}

/// Why a request is no upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("Connect with GET.")]
    Method,
    #[error("Connect with WebSocket: this is no page.")]
    NoUpgrade,
    #[error("The WebSocket version must be 13.")]
    Version,
    #[error("Sec-WebSocket-Key must be 16 octets in base64.")]
    Key,
    #[error("The Host header is missing.")]
    Host,
    #[error("Pages of this origin may not connect; --allowed-origin adds one.")]
    Origin,
}

impl Refusal {
    /// The answer. 426 is as RFC 6455 (section 4.4) and RFC 9110 (section 15.5.22) want it.
    pub(crate) fn answer(self) -> Answer {
        let message = self.to_string();
        match self {
            Self::Method => method_not_allowed("GET"),
            Self::NoUpgrade | Self::Version => {
                let mut answer = error(StatusCode::UPGRADE_REQUIRED, "upgrade-required", &message);
                set(&mut answer, UPGRADE, "websocket");
                set(&mut answer, CONNECTION, "Upgrade");
                set(&mut answer, SEC_WEBSOCKET_VERSION, "13");
                answer
            }
            Self::Key => error(StatusCode::BAD_REQUEST, "bad-websocket-key", &message),
            Self::Host => error(StatusCode::BAD_REQUEST, "bad-host", &message),
            Self::Origin => error(StatusCode::FORBIDDEN, "bad-origin", &message),
        }
    }
}

/// Waits until the answer is out and the connection is ours, then takes messages and queues them as
/// [`Socket::new`] says. `None` when the client has gone.
pub(crate) async fn finish(
    upgrade: OnUpgrade,
    name: TransportName,
    max_message_bytes: usize,
    max_queued_bytes: usize,
) -> Option<Socket<Stream>> {
    let upgraded = timeout(CHANGE, upgrade).await.ok()?.ok()?;
    // With the stream itself, instead of what the library wraps around it, there is no buffer
    // between the socket and the operating system.
    let parts = upgraded.downcast::<TokioIo<Stream>>().ok()?;
    let stream = parts.io.into_inner();
    Some(Socket::new(
        stream,
        &parts.read_buf,
        name,
        max_message_bytes,
        max_queued_bytes,
    ))
}

/// Whether a header that is a list of tokens has this one, in whatever case.
fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|one| one.eq_ignore_ascii_case(token))
}

fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}
