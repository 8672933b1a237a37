//! Which messages a room's members were shown lately.

use std::collections::VecDeque;
use std::time::Duration;

use shared::message::MessageId;

/// How long is lately, by the broker's clock: longer than gateways differ about which of a broker's
/// servers is the right one.
const LATELY: Duration = Duration::from_secs(60);

/// The most ids that are remembered of one room: 8 KiB.
const MOST: usize = 512;

/// The ids of what was shown lately, and one older, oldest first. They only grow.
#[derive(Debug, Default)]
pub(crate) struct Shown(VecDeque<MessageId>);

impl Shown {
    /// The message with this id, greater than all before, is shown.
    pub(crate) fn push(&mut self, id: MessageId) {
        let since = id.stamp().ms.saturating_sub(LATELY.as_millis() as u64);
        while self.0.len() >= MOST || self.0.get(1).is_some_and(|id| id.stamp().ms < since) {
            self.0.pop_front();
        }
        self.0.push_back(id);
    }

    /// The newest.
    pub(crate) fn newest(&self) -> Option<MessageId> {
        self.0.back().copied()
    }

    /// The oldest that is remembered.
    pub(crate) fn oldest(&self) -> Option<MessageId> {
        self.0.front().copied()
    }

    /// Whether this one was shown.
    pub(crate) fn has(&self, id: MessageId) -> bool {
        self.0.binary_search(&id).is_ok()
    }

    /// Whether this one is older than what is remembered.
    pub(crate) fn precedes(&self, id: MessageId) -> bool {
        self.oldest().is_some_and(|oldest| id < oldest)
    }
}

#[cfg(test)]
mod tests {
    use shared::message::Stamp;

    use super::*;

    #[test]
    fn what_is_remembered_of_a_busy_room_takes_no_more_than_it_says() {
        let mut shown = Shown::default();
        for ms in 0..10_000 {
            shown.push(MessageId::new(Stamp { ms, seq: 0 }, 0));
        }
        assert_eq!(shown.0.len(), MOST);
        assert_eq!(shown.0.capacity() * size_of::<MessageId>(), 8 << 10);
    }
}
