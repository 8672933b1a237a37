//! A message as a MESSAGE frame (STOMP 1.2, section "MESSAGE").

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use shared::message::{ID_LEN, Message, MessageId, TIME_LEN};
use shared::stomp::{Command, Encoder, Version};

use super::output::{Address, Outgoing};

/// Encodes a message for the subscriptions with this address.
pub fn message_frame(message: &Message, address: &Address, replayed: bool) -> Outgoing {
    let text_len = |text: &str| text.len() + text.len() / 8;
    let headers: usize = (message.headers.iter())
        .map(|(name, value)| text_len(name) + text_len(value) + 2)
        .sum();
    let names = [Some(&address.destination), address.subscription.as_ref()];
    let names: usize = names.into_iter().flatten().map(|name| text_len(name)).sum();
    let size = 320 + headers + 2 * names + message.body.len();
    let mut frame = Encoder::new(Command::Message, address.version, size);
    if let Some(subscription) = &address.subscription {
        frame.known("subscription", subscription);
    }
    let mut id = [0; ID_LEN];
    frame.known("message-id", message.id.write(&mut id));
    frame.known("destination", &address.destination);
    frame.known("sender", message.sender.as_str());
    let mut time = [0; TIME_LEN];
    frame.known("created-at", message.id.write_created_at(&mut time));
    if let Some(content_type) = &message.content_type {
        frame.known("content-type", content_type);
    }
    if let Some(prev) = message.prev {
        frame.known("prev", prev.write(&mut id));
    }
    if replayed {
        frame.known("replayed", "true");
    }
    if message.ephemeral {
        frame.known("ephemeral", "true");
    }
    if address.acknowledged && address.version == Version::V1_2 {
        frame.known("ack", &ack_id(message.id, address));
    }
    for (name, value) in &message.headers {
        frame.header(name, value);
    }
    let is_text = str::from_utf8(&message.body).is_ok();
    if address.text_only {
        if is_text {
            return Outgoing::Text(frame.finish(&message.body));
        }
        frame.known("body-encoding", "base64");
        let body = BASE64_STANDARD.encode(&message.body);
        return Outgoing::Text(frame.finish(body.as_bytes()));
    }
    let octets = frame.finish(&message.body);
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
