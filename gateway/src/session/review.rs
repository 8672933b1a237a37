//! Whether who has subscribed still may: asked again before an answer is too old.

use std::time::Instant;

use shared::message::RoomName;

use super::Session;
use super::output::Output;
use super::permit::Term;
use crate::access::{Action, Verdict};
use crate::close::CloseReason;

/// Questions of one session that are under way because of time alone.
const MAX_UNDER_WAY: usize = 16;

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
        for at in 0..self.subscriptions.len() {
            let (room, term) = {
                let subscription = &self.subscriptions[at];
                (subscription.room().clone(), subscription.term)
            };
            let is_asked = || {
                let mut asked = self.permits.asked.iter();
                asked.any(|(at, to)| (at, *to) == (&room, Action::Subscribe))
            };
            if term.due.is_none() || is_asked() {
                continue;
            }
            if !term.is_due(now) {
                self.watch(term);
            } else if self.permits.asked.len() < MAX_UNDER_WAY {
                self.ask(&room, Action::Subscribe);
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
        for slot in ended {
            let reason = verdict.denial().unwrap_or(CloseReason::Forbidden);
            let Ok(at) = self.subscriptions.binary_search_by_key(&slot, |s| s.slot) else {
                continue;
            };
            let mut subscription = self.subscriptions.remove(at);
            // Its SUBSCRIBE is answered by what says that it has ended.
            let receipt = subscription.end().map(|(receipt, _)| receipt);
            let address = subscription.address.clone();
            let is_told = self.tell(reason, Some(&address.destination), receipt.as_deref());
            if !is_told {
                return self.fail(reason, reason.message(), receipt.as_deref());
            }
            self.outputs.push_back(Output::Leave(slot));
            self.refused(address.subscription.as_deref(), &address.destination);
            self.no_longer_acknowledges(subscription);
        }
    }
}
