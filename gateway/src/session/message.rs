//! A message as a MESSAGE frame (STOMP 1.2, section "MESSAGE").

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use shared::message::{Message, MessageId};
use shared::stomp::encode;
use shared::stomp::{Command, Frame, Version};

use super::output::{Address, Outgoing};

/// Encodes a message for the subscriptions with this address.
pub fn message_frame(message: &Message, address: &Address, replayed: bool) -> Outgoing {
    let mut frame = Frame::new(Command::Message);
    if let Some(subscription) = &address.subscription {
        frame = frame.with("subscription", subscription);
    }
    frame = frame
        .with("message-id", &message.id.to_string())
        .with("destination", &address.destination)
        .with("sender", message.sender.as_str())
        .with("created-at", &message.id.created_at_rfc3339());
    if let Some(content_type) = &message.content_type {
        frame = frame.with("content-type", content_type);
    }
    if let Some(prev) = message.prev {
        frame = frame.with("prev", &prev.to_string());
    }
    if replayed {
        frame = frame.with("replayed", "true");
    }
    if message.ephemeral {
        frame = frame.with("ephemeral", "true");
    }
    if address.acknowledged && address.version == Version::V1_2 {
        frame = frame.with("ack", &ack_id(message.id, address));
    }
    for (name, value) in &message.headers {
        frame = frame.with(name, value);
    }
    let is_text = str::from_utf8(&message.body).is_ok();
    if address.text_only {
        let frame = if is_text {
            frame.with_body(message.body.clone())
        } else {
            let body = BASE64_STANDARD.encode(&message.body);
            frame.with("body-encoding", "base64").with_body(body)
        };
        return Outgoing::Text(encode(&frame, address.version));
    }
    let frame = frame.with_body(message.body.clone());
    let octets = encode(&frame, address.version);
    // A client that decodes text messages must not be handed what is no text.
    if !is_text || message.content_type.as_deref().is_some_and(is_octets) {
        Outgoing::Binary(octets)
    } else {
        Outgoing::Text(octets)
    }
}

/// Whether a content type is `application/octet-stream`. Types have no case, and parameters may
/// follow (RFC 9110, section 8.3.1).
fn is_octets(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence
        .trim_matches([' ', '\t'])
        .eq_ignore_ascii_case("application/octet-stream")
}

/// What an ACK of this message in this subscription names (STOMP 1.2, section "ACK"). It is the same
/// for everyone whose subscription has the same id, so that they share the frame.
pub(super) fn ack_id(message: MessageId, address: &Address) -> String {
    let subscription = address.subscription.as_deref().unwrap_or_default();
    format!("{message}/{subscription}")
}

/// Whether a header of a SEND or POST travels with the message. The others steer this server, carry
/// credentials, or are the server's to say.
pub(crate) fn is_forwarded(name: &str) -> bool {
    const OURS: [&str; 25] = [
        "body-encoding",
        "destination",
        "content-length",
        "content-type",
        "receipt",
        "receipt-after",
        "idempotency-key",
        "ephemeral",
        "persist",
        "transaction",
        "subscription",
        "message-id",
        "ack",
        "sender",
        "created-at",
        "prev",
        "replayed",
        "recovered",
        "login",
        "passcode",
        "authorization",
        "x-authorization",
        "x-auth-token",
        "x-csrf-token",
        "x-xsrf-token",
    ];
    !OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours))
}

/// A heart-beat: exactly one line feed, a WebSocket message of its own.
pub(super) const HEART_BEAT: Outgoing = Outgoing::Text(Bytes::from_static(b"\n"));
