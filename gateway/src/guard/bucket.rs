//! A token bucket, with the time passed in.

use std::time::{Duration, Instant};

use crate::config::RateLimit;

/// The furthest that who draws on a bucket may be made to wait for those before: what many have drawn
/// too much does not lock out who comes after them.
const DEBT: Duration = Duration::from_secs(60);

/// Holds as many tokens as a burst has, and gets as many a second as the rate says.
///
/// It is kept as the time at which it is full again, as in the generic cell rate algorithm.
#[derive(Debug)]
pub struct Bucket {
    rate: RateLimit,
    full: Option<Instant>,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: RateLimit) -> Self {
        Self { rate, full: None }
    }

    /// Takes that many tokens whatever is there. Where not even one is, these are lent, and whoever
    /// takes them has to wait until those that others took before are paid for: until the time
    /// returned, which is later for each that comes.
    ///
    /// One that is there is enough for all: what is larger than the burst would never pass.
    pub fn take(&mut self, now: Instant, count: usize) -> Option<Instant> {
        let wait = self.wait(now);
        let full = self.full.unwrap_or(now).max(now) + self.time(count);
        self.full = Some(full.min(now + self.tolerance() + DEBT));
        wait
    }

    /// Takes that many tokens where one is there, and else none: then it says when one is.
    pub fn try_take(&mut self, now: Instant, count: usize) -> Option<Instant> {
        let wait = self.wait(now);
        if wait.is_none() {
            self.take(now, count);
        }
        wait
    }

    /// When a token is there, where none is.
    fn wait(&self, now: Instant) -> Option<Instant> {
        let missing = self.full?.saturating_duration_since(now);
        let debt = missing.checked_sub(self.tolerance())?;
        (!debt.is_zero()).then(|| now + debt)
    }

    /// Whether nothing is missing.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full.is_none_or(|full| full <= now)
    }

    /// How long the bucket takes to get all tokens but one.
    fn tolerance(&self) -> Duration {
        self.time(self.rate.burst.get() as usize - 1)
    }

    fn time(&self, count: usize) -> Duration {
        let nanos = count as u128 * 1_000_000_000 / u128::from(self.rate.per_second.get());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::{Duration, Instant};

    use super::{Bucket, DEBT};
    use crate::config::RateLimit;

    const SECOND: Duration = Duration::from_secs(1);

    fn bucket(per_second: u32, burst: u32) -> Bucket {
        let [per_second, burst] = [per_second, burst].map(|n| NonZeroU32::new(n).unwrap());
        Bucket::new(RateLimit { per_second, burst })
    }

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate() {
        let (mut it, start) = (bucket(4, 3), Instant::now());
        for _ in 0..3 {
            assert_eq!(it.take(start, 1), None);
        }
        for nth in 1..9 {
            assert_eq!(it.take(start, 1), Some(start + SECOND * nth / 4));
        }
        // The eight that were lent, and the burst.
        assert!(!it.is_full(start + SECOND * 2));
        assert!(it.is_full(start + SECOND * 11 / 4));
        assert_eq!(it.take(start + SECOND * 3, 1), None);
    }

    #[test]
    fn who_may_not_wait_takes_nothing() {
        let (mut it, start) = (bucket(1, 1), Instant::now());
        assert_eq!(it.try_take(start, 1), None);
        for _ in 0..100 {
            assert_eq!(it.try_take(start, 1), Some(start + SECOND));
        }
        assert_eq!(it.try_take(start + SECOND, 1), None);
    }

    #[test]
    fn what_is_larger_than_the_burst_passes_and_is_paid_for() {
        let (mut it, start) = (bucket(10, 20), Instant::now());
        assert_eq!(it.take(start, 120), None);
        assert_eq!(it.take(start, 5), Some(start + SECOND * 101 / 10));
        assert!(it.is_full(start + SECOND * 125 / 10));
    }

    #[test]
    fn nobody_waits_longer_than_a_minute_for_those_before() {
        let (mut it, start) = (bucket(1, 1), Instant::now());
        for _ in 0..10_000 {
            it.take(start, 1_000_000);
        }
        let due = it.take(start, 1).unwrap();
        assert!(due <= start + DEBT, "{:?}", due - start);
        // One huge frame alone is no different.
        let mut it = bucket(1, 1);
        it.take(start, 1_000_000);
        assert!(it.take(start, 1).unwrap() <= start + DEBT);
    }
}
