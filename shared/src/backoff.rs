//! Pauses between attempts that may go on for ever.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// Growing, jittered pauses without an end, for a caller who will not give up.
///
/// The first pause lies between `min` and twice that, each further one doubles, and none is longer
/// than `max`. The jitter keeps many processes that lost the same server from coming back at once.
#[derive(Debug)]
pub struct Backoff {
    builder: ExponentialBuilder,
    pauses: ExponentialBackoff,
}

impl Backoff {
    /// Pauses from `min` up to `max`.
    pub fn new(min: Duration, max: Duration) -> Self {
        // The jitter adds up to as much again, so half of `max` is where growing ends.
        let builder = ExponentialBuilder::new()
            .with_min_delay(min.min(max / 2))
            .with_max_delay(max / 2)
            .without_max_times()
            .with_jitter();
        Self {
            builder,
            pauses: builder.build(),
        }
    }

    /// How long to wait before the next attempt.
    #[expect(
        clippy::should_implement_trait,
        reason = "it never ends, so it is no iterator"
    )]
    pub fn next(&mut self) -> Duration {
        self.pauses
            .next()
            .expect("pauses without a limit do not end")
    }

    /// Starts over after a success.
    pub fn reset(&mut self) {
        self.pauses = self.builder.build();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_never_end_and_start_over() {
        let (min, max) = (Duration::from_millis(10), Duration::from_secs(1));
        let mut backoff = Backoff::new(min, max);
        for _ in 0..3 {
            let first = backoff.next();
            assert!(first >= min && first <= 2 * min, "{first:?}");
            let pauses: Vec<_> = (0..1000).map(|_| backoff.next()).collect();
            assert!(pauses.iter().all(|pause| *pause >= min && *pause <= max));
            assert!(pauses[10..].iter().all(|pause| *pause >= max / 2));
            backoff.reset();
        }
    }
}
