//! What one member sends: when each message is due, and which have no receipt yet.

use std::collections::VecDeque;
use std::time::Duration;

/// How many messages of a sender may be without a receipt. What is due beyond that stays due, which
/// takes no memory however long it lasts.
const MAX_OPEN: usize = 1000;

/// The messages of one sender, on a schedule that does not wait for answers. Times count from the
/// load's start.
#[derive(Debug)]
pub(crate) struct Sends {
    first: Duration,
    every: Duration,
    /// The share whose receipts wait for the store.
    stored: f64,
    next: u32,
    open: VecDeque<Open>,
}

/// A message without a receipt.
#[derive(Clone, Copy, Debug)]
struct Open {
    seq: u32,
    /// When it was sent last.
    asked: Duration,
}

impl Sends {
    /// A sender whose messages are due from `first` on, one `every` so often.
    pub(crate) fn new(first: Duration, every: Duration, stored: f64) -> Self {
        Self {
            first,
            every,
            stored,
            next: 0,
            open: VecDeque::new(),
        }
    }

    /// When a message is due.
    pub(crate) fn due(&self, seq: u32) -> Duration {
        self.first + self.every.saturating_mul(seq)
    }

    /// Whether a message's receipt waits for the store: evenly spread over the sender's messages.
    pub(crate) fn is_stored(&self, seq: u32) -> bool {
        let reached = |seq: u32| (f64::from(seq) * self.stored) as u64;
        reached(seq + 1) > reached(seq)
    }

    /// When there is something to do, if nothing comes before: send the next message, or send again
    /// what has had no receipt for so long.
    pub(crate) fn wake(&self, patience: Duration) -> Option<Duration> {
        let next = (self.open.len() < MAX_OPEN).then(|| self.due(self.next));
        next.into_iter().chain(self.overdue(patience)).min()
    }

    /// When something has had no receipt for so long.
    pub(crate) fn overdue(&self, patience: Duration) -> Option<Duration> {
        let asked = self.open.iter().map(|open| open.asked).min();
        asked.map(|asked| asked + patience)
    }

    /// The next new message that is due, which has no receipt from here on.
    pub(crate) fn next_due(&mut self, now: Duration) -> Option<u32> {
        if self.open.len() >= MAX_OPEN || self.due(self.next) > now {
            return None;
        }
        let seq = self.next;
        self.next += 1;
        self.open.push_back(Open { seq, asked: now });
        Some(seq)
    }

    /// What was asked for before `before` and has no receipt, in the order in which it was first
    /// sent: all of it is sent again now.
    pub(crate) fn again(&mut self, before: Duration, now: Duration) -> Vec<u32> {
        let due = self.open.iter_mut().filter(|open| open.asked <= before);
        due.map(|open| {
            open.asked = now;
            open.seq
        })
        .collect()
    }

    /// A receipt came.
    pub(crate) fn receipted(&mut self, seq: u32) {
        if let Ok(at) = self.open.binary_search_by_key(&seq, |open| open.seq) {
            self.open.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_has_no_receipt_is_sent_again_in_order_and_before_anything_new() {
        let mut sends = Sends::new(SECOND, SECOND, 0.0);
        assert_eq!(sends.next_due(SECOND / 2), None, "nothing is due yet");
        let now = 5 * SECOND;
        let due = std::iter::from_fn(|| sends.next_due(now)).collect::<Vec<_>>();
        assert_eq!(due, [0, 1, 2, 3, 4], "what was due while away is due now");
        sends.receipted(1);
        sends.receipted(3);
        sends.receipted(3);
        assert_eq!(sends.again(now, now), [0, 2, 4]);
        assert_eq!(sends.wake(10 * SECOND), Some(6 * SECOND));
        assert_eq!(sends.wake(SECOND / 2), Some(now + SECOND / 2));
        assert!(sends.again(now - SECOND, now).is_empty(), "just sent again");
    }

    #[test]
    fn what_waits_for_a_receipt_is_bounded_and_what_is_due_beyond_is_kept() {
        let mut sends = Sends::new(Duration::ZERO, SECOND, 0.0);
        let now = 10_000 * SECOND;
        assert_eq!(std::iter::from_fn(|| sends.next_due(now)).count(), MAX_OPEN);
        sends.receipted(0);
        assert_eq!(sends.next_due(now), Some(MAX_OPEN as u32));
        assert_eq!(sends.next_due(now), None);
    }

    #[test]
    fn the_share_that_waits_for_the_store_is_spread_evenly() {
        for (stored, wanted) in [(0.0, 0), (0.25, 25), (0.5, 50), (1.0, 100)] {
            let sends = Sends::new(SECOND, SECOND, stored);
            let found = (0..100).filter(|seq| sends.is_stored(*seq)).count();
            assert_eq!(found, wanted);
        }
    }
}
