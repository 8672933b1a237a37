//! ACK and NACK (STOMP 1.2, sections "ACK" and "NACK").
//!
//! A NACK counts as an ACK: there is no redelivery but `after` on the next SUBSCRIBE.

use shared::message::MessageId;
use shared::stomp::{Frame, Version};

use super::frames::{Refusal, refuse, required};
use super::output::Slot;
use super::transaction::Work;
use super::window::AckMode;
use super::{Session, Subscription};
use crate::close::CloseReason;

/// A message that the client has dealt with.
#[derive(Debug)]
pub(super) struct Acknowledgement {
    /// `None` where nothing is to be acknowledged.
    message: Option<MessageId>,
    /// `None` is every subscription that has it, for STOMP 1.0 does not say which.
    slot: Option<Slot>,
    receipt: Option<String>,
}

impl Session {
    pub(super) fn ack(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let (message, subscription) = match self.version {
            Version::V1_2 => {
                let id = required(frame, "id")?;
                // Other brokers' `ack` is the same text as `message-id`, and clients that count on
                // it name that one.
                match id.split_once('/') {
                    Some((message, subscription)) => (message, Some(subscription)),
                    None => (id, frame.header("subscription")),
                }
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
        // Nothing waits for it, so that it need not name anything either: a MESSAGE in mode `auto`
        // has no `ack`.
        let message = if slot.is_some() && named.iter().all(|each| each.mode() == AckMode::Auto) {
            None
        } else {
            let message = message
                .parse()
                .ok()
                .filter(|id| named.iter().any(|each| each.may_have_delivered(*id)));
            if message.is_none() {
                let text = "no subscription of this connection was sent this message";
                return refuse(CloseReason::UnknownMessage, text);
            }
            message
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
        let Some(message) = message else {
            return;
        };
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
}
