//! Which claims are believed.

use std::time::Duration;

use tokio::time::Instant;

/// How long a claim is believed that nobody makes any more, while there are older ones: longer than
/// a master that is cut off from its cluster takes to see it, and a Sentinel to hear of a failover.
/// Only what was restored from a copy, or set up anew, goes back.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// The epoch of the claim that was believed last, and when it was last heard.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Belief(Option<(u64, Instant)>);

impl Belief {
    /// Believes a claim of this epoch, unless it is older than another that was heard lately.
    pub(super) fn accepts(&mut self, epoch: u64, now: Instant) -> bool {
        let outdated = |(known, heard): (u64, Instant)| epoch < known && now - heard < FORGET_AFTER;
        if self.0.is_some_and(outdated) {
            return false;
        }
        self.0 = Some((epoch, now));
        true
    }
}
