//! What one member of a room has seen.

use std::collections::VecDeque;

use shared::message::MessageId;

use super::Slot;

/// A member of a room.
#[derive(Clone, Debug, Default)]
pub(super) struct Member {
    /// A bit for each message that has come; those of the past are left out.
    pub seen: VecDeque<u64>,
    pub newest: Option<MessageId>,
    /// What it was told that it may miss: after the first id, before the second, which is not known
    /// until the next message comes.
    pub told: Vec<(Option<MessageId>, Option<MessageId>)>,
}

impl Member {
    /// Whether this message has come.
    pub(super) fn has(&self, at: usize) -> bool {
        self.seen
            .get(at / 64)
            .is_some_and(|word| word & (1 << (at % 64)) != 0)
    }

    /// A message has come: whether it had not before.
    pub(super) fn see(&mut self, at: usize) -> bool {
        let is_new = !self.has(at);
        if self.seen.len() <= at / 64 {
            self.seen.resize(at / 64 + 1, 0);
        }
        self.seen[at / 64] |= 1 << (at % 64);
        is_new
    }

    /// Whether it was told that it may miss this message.
    pub(super) fn knows(&self, slot: &Slot) -> bool {
        slot.id.is_some_and(|id| {
            let mut told = self.told.iter();
            told.any(|(after, before)| Some(id) > *after && before.is_none_or(|before| id < before))
        })
    }
}
