//! `GET /api/rooms/{room}/messages`: a room's past as JSON, oldest first.
//!
//! `limit` is 1 to 200 (default 50); `before=ID` or `after=ID` pages backwards or forwards, without
//! either it is the newest messages. A message's `body` is text; one that is not UTF-8 is
//! `bodyBase64` instead. `complete` is false when messages may be missing from the page because the
//! broker or the store could not be asked.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::StatusCode;
use serde::{Serialize, Serializer};
use shared::message::{Headers, Message, MessageId, Span};

use super::{bad_request, denied};
use crate::access::{Access, Action};
use crate::answer::{Answer, error, json, unavailable};
use crate::auth::Identity;
use crate::body::Budget;
use crate::past::{Past, PastError, PastPage};

/// Messages of one answer at most.
const MAX_LIMIT: usize = 200;
const DEFAULT_LIMIT: usize = 50;

/// Octets of all answers that wait for their clients to take them.
pub(super) const ANSWERS: usize = 64 << 20;

/// Answers with a page of the past of `room` (percent-encoded), where who asks may read it.
pub(super) async fn answer(
    room: &str,
    query: &str,
    who: &Identity,
    access: &Access,
    past: &Past,
    (answers, address): (&Arc<Budget>, IpAddr),
) -> Answer {
    let room = match super::room(room) {
        Ok(room) => room,
        Err(invalid) => return bad_request(&format!("The room is impossible: {invalid}.")),
    };
    let (span, limit) = match question(query) {
        Ok(question) => question,
        Err(wrong) => return bad_request(&wrong.to_string()),
    };
    let verdict = access.check(who, &room, Action::History).await;
    if let Some(denied) = denied(verdict) {
        return denied;
    }
    match past.read(&room, span, limit).await {
        Ok(page) => match serde_json::to_vec(&PageJson::from(&page)) {
            Ok(body) => match answers.hold(body, address) {
                Ok(body) => json(StatusCode::OK, body),
                Err(full) => unavailable("overloaded", &full.to_string()),
            },
            Err(reason) => {
                tracing::error!(%reason, "a page of history is no JSON");
                error(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "internal",
                    "This server has failed.",
                )
            }
        },
        Err(PastError::Unavailable) => unavailable(
            "history-unavailable",
            "The history cannot be read at the moment.",
        ),
        Err(PastError::Busy) => {
            unavailable("overloaded", "Too many are reading history at the moment.")
        }
    }
}

/// What the query asks for.
fn question(query: &str) -> Result<(Span, usize), QueryError> {
    let (mut limit, mut before, mut after) = (None, None, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let once = match &*name {
            "limit" => {
                let number = value
                    .parse()
                    .ok()
                    .filter(|limit| (1..=MAX_LIMIT).contains(limit));
                limit.replace(number.ok_or(QueryError::Limit)?).is_none()
            }
            "before" => before.replace(id("before", &value)?).is_none(),
            "after" => after.replace(id("after", &value)?).is_none(),
            _ => return Err(QueryError::Unknown),
        };
        if !once {
            return Err(QueryError::Repeated);
        }
    }
    let span = match (before, after) {
        (None, None) => Span::Newest,
        (Some(id), None) => Span::Before(id),
        (None, Some(id)) => Span::After(id),
        (Some(_), Some(_)) => return Err(QueryError::Both),
    };
    Ok((span, limit.unwrap_or(DEFAULT_LIMIT)))
}

fn id(parameter: &'static str, text: &str) -> Result<MessageId, QueryError> {
    text.parse()
        .ok()
        .filter(|id: &MessageId| !id.is_ephemeral())
        .ok_or(QueryError::Id { parameter })
}

/// Why a query makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum QueryError {
    #[error("limit must be a number from 1 to {MAX_LIMIT}.")]
    Limit,
    #[error(
        "{parameter} must be the id of a stored message, as its `id` or `message-id` gives it."
    )]
    Id { parameter: &'static str },
    #[error("Give before or after, not both.")]
    Both,
    #[error("Give each parameter once.")]
    Repeated,
    #[error("The parameters are limit, before and after.")]
    Unknown,
}

#[derive(Serialize)]
struct PageJson<'a> {
    messages: Vec<MessageJson<'a>>,
    complete: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageJson<'a> {
    id: String,
    room: &'a str,
    sender: &'a str,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "first_of_each"
    )]
    headers: &'a Headers,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

impl<'a> From<&'a PastPage> for PageJson<'a> {
    fn from(page: &'a PastPage) -> Self {
        let messages = page.messages.iter().map(|message: &Arc<Message>| {
            let text = str::from_utf8(&message.body).ok();
            MessageJson {
                id: message.id.to_string(),
                room: message.room.as_str(),
                sender: message.sender.as_str(),
                created_at: message.id.created_at_rfc3339(),
                content_type: message.content_type.as_deref(),
                headers: &message.headers,
                body: text,
                body_base64: text
                    .is_none()
                    .then(|| BASE64_STANDARD.encode(&message.body)),
            }
        });
        Self {
            messages: messages.collect(),
            complete: page.complete,
        }
    }
}

/// An object in the sender's order. The first of repeated headers counts (STOMP 1.2, Repeated
/// Header Entries).
fn first_of_each<S: Serializer>(headers: &Headers, serializer: S) -> Result<S::Ok, S::Error> {
    let firsts = headers
        .iter()
        .enumerate()
        .filter(|(place, (name, _))| headers[..*place].iter().all(|(earlier, _)| earlier != name));
    serializer.collect_map(firsts.map(|(_, (name, value))| (name, value)))
}
