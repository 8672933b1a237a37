//! The HTTP API: `/api/rooms/{room}/messages`, a room's past by GET and a back end's way in by POST.
//!
//! `openapi.json` describes it, served at `/api/openapi.json`. Every error is
//! `{"error":{"code":…,"message":…}}`.

mod draft;
mod history;
mod post;

use std::sync::Arc;

use hyper::body::Body;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, VARY,
};
use hyper::{Method, Request, StatusCode};
use percent_encoding::percent_decode_str;
use shared::message::{InvalidName, RoomName};

use self::post::Posts;
use crate::Gateway;
use crate::answer::{Answer, empty, error, method_not_allowed, set};
use crate::config::Settings;
use crate::origin;
use crate::pages::Page;
use crate::past::Past;
use crate::transport::Peer;

/// The description of this API, as OpenAPI 3.1.
pub(crate) const DESCRIPTION: Page = Page {
    path: "/api/openapi.json",
    content_type: "application/json",
    body: include_bytes!("openapi.json"),
};

/// The API of one server.
pub(crate) struct Api {
    settings: Arc<Settings>,
    past: Arc<Past>,
    posts: Option<Posts>,
}

/// The room in a path of this API, still percent-encoded; `None` for other paths.
pub(crate) fn room_in(path: &str) -> Option<&str> {
    let room = path
        .strip_prefix("/api/rooms/")?
        .strip_suffix("/messages")?;
    (!room.contains('/')).then_some(room)
}

impl Api {
    /// The past only.
    pub(crate) fn new(settings: Arc<Settings>, past: Arc<Past>) -> Self {
        Self {
            settings,
            past,
            posts: None,
        }
    }

    /// The past, and messages for this gateway to publish.
    pub(crate) fn publishing(self, gateway: Arc<Gateway>) -> Self {
        Self {
            posts: Some(Posts::new(gateway)),
            ..self
        }
    }

    /// Answers a request to `room` (percent-encoded).
    pub(crate) async fn answer<B: Body>(
        &self,
        room: &str,
        request: Request<B>,
        peer: Peer,
    ) -> Answer {
        let (head, body) = request.into_parts();
        let query = head.uri.query().unwrap_or_default();
        let page = self.settings.origins.judge(&head.headers);
        let mut answer = match (&head.method, &self.posts) {
            (&Method::GET | &Method::HEAD, _) => history::answer(room, query, &self.past).await,
            (&Method::POST, Some(posts)) => {
                let is_allowed = page != origin::Page::Foreign;
                posts
                    .answer(room, is_allowed, &head, body, peer.address.ip())
                    .await
            }
            (&Method::OPTIONS, _) => {
                let mut answer = empty(StatusCode::NO_CONTENT);
                set(&mut answer, ALLOW, self.methods());
                set(&mut answer, ACCESS_CONTROL_ALLOW_METHODS, self.methods());
                set(
                    &mut answer,
                    ACCESS_CONTROL_ALLOW_HEADERS,
                    "Content-Type, Idempotency-Key",
                );
                set(&mut answer, ACCESS_CONTROL_MAX_AGE, "600");
                answer
            }
            _ => method_not_allowed(self.methods()),
        };
        // The answer differs by origin, which a cache between has to know also where there is none.
        set(&mut answer, VARY, "Origin");
        if let origin::Page::Allowed(origin) = page {
            answer
                .headers_mut()
                .insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            set(&mut answer, ACCESS_CONTROL_EXPOSE_HEADERS, "Retry-After");
        }
        answer
    }

    fn methods(&self) -> &'static str {
        if self.posts.is_some() {
            "GET, HEAD, POST, OPTIONS"
        } else {
            "GET, HEAD, OPTIONS"
        }
    }
}

/// The room that stands percent-encoded in a path.
fn room(encoded: &str) -> Result<RoomName, InvalidName> {
    RoomName::parse(&percent_decode_str(encoded).decode_utf8_lossy())
}

/// 400: something about the request itself, but for its body.
fn bad_request(message: &str) -> Answer {
    error(StatusCode::BAD_REQUEST, "bad-request", message)
}
