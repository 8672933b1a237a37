//! What an endpoint answers without a session: the greeting, `/info` and the frame for browsers
//! without CORS (protocol 0.3.3, section "Static URLs").

use std::str::FromStr;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_SECURITY_POLICY, ETAG, HeaderMap, HeaderValue};
use serde_json::json;
use uuid::Uuid;

use super::access::{set_cached, set_not_cached};
use crate::answer::{Answer, empty, with_body};
use crate::config::{AllowedOrigin, Origins};
use crate::tag::{is_known, tag};

/// Where the frame loads SockJS's client from: `--sockjs-client-url`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientUrl(Box<str>);

impl FromStr for ClientUrl {
    type Err = ClientUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_url = ["/", "https://", "http://"]
            .iter()
            .any(|start| text.starts_with(start));
        let odd = |c: char| !c.is_ascii_graphic() || "\"'<>&\\`".contains(c);
        if !is_url || text.contains(odd) {
            return Err(ClientUrlError);
        }
        Ok(Self(text.into()))
    }
}

/// Why a text is no URL for a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the URL of a script begins with https://, http:// or /, and has no quote or & in it")]
pub struct ClientUrlError;

/// Tells people that the URL is right.
pub(super) fn greeting() -> Answer {
    with_body(
        StatusCode::OK,
        "text/plain; charset=UTF-8",
        Bytes::from_static(b"Welcome to SockJS!\n"),
    )
}

/// What a client asks first: what there is here, and a number that cannot be guessed.
pub(super) fn info(websocket: bool, cookie_needed: bool) -> Answer {
    let (entropy, ..) = Uuid::new_v4().as_fields();
    let info = json!({
        "websocket": websocket,
        "origins": ["*:*"],
        "cookie_needed": cookie_needed,
        "entropy": entropy,
    });
    let mut answer = with_body(
        StatusCode::OK,
        "application/json; charset=UTF-8",
        info.to_string().into(),
    );
    set_not_cached(&mut answer);
    answer
}

/// The page that a client in a page of another origin opens as a frame, to speak from ours.
pub(super) struct Iframe {
    body: Bytes,
    tag: HeaderValue,
    policy: HeaderValue,
}

impl Iframe {
    /// The page that loads this client, in frames of pages of these origins.
    pub(super) fn new(ClientUrl(url): &ClientUrl, origins: &Origins) -> Self {
        let body = format!(
            r#"<!DOCTYPE html>
<html>
<head>
  <meta http-equiv="X-UA-Compatible" content="IE=edge" />
  <meta http-equiv="Content-Type" content="text/html; charset=UTF-8" />
  <script src="{url}"></script>
  <script>
    document.domain = document.domain;
    SockJS.bootstrap_iframe();
  </script>
</head>
<body>
  <h2>Don't panic!</h2>
  <p>This is a SockJS hidden iframe. It's used for cross domain magic.</p>
</body>
</html>
"#
        );
        let mut ancestors = String::from("frame-ancestors 'self'");
        for origin in &origins.0 {
            ancestors.push(' ');
            ancestors.push_str(match origin {
                AllowedOrigin::Any => "*",
                AllowedOrigin::One(one) => one,
            });
        }
        let tag = tag(&(&body, &ancestors));
        Self {
            body: body.into(),
            tag,
            // An origin that no header can name has no page either.
            policy: HeaderValue::try_from(ancestors)
                .unwrap_or(HeaderValue::from_static("frame-ancestors 'self'")),
        }
    }

    /// The page, or that the browser has it.
    pub(super) fn answer(&self, headers: &HeaderMap) -> Answer {
        let mut answer = if is_known(&self.tag, headers) {
            empty(StatusCode::NOT_MODIFIED)
        } else {
            with_body(
                StatusCode::OK,
                "text/html; charset=UTF-8",
                self.body.clone(),
            )
        };
        set_cached(&mut answer);
        answer.headers_mut().insert(ETAG, self.tag.clone());
        answer
            .headers_mut()
            .insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::ClientUrl;

    #[test]
    fn the_url_of_a_script_cannot_leave_its_attribute() {
        for url in ["/sockjs.js", "https://cdn.example/sockjs@1/sockjs.min.js"] {
            assert!(url.parse::<ClientUrl>().is_ok(), "{url}");
        }
        for url in [
            "",
            "sockjs.js",
            "javascript:alert(1)",
            "/a\"b",
            "/a b",
            "/<",
        ] {
            assert!(url.parse::<ClientUrl>().is_err(), "{url}");
        }
    }
}
