//! When published keys are to be read anew, and for how long they count. It has no clock.

use std::time::{Duration, Instant};

/// How soon an attempt may follow another: tokens with keys that nobody knows must not make us ask
/// the issuer without pause.
const PAUSE: Duration = Duration::from_secs(30);

/// For how long keys count that cannot be read anew. Who has taken one back must be able to rely on
/// an end.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// What is known of the attempts so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Schedule {
    refresh: Duration,
    /// When the last attempt began.
    asked: Option<Instant>,
    /// When the last one that succeeded did.
    read: Option<Instant>,
    is_asking: bool,
    has_failed: bool,
}

impl Schedule {
    pub(super) fn new(refresh: Duration) -> Self {
        Self {
            refresh,
            asked: None,
            read: None,
            is_asking: false,
            has_failed: false,
        }
    }

    /// An attempt begins.
    pub(super) fn begin(&mut self, now: Instant) {
        self.asked = Some(now);
        self.is_asking = true;
    }

    /// It ends.
    pub(super) fn end(&mut self, succeeded: bool) {
        if succeeded {
            // What was read may be as old as the question.
            self.read = self.asked;
        }
        self.is_asking = false;
        self.has_failed = !succeeded;
    }

    /// When the next attempt is due by itself.
    pub(super) fn due(&self, now: Instant) -> Instant {
        let pause = if self.has_failed {
            self.refresh.min(PAUSE)
        } else {
            self.refresh
        };
        self.asked.map_or(now, |asked| asked + pause)
    }

    /// Whether an attempt may begin for a token whose key is unknown.
    pub(super) fn may_ask(&self, now: Instant) -> bool {
        !self.is_asking && self.asked.is_none_or(|asked| now >= asked + PAUSE)
    }

    /// Whether one is under way.
    pub(super) fn is_asking(&self) -> bool {
        self.is_asking
    }

    /// Whether the last attempt failed.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Whether the keys are too old to count.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        self.read.is_none_or(|read| now >= read + STALE)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{PAUSE, STALE, Schedule};

    const REFRESH: Duration = Duration::from_secs(600);
    const SECOND: Duration = Duration::from_secs(1);

    fn after(attempts: &[(Duration, bool)], start: Instant) -> Schedule {
        let mut schedule = Schedule::new(REFRESH);
        for (at, succeeded) in attempts {
            schedule.begin(start + *at);
            schedule.end(*succeeded);
        }
        schedule
    }

    #[test]
    fn keys_that_cannot_be_read_anew_count_for_a_day_and_no_longer() {
        let start = Instant::now();
        let failing = after(
            &[(Duration::ZERO, true), (REFRESH, false), (STALE, false)],
            start,
        );
        assert!(!failing.is_stale(start + STALE - SECOND));
        assert!(failing.is_stale(start + STALE));
        assert!(after(&[(Duration::ZERO, false)], start).is_stale(start));
        assert!(Schedule::new(REFRESH).is_stale(start));
        let back = after(&[(Duration::ZERO, true), (STALE, true)], start);
        assert!(!back.is_stale(start + STALE));
    }

    #[test]
    fn unknown_keys_make_one_attempt_in_30_seconds_however_many_ask() {
        let start = Instant::now();
        let mut schedule = Schedule::new(REFRESH);
        let mut attempts = 0;
        for second in 0..120 {
            let now = start + second * SECOND;
            if schedule.may_ask(now) {
                schedule.begin(now);
                assert!(!schedule.may_ask(now + PAUSE), "one at a time");
                schedule.end(second % 2 == 0);
                attempts += 1;
            }
        }
        assert_eq!(attempts, 4);
    }

    #[test]
    fn keys_are_read_every_refresh_and_sooner_after_a_failure() {
        let start = Instant::now();
        assert_eq!(Schedule::new(REFRESH).due(start), start);
        let good = after(&[(SECOND, true)], start);
        assert_eq!(good.due(start), start + SECOND + REFRESH);
        let failed = after(&[(SECOND, true), (REFRESH, false)], start);
        assert_eq!(failed.due(start), start + REFRESH + PAUSE);
    }
}
