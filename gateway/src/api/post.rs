//! `POST /api/rooms/{room}/messages`: a message from a back end, by the same way as a SEND.
//!
//! Its answer is 201 with the message's id when the broker has accepted it or, as `receipt` in the
//! query or `--receipt-after` says, when the store has it. Requests that come one after the other
//! are accepted in that order.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::body::Body;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName};
use serde_json::json;
use shared::broker::PublishError;
use shared::message::{Draft, IdempotencyKey, InvalidName, MessageId};

use super::draft::{DraftError, MessageJson};
use super::{bad_request, denied};
use crate::Gateway;
use crate::access::Action;
use crate::answer::{Answer, error, json, unavailable};
use crate::auth::Identity;
use crate::body::{BodyError, Budget, Held, Terms};
use crate::close::CloseReason;
use crate::config::ReceiptAfter;

/// Octets of bodies that are being read, over all connections; more where one may be larger.
const BODIES: usize = 64 << 20;

/// What JSON makes of one octet at worst: `\u0000`.
const ESCAPED: usize = 6;

/// Octets for what is no part of the message: names, punctuation, the key.
const AROUND: usize = 16 << 10;

/// Publishes what is posted.
pub(super) struct Posts {
    gateway: Arc<Gateway>,
    bodies: Arc<Budget>,
    max_body_bytes: usize,
}

impl Posts {
    pub(super) fn new(gateway: Arc<Gateway>) -> Self {
        let max_body_bytes = ESCAPED * gateway.settings.max_frame_bytes + AROUND;
        Self {
            gateway,
            bodies: Budget::new(BODIES.max(2 * max_body_bytes)),
            max_body_bytes,
        }
    }

    /// Answers a POST to `room` (percent-encoded) by who is admitted, or with the answer to who is
    /// not.
    pub(super) async fn answer<B: Body>(
        &self,
        room: &str,
        query: &str,
        headers: &HeaderMap,
        admitted: Result<Identity, Answer>,
        body: B,
        address: IpAddr,
    ) -> Answer {
        // Before anything is refused, so that the client is not cut off while it still sends.
        let guard = &self.gateway.entrance.guard;
        let terms = Terms {
            address,
            party: guard.at(address),
            limit: self.max_body_bytes,
            deadline: self.gateway.settings.connect_deadline,
        };
        let body = self.bodies.read(body, &terms).await;
        let who = match admitted {
            Ok(who) => who,
            Err(refusal) => return refusal,
        };
        let octets = body.as_ref().map_or(0, |body| body.octets.len());
        if let Err(away) = super::charge(guard, &who, octets) {
            return away.answer();
        }
        let (draft, until) = match self.draft(room, query, headers, &who, body) {
            Ok(drafted) => drafted,
            Err(refusal) => return refusal.answer(),
        };
        let access = &self.gateway.entrance.access;
        let verdict = access.check(&who, &draft.room, Action::Send).await;
        match denied(verdict) {
            Some(denied) => denied,
            None => self.publish(draft, until).await,
        }
    }

    /// The message, and what its answer waits for.
    fn draft(
        &self,
        room: &str,
        query: &str,
        headers: &HeaderMap,
        who: &Identity,
        body: Result<Held, BodyError>,
    ) -> Result<(Draft, ReceiptAfter), Refusal> {
        let Gateway {
            settings,
            guarantees,
            ..
        } = &*self.gateway;
        check_type(headers)?;
        let room = super::room(room)?;
        let receipt = receipt(query)?;
        let key = key(headers)?;
        let body = body?;
        // The decoder would take an array for the members in their order.
        if body.octets.trim_ascii_start().first() != Some(&b'{') {
            return Err(DraftError::NoObject.into());
        }
        let message: MessageJson = serde_json::from_slice(&body.octets)?;
        let until = receipt.unwrap_or(settings.receipt_after);
        let draft = message.draft(room, key, who, settings.frame_limits())?;
        Ok((draft, until.due(*guarantees, false)))
    }

    async fn publish(&self, draft: Draft, until: ReceiptAfter) -> Answer {
        let Gateway {
            publisher,
            out_of_time,
            ..
        } = &*self.gateway;
        let accepting = publisher.accept(draft, until);
        let accepted = tokio::select! {
            accepted = accepting => accepted,
            () = out_of_time.cancelled() => return open(CloseReason::Restart),
        };
        let id = match accepted {
            Ok(accepted) => accepted.id,
            Err(PublishError::Full) => return refused(CloseReason::JournalFull),
            Err(PublishError::Overloaded) => return refused(CloseReason::Overloaded),
            Err(PublishError::Unavailable) => return open(CloseReason::BrokerUnavailable),
        };
        if until == ReceiptAfter::Stored {
            let stored = tokio::select! {
                stored = publisher.receipts.wait(id) => stored,
                () = out_of_time.cancelled() => false,
            };
            if !stored {
                return not_stored(id);
            }
        }
        let body = json!({"id": id.to_string(), "createdAt": id.created_at_rfc3339()});
        json(StatusCode::CREATED, body.to_string())
    }
}

/// A back end sends no forms, and what it sends is not compressed.
fn check_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let media = headers
        .get(CONTENT_TYPE)
        .and_then(|media| media.to_str().ok());
    let name = media.and_then(|media| media.split(';').next());
    if !name.is_some_and(|name| name.trim().eq_ignore_ascii_case("application/json")) {
        return Err(Refusal::Type);
    }
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(Refusal::Encoding);
    }
    Ok(())
}

/// `receipt` in the query.
fn receipt(query: &str) -> Result<Option<ReceiptAfter>, Refusal> {
    let mut receipt = None;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let wanted = ReceiptAfter::parse(&value).filter(|_| name == "receipt");
        if receipt.replace(wanted.ok_or(Refusal::Query)?).is_some() {
            return Err(Refusal::Query);
        }
    }
    Ok(receipt)
}

/// The header `Idempotency-Key`: the key as it is, or as a string in quotes, as the draft of its
/// standard has it (draft-ietf-httpapi-idempotency-key-header, section 2.1).
fn key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Refusal> {
    let mut values = headers
        .get_all(HeaderName::from_static("idempotency-key"))
        .iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Refusal::Repeated);
    }
    let text = str::from_utf8(value.as_bytes()).map_err(|_| InvalidName::Key)?;
    let quoted = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .filter(|inner| !inner.contains(['"', '\\']));
    Ok(Some(IdempotencyKey::parse(quoted.unwrap_or(text))?))
}

/// Why a request is not published.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("The Content-Type must be application/json.")]
    Type,
    #[error("The body must come without a Content-Encoding.")]
    Encoding,
    #[error("The only parameter is receipt, once: accepted or stored.")]
    Query,
    #[error("Give the header Idempotency-Key once.")]
    Repeated,
    #[error("This is impossible: {0}.")]
    Name(#[from] InvalidName),
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("The body is not the JSON that it should be: {0}.")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Draft(#[from] DraftError),
}

impl Refusal {
    fn answer(self) -> Answer {
        // What a library says of JSON may quote it.
        let message: String = self.to_string().chars().take(500).collect();
        match self {
            Self::Type | Self::Encoding => error(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                &message,
            ),
            Self::Query | Self::Repeated | Self::Name(_) => bad_request(&message),
            Self::Body(error) => error.answer(),
            Self::Draft(DraftError::Sender) => error(
                StatusCode::FORBIDDEN,
                CloseReason::Forbidden.code(),
                &message,
            ),
            Self::Draft(DraftError::TooLarge { .. }) => {
                error(StatusCode::PAYLOAD_TOO_LARGE, "message-too-large", &message)
            }
            Self::Json(_) | Self::Draft(_) => error(StatusCode::BAD_REQUEST, "bad-body", &message),
        }
    }
}

/// 503: nothing was accepted.
fn refused(reason: CloseReason) -> Answer {
    unavailable(reason.code(), reason.message())
}

/// 503: whether the message was accepted is open.
fn open(reason: CloseReason) -> Answer {
    let message = format!(
        "{} The message may have been accepted: with the same idempotency key it stays one.",
        reason.message()
    );
    unavailable(reason.code(), &message)
}

/// 504, with the id that the message has.
fn not_stored(id: MessageId) -> Answer {
    let body = json!({"error": {
        "code": "not-stored",
        "message": "The message is accepted; the store has not had it in time.",
        "id": id.to_string(),
        "createdAt": id.created_at_rfc3339(),
    }});
    json(StatusCode::GATEWAY_TIMEOUT, body.to_string())
}
