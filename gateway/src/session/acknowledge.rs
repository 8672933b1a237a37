//! ACK and NACK (STOMP 1.2, sections "ACK" and "NACK").
//!
//! A NACK counts as an ACK: there is no redelivery but `after` on the next SUBSCRIBE.

use shared::message::MessageId;
use shared::stomp::{Frame, Version};

use super::frames::{Refusal, required};
use super::output::Slot;
use super::transaction::Work;
use super::window::AckMode;
use super::{Session, Subscription};
use crate::close::CloseReason;

/// A message that the client has dealt with.
#[derive(Debug)]
pub(super) struct Acknowledgement {
    message: MessageId,
    /// `None` is every subscription that has it, for STOMP 1.0 does not say which.
    slot: Option<Slot>,
    receipt: Option<String>,
}

impl Session {
    pub(super) fn ack(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let (message, subscription) = match self.version {
            Version::V1_2 => {
                let id = required(frame, "id")?;
                let (message, named) = id.split_once('/').unwrap_or((id, ""));
                // A MESSAGE that needs no ACK has no `ack` to name, and clients that acknowledge
                // it all the same name the subscription as in 1.1.
                let subscription = match frame.header("subscription") {
                    Some(other) if self.is_auto(other) => other,
                    _ => named,
                };
                (message, Some(subscription))
            }
            Version::V1_1 => {
                let message = required(frame, "message-id")?;
                (message, Some(required(frame, "subscription")?))
            }
            Version::V1_0 => {
                let message = required(frame, "message-id")?;
                (message, frame.header("subscription"))
            }
        };
        let named: Vec<&Subscription> = self
            .subscriptions
            .iter()
            .filter(|each| match subscription {
                Some(_) => each.address.subscription.as_deref() == subscription,
                None => true,
            })
            .collect();
        let slot = subscription.and(named.first()).map(|each| each.slot);
        let receipt = frame.header("receipt").map(str::to_owned);
        if slot.is_some() && named.iter().all(|each| each.mode() == AckMode::Auto) {
            self.acknowledged(receipt);
            return Ok(());
        }
        let message = message
            .parse()
            .ok()
            .filter(|id| named.iter().any(|each| each.may_have_delivered(*id)));
        let Some(message) = message else {
            let text = "no subscription of this connection was sent this message".to_owned();
            return Err(Refusal(CloseReason::UnknownMessage, text));
        };
        self.take_work(
            frame,
            Work::Acknowledge(Acknowledgement {
                message,
                slot,
                receipt,
            }),
        )
    }

    /// Carries an ACK or NACK out. A subscription that has ended since needs none.
    pub(super) fn acknowledge(&mut self, acknowledgement: Acknowledgement) {
        let Acknowledgement {
            message,
            slot,
            receipt,
        } = acknowledgement;
        self.acknowledged(receipt);
        let slots: Vec<Slot> = match slot {
            Some(slot) => vec![slot],
            None => self.subscriptions.iter().map(|each| each.slot).collect(),
        };
        for slot in slots {
            if let Some(subscription) = self.subscription(slot) {
                let step = subscription.acknowledge(message);
                self.step(slot, step);
            }
        }
    }

    fn is_auto(&self, id: &str) -> bool {
        self.subscriptions.iter().any(|each| {
            each.address.subscription.as_deref() == Some(id) && each.mode() == AckMode::Auto
        })
    }
}
