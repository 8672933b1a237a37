//! Files that the program carries inside it: the chat page of the standalone server.

use std::collections::HashMap;

use bytes::Bytes;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, HeaderMap, HeaderName, HeaderValue,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{Method, StatusCode};

use crate::answer::{Answer, empty, method_not_allowed, set, with_body};
use crate::tag::{is_known, tag};

/// Only scripts, styles, images and workers that this server itself serves are loaded, only it is
/// spoken with, and no page may frame one of these.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; worker-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// The pages to serve; none by default.
#[derive(Clone, Debug, Default)]
pub struct Pages(pub Vec<Page>);

/// One file.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Its path, such as `/chat.js`.
    pub path: &'static str,
    /// Its MIME type, such as `text/javascript; charset=utf-8`.
    pub content_type: &'static str,
    /// What is in it.
    pub body: &'static [u8],
}

/// Pages by path, each with its entity tag (RFC 9110, section 8.8.3).
pub(crate) struct Shelf(HashMap<&'static str, (Page, HeaderValue)>);

impl Shelf {
    pub(crate) fn new(pages: Pages) -> Self {
        let tagged = pages.0.into_iter().map(|page| {
            let tag = tag(&page.body);
            (page.path, (page, tag))
        });
        Self(tagged.collect())
    }

    /// The page at this path, if there is one. Caches keep it and ask each time whether it is
    /// still the same, so that a new version is seen at once.
    pub(crate) fn answer(
        &self,
        path: &str,
        method: &Method,
        headers: &HeaderMap,
    ) -> Option<Answer> {
        let (page, tag) = self.0.get(path)?;
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Some(method_not_allowed("GET, HEAD"));
        }
        let mut answer = if is_known(tag, headers) {
            empty(StatusCode::NOT_MODIFIED)
        } else {
            with_body(
                StatusCode::OK,
                page.content_type,
                Bytes::from_static(page.body),
            )
        };
        answer.headers_mut().insert(ETAG, tag.clone());
        for (name, value) in [
            (CACHE_CONTROL, "no-cache"),
            (CONTENT_SECURITY_POLICY, POLICY),
            // For browsers that do not know `frame-ancestors`.
            (X_FRAME_OPTIONS, "DENY"),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
            (
                HeaderName::from_static("cross-origin-opener-policy"),
                "same-origin",
            ),
        ] {
            set(&mut answer, name, value);
        }
        Some(answer)
    }
}
