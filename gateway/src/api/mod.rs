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
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW,
    VARY, WWW_AUTHENTICATE,
};
use hyper::{Method, Request, StatusCode};
use percent_encoding::percent_decode_str;
use shared::message::{InvalidName, RoomName};

use self::post::Posts;
use crate::Gateway;
use crate::access::Verdict;
use crate::answer::{Answer, empty, error, method_not_allowed, set, unavailable};
use crate::auth::{AuthError, Credentials, Identity, Token};
use crate::body::Budget;
use crate::close::CloseReason;
use crate::config::Settings;
use crate::entrance::Entrance;
use crate::guard::{Guard, TurnedAway};
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
    entrance: Arc<Entrance>,
    past: Arc<Past>,
    answers: Arc<Budget>,
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
    pub(crate) fn new(settings: Arc<Settings>, entrance: Arc<Entrance>, past: Arc<Past>) -> Self {
        Self {
            settings,
            entrance,
            past,
            answers: Budget::new(history::ANSWERS),
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
        let query = &*self.entrance.auth.query(query);
        let page = self.settings.origins.judge(&head.headers);
        let mut answer = match (&head.method, &self.posts) {
            (&Method::GET | &Method::HEAD, _) => match self.identify(peer.token).await {
                Ok(who) => match charge(&self.entrance.guard, &who, 0) {
                    Ok(()) => {
                        let access = &self.entrance.access;
                        let budget = (&self.answers, peer.address.ip());
                        history::answer(room, query, &who, access, &self.past, budget).await
                    }
                    Err(away) => away.answer(),
                },
                Err(refusal) => refusal,
            },
            (&Method::POST, Some(posts)) => {
                let admitted = if page == origin::Page::Foreign {
                    Err(error(
                        StatusCode::FORBIDDEN,
                        "bad-origin",
                        "Pages of this origin may not send; --allowed-origin adds one.",
                    ))
                } else {
                    self.identify(peer.token).await
                };
                let address = peer.address.ip();
                posts
                    .answer(room, query, &head.headers, admitted, body, address)
                    .await
            }
            (&Method::OPTIONS, _) => {
                let mut answer = empty(StatusCode::NO_CONTENT);
                set(&mut answer, ALLOW, self.methods());
                set(&mut answer, ACCESS_CONTROL_ALLOW_METHODS, self.methods());
                set(
                    &mut answer,
                    ACCESS_CONTROL_ALLOW_HEADERS,
                    "Authorization, Content-Type, Idempotency-Key",
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
            set(
                &mut answer,
                ACCESS_CONTROL_EXPOSE_HEADERS,
                "Retry-After, WWW-Authenticate",
            );
            // Where a cookie counts, origins are named one by one: never any page of the web.
            if self.entrance.auth.takes_cookie() {
                set(&mut answer, ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
            }
        }
        answer
    }

    /// Who asks, or the answer to who is nobody.
    async fn identify(&self, token: Option<Token>) -> Result<Identity, Answer> {
        let credentials = Credentials { login: None, token };
        let who = self.entrance.auth.authenticate(credentials).await;
        who.map_err(unauthorized)
    }

    fn methods(&self) -> &'static str {
        if self.posts.is_some() {
            "GET, HEAD, POST, OPTIONS"
        } else {
            "GET, HEAD, OPTIONS"
        }
    }
}

/// Counts a request of who asks, with so many octets. The application itself has no limit.
fn charge(guard: &Guard, who: &Identity, octets: usize) -> Result<(), TurnedAway> {
    if who.is_backend {
        return Ok(());
    }
    guard.request_by(&who.user, octets)
}

/// The room that stands percent-encoded in a path.
fn room(encoded: &str) -> Result<RoomName, InvalidName> {
    RoomName::parse(&percent_decode_str(encoded).decode_utf8_lossy())
}

/// 401 (RFC 6750, section 3), or 503 where nobody can say who is who.
fn unauthorized(reason: AuthError) -> Answer {
    let (code, message) = (reason.reason().code(), reason.reason().message());
    let challenge = match reason {
        AuthError::Unavailable => return unavailable(code, message),
        AuthError::Missing => "Bearer",
        AuthError::Invalid => "Bearer error=\"invalid_token\"",
        AuthError::Expired => {
            "Bearer error=\"invalid_token\", error_description=\"The token has expired\""
        }
    };
    let mut answer = error(StatusCode::UNAUTHORIZED, code, message);
    set(&mut answer, WWW_AUTHENTICATE, challenge);
    answer
}

/// The answer to who may not, where that is so: 403, or 503 where nobody can say. It is the same for
/// every room.
fn denied(verdict: Verdict) -> Option<Answer> {
    let reason = verdict.denial()?;
    let (code, message) = (reason.code(), reason.message());
    Some(match reason {
        CloseReason::Forbidden => error(StatusCode::FORBIDDEN, code, message),
        _ => unavailable(code, message),
    })
}

/// 400: something about the request itself, but for its body.
fn bad_request(message: &str) -> Answer {
    error(StatusCode::BAD_REQUEST, "bad-request", message)
}
