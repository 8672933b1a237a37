//! Whether who has subscribed still may: asked again before an answer is too old.

use std::time::{Duration, Instant};

use shared::message::RoomName;

use super::Session;
use super::output::{Output, Slot};
use super::permit::Term;
use crate::access::{Action, Verdict};
use crate::close::CloseReason;

/// Questions of one session that are under way because of time alone.
const MAX_UNDER_WAY: usize = 16;

/// How long a question waits for its turn at most, and some more.
const TURNS: Duration = Duration::from_secs(15);

impl Session {
    /// A subscription is there that is allowed for so long.
    pub(super) fn watch(&mut self, term: Term) {
        self.review_due = [self.review_due, term.due].into_iter().flatten().min();
    }

    /// Asks for what is due.
    pub(super) fn review(&mut self, now: Instant) {
        if self.review_due.is_none_or(|due| now < due) {
            return;
        }
        self.review_due = None;
        // Whoever is asked answers by then; longer it only takes where there is too much to ask.
        let grace = TURNS + self.settings.access.timeout;
        let mut ended = Vec::new();
        for at in 0..self.subscriptions.len() {
            let (slot, room, term) = {
                let subscription = &self.subscriptions[at];
                let room = subscription.room().clone();
                (subscription.slot, room, subscription.term)
            };
            let Some(due) = term.due else {
                continue;
            };
            let end = term.until.map(|until| until + grace);
            if end.is_some_and(|end| now >= end) {
                ended.push(slot);
                continue;
            }
            let next = if now < due {
                Some(due)
            } else {
                if self.permits.asked.len() < MAX_UNDER_WAY {
                    self.ask(&room, Action::Subscribe);
                }
                end
            };
            self.review_due = [self.review_due, next].into_iter().flatten().min();
        }
        for slot in ended {
            if !self.revoke(slot, CloseReason::AccessUnavailable) {
                return;
            }
        }
    }

    /// There is an answer for a room: its subscriptions go on, or end.
    pub(super) fn reviewed(&mut self, now: Instant, room: &RoomName, verdict: Verdict) {
        let mut ended = Vec::new();
        for subscription in &mut self.subscriptions {
            let term = subscription.term;
            if subscription.room() != room || term.until.is_none() {
                continue;
            }
            match verdict {
                Verdict::Granted { until } => subscription.term = Term::new(now, until),
                Verdict::Unavailable if !term.is_over(now) => {
                    subscription.term = Term::new(now, term.until);
                }
                Verdict::Refused | Verdict::Unavailable => ended.push(subscription.slot),
            }
        }
        let reason = verdict.denial().unwrap_or(CloseReason::Forbidden);
        for slot in ended {
            if !self.revoke(slot, reason) {
                return;
            }
        }
    }

    /// Ends a subscription that is allowed no more. Whether the session goes on.
    fn revoke(&mut self, slot: Slot, reason: CloseReason) -> bool {
        let Ok(at) = self.subscriptions.binary_search_by_key(&slot, |s| s.slot) else {
            return true;
        };
        let mut subscription = self.subscriptions.remove(at);
        // Its SUBSCRIBE is answered by what says that it has ended.
        let receipt = subscription.end().map(|(receipt, _)| receipt);
        let address = subscription.address.clone();
        let is_told = self.tell(reason, Some(&address.destination), receipt.as_deref());
        if !is_told {
            self.fail(reason, reason.message(), receipt.as_deref());
            return false;
        }
        // The broker is not told of a room's end before it has answered for its beginning.
        if subscription.is_joining() {
            self.revoked.push(slot);
        } else {
            self.outputs.push_back(Output::Leave(slot));
        }
        self.refused(address.subscription.as_deref(), &address.destination);
        self.no_longer_acknowledges(subscription);
        true
    }
}
