//! A rate limit with time passed in: the generic cell rate algorithm.

use std::time::{Duration, Instant};

use crate::config::RateLimit;

/// Allows so many events a second in the long run, and a burst at once.
#[derive(Debug)]
pub(super) struct Rate {
    interval: Duration,
    tolerance: Duration,
    next: Option<Instant>,
}

impl Rate {
    pub(super) fn new(rate: RateLimit) -> Self {
        let interval = Duration::from_secs(1) / rate.per_second.get();
        Self {
            interval,
            tolerance: interval * (rate.burst.get() - 1),
            next: None,
        }
    }

    /// Counts an event at `now`, or refuses it.
    pub(super) fn allow(&mut self, now: Instant) -> bool {
        let due = self.next.unwrap_or(now).max(now);
        if due.duration_since(now) > self.tolerance {
            return false;
        }
        self.next = Some(due + self.interval);
        true
    }
}
