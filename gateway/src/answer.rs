//! HTTP answers, for every route alike.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use serde_json::json;

/// An answer. Its body is in memory, or a stream that SockJS feeds.
pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Empty::new().boxed_unsync());
    *answer.status_mut() = status;
    answer
}

/// A body with its type, which browsers are told not to guess.
pub(crate) fn with_body(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body).boxed_unsync());
    *answer.status_mut() = status;
    set(&mut answer, CONTENT_TYPE, content_type);
    set(&mut answer, X_CONTENT_TYPE_OPTIONS, "nosniff");
    answer
}

/// JSON that no cache keeps.
pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = with_body(status, "application/json", body.into());
    set(&mut answer, CACHE_CONTROL, "no-store");
    answer
}

/// `{"error":{"code":…,"message":…}}`: a code for programs, a sentence for people.
pub(crate) fn error(status: StatusCode, code: &'static str, message: &str) -> Answer {
    json(
        status,
        json!({"error": {"code": code, "message": message}}).to_string(),
    )
}

/// 405, with the methods that there are.
pub(crate) fn method_not_allowed(allowed: &'static str) -> Answer {
    let message = format!("The methods here are {allowed}.");
    let mut answer = error(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        &message,
    );
    set(&mut answer, ALLOW, allowed);
    answer
}

/// 503, to be tried again in some seconds.
pub(crate) fn unavailable(code: &'static str, message: &str) -> Answer {
    let mut answer = error(StatusCode::SERVICE_UNAVAILABLE, code, message);
    set(&mut answer, RETRY_AFTER, "5");
    answer
}

/// Sets a header to a value known when the program is built.
pub(crate) fn set(answer: &mut Answer, name: HeaderName, value: &'static str) {
    answer
        .headers_mut()
        .insert(name, HeaderValue::from_static(value));
}
