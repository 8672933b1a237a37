//! A message as a POST describes it.

use std::collections::HashSet;
use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use shared::message::{Draft, Headers, IdempotencyKey, InvalidName, RoomName, Series, UserName};
use shared::stomp::Limits;

use crate::auth::Identity;
use crate::session::message::is_forwarded;

/// The JSON. What is `null` counts as not given.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MessageJson {
    body: Option<String>,
    body_base64: Option<String>,
    content_type: Option<String>,
    sender: Option<String>,
    idempotency_key: Option<String>,
    headers: Option<HeadersJson>,
}

/// An object of strings in its order, each name once.
struct HeadersJson(Headers);

impl MessageJson {
    /// The message of who posts it, with the key that it has from elsewhere. Its body, content type and headers
    /// together keep the limit of a frame, and its headers those of a frame's.
    ///
    /// # Errors
    /// [`DraftError`]: what is wrong with it.
    pub(super) fn draft(
        self,
        room: RoomName,
        key: Option<IdempotencyKey>,
        who: &Identity,
        limits: Limits,
    ) -> Result<Draft, DraftError> {
        let idempotency_key = match self.idempotency_key {
            None => key,
            Some(own) => {
                let own = IdempotencyKey::parse(&own)?;
                if key.is_some_and(|key| key != own) {
                    return Err(DraftError::Keys);
                }
                Some(own)
            }
        };
        let sender = match self.sender {
            None => who.user.clone(),
            Some(sender) => UserName::parse(&sender)?,
        };
        if sender != who.user && !who.is_backend {
            return Err(DraftError::Sender);
        }
        let body = match (self.body, self.body_base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(text)) => BASE64_STANDARD
                .decode(text)
                .map_err(|_| DraftError::Base64)?,
            _ => return Err(DraftError::Bodies),
        };
        let headers = self.headers.map_or_else(Headers::new, |headers| headers.0);
        let mut length = body.len();
        if let Some(content_type) = &self.content_type {
            length += check("content-type", content_type, limits)?;
        }
        for (name, value) in &headers {
            if !is_forwarded(name) {
                return Err(DraftError::Ours(name.clone()));
            }
            length += check(name, value, limits)?;
        }
        let header_octets = length - body.len();
        if headers.len() > limits.headers || header_octets > limits.headers_bytes {
            return Err(DraftError::Headers(limits));
        }
        if length > limits.frame_bytes {
            let max_bytes = limits.frame_bytes;
            return Err(DraftError::TooLarge { max_bytes });
        }
        Ok(Draft {
            room,
            sender,
            content_type: self.content_type.map(Into::into),
            headers,
            body: body.into(),
            idempotency_key,
            newer_than: None,
            notify: None,
            series: Series::default(),
            ephemeral: false,
        })
    }
}

/// The octets of a header that a frame can carry.
fn check(name: &str, value: &str, limits: Limits) -> Result<usize, DraftError> {
    let length = name.len() + value.len();
    if name.is_empty() || name.contains('\0') || value.contains('\0') {
        return Err(DraftError::Header);
    }
    // With the colon between them.
    if length >= limits.header_bytes {
        return Err(DraftError::Headers(limits));
    }
    Ok(length)
}

/// Why JSON describes no message that can be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DraftError {
    #[error("The body must be a JSON object.")]
    NoObject,
    #[error("The sender is the token's user; only a token of the application may name another.")]
    Sender,
    #[error("Give body or bodyBase64, one of them.")]
    Bodies,
    #[error("bodyBase64 must be base64 (RFC 4648, section 4) with its padding.")]
    Base64,
    #[error("idempotencyKey and the header Idempotency-Key differ.")]
    Keys,
    #[error("This is impossible: {0}.")]
    Name(#[from] InvalidName),
    #[error("The header {0} is this server's to set.")]
    Ours(Box<str>),
    #[error("A header needs a name, and neither that nor its value may contain NUL.")]
    Header,
    #[error(
        "There may be {} headers, of {} octets each and {} together.",
        .0.headers, .0.header_bytes, .0.headers_bytes
    )]
    Headers(Limits),
    #[error(
        "A message has at most {max_bytes} octets with its headers; --max-frame-bytes says so."
    )]
    TooLarge { max_bytes: usize },
}

impl<'de> Deserialize<'de> for HeadersJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(InOrder)
    }
}

struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = HeadersJson;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HeadersJson, A::Error> {
        let mut headers = Headers::new();
        let mut known = HashSet::new();
        while let Some((name, value)) = map.next_entry::<Box<str>, Box<str>>()? {
            if !known.insert(name.clone()) {
                return Err(A::Error::custom("a header is repeated"));
            }
            headers.push((name, value));
        }
        Ok(HeadersJson(headers))
    }
}
