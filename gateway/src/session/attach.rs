//! How subscriptions go from SUBSCRIBE to live.

use shared::stomp::{Command, Frame};

use super::Session;
use super::output::{Output, Slot};
use super::subscription::{Step, Subscription};
use crate::close::CloseReason;

impl Session {
    pub(super) fn read(&mut self) {
        while let Some((slot, span, limit)) = self.readings.begin() {
            let Some(subscription) = self.subscription(slot) else {
                self.readings.end();
                continue;
            };
            let room = subscription.room().clone();
            self.outputs.push_back(Output::Read {
                slot,
                room,
                span,
                limit,
            });
        }
    }

    pub(super) fn step(&mut self, slot: Slot, step: Step) {
        match step {
            Step::Read(span, limit) => {
                self.readings.ask(slot, span, limit);
                self.read();
            }
            Step::Wait => {}
            Step::Live {
                receipt,
                recovered,
                nowhere,
                released,
            } => {
                let told = receipt.is_some();
                if let Some(receipt) = receipt {
                    self.subscribed(&receipt, recovered);
                }
                // Coming back after the same message would end the same way.
                if nowhere && !told && self.guarantees.journaled {
                    let detail = "SUBSCRIBE: the message that `after` names is not in this room";
                    return self.fail(CloseReason::AfterUnknown, detail, None);
                }
                if recovered == Some(false) && !told && self.guarantees.journaled {
                    let detail = "the past that was asked for cannot be had in full now";
                    return self.fail(CloseReason::GapUnrepaired, detail, None);
                }
                self.outputs
                    .extend(released.into_iter().map(Output::Deliver));
            }
        }
    }

    pub(super) fn subscription(&mut self, slot: Slot) -> Option<&mut Subscription> {
        // Slots only grow, so that the list is sorted by them.
        let at = self
            .subscriptions
            .binary_search_by_key(&slot, |s| s.slot)
            .ok()?;
        self.subscriptions.get_mut(at)
    }

    /// Answers the SUBSCRIBE of a subscription that ends before its past has been sent.
    pub(super) fn end_attaching(&mut self, subscription: &mut Subscription) {
        if let Some((receipt, recovered)) = subscription.end() {
            self.subscribed(&receipt, recovered);
        }
    }

    fn subscribed(&mut self, receipt: &str, recovered: Option<bool>) {
        let mut frame = Frame::new(Command::Receipt).with("receipt-id", receipt);
        if let Some(recovered) = recovered {
            frame = frame.with("recovered", if recovered { "true" } else { "false" });
        }
        self.write(&frame);
    }
}
