//! A refusal that ends no session: a message on the user's own queue of errors.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::json;
use shared::message::{MessageId, RoomName, Stamp};
use shared::stomp::{Command, Frame, Version};

use super::Session;
use super::message::ack_id;
use crate::close::CloseReason;
use crate::config::Refusals;

/// What follows `/user/` in the queue's destination.
const ERRORS: &str = "queue/errors";

/// How many refused subscriptions are remembered.
const MAX_REFUSED: usize = 1024;

/// What a session has told of refusals.
#[derive(Debug, Default)]
pub(super) struct Told {
    count: u64,
    /// Hashes of what the subscriptions were called, for names have any length.
    refused: VecDeque<u64>,
}

impl Session {
    /// Tells of a refusal, where that is to end nothing and there is somebody to hear it. Then the
    /// session goes on.
    pub(super) fn tell(
        &mut self,
        reason: CloseReason,
        destination: Option<&str>,
        receipt: Option<&str>,
    ) -> bool {
        let is_access = matches!(
            reason,
            CloseReason::Forbidden | CloseReason::AccessUnavailable
        );
        if !is_access || self.settings.access.refusals != Refusals::Message {
            return false;
        }
        let Ok(errors) = RoomName::queue(&self.user, ERRORS) else {
            return false;
        };
        let id = self.refusal_id();
        let mut subscriptions = self.subscriptions.iter_mut();
        let Some(heard) = subscriptions.find(|each| *each.room() == errors) else {
            return false;
        };
        // Who acknowledges and does not keep up would otherwise have it wait without a bound.
        if !heard.note(id) {
            return false;
        }
        let address = &heard.address;
        let mut frame = Frame::new(Command::Message);
        if let Some(subscription) = &address.subscription {
            frame = frame.with("subscription", subscription);
        }
        frame = frame
            .with("message-id", &id.to_string())
            .with("destination", &address.destination)
            .with("content-type", "application/json")
            .with("ephemeral", "true");
        if address.acknowledged && address.version == Version::V1_2 {
            frame = frame.with("ack", &ack_id(id, address));
        }
        if let Some(receipt) = receipt {
            frame = frame.with("receipt-id", receipt);
        }
        let body = json!({
            "code": reason.code(),
            "message": reason.message(),
            "destination": destination,
        });
        self.write(&frame.with_body(body.to_string()));
        true
    }

    /// Remembers that an UNSUBSCRIBE of a subscription may come that was refused, or has ended.
    pub(super) fn refused(&mut self, id: Option<&str>, destination: &str) {
        let refused = &mut self.told.refused;
        if refused.len() == MAX_REFUSED {
            refused.pop_front();
        }
        refused.push_back(name(id, destination));
    }

    /// Whether a subscription of this name was refused: that is said once.
    pub(super) fn was_refused(&mut self, id: Option<&str>, destination: &str) -> bool {
        let name = name(id, destination);
        let refused = &mut self.told.refused;
        let place = refused.iter().position(|each| *each == name);
        place.and_then(|place| refused.remove(place)).is_some()
    }

    /// An id that no other message has: that of something ephemeral, for nobody is to come back
    /// after it. The session's own id is in it, so that two sessions of a user give different ones.
    fn refusal_id(&mut self) -> MessageId {
        self.told.count += 1;
        let mut hasher = DefaultHasher::new();
        self.id.hash(&mut hasher);
        let session = hasher.finish();
        let seq = (session >> 40 << 32) | (self.told.count & 0xffff_ffff);
        MessageId::ephemeral(Stamp { ms: 0, seq }, (session & 0xffff) as u16)
    }
}

/// A subscription is named by its id or, in STOMP 1.0, by its destination.
fn name(id: Option<&str>, destination: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    match id {
        Some(id) => (true, id).hash(&mut hasher),
        None => (false, destination).hash(&mut hasher),
    }
    hasher.finish()
}
