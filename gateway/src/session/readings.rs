//! Readings of the past, a few at a time: a page of large messages is megabytes, and a client may
//! ask for as many pages as it may have subscriptions.

use std::collections::VecDeque;

use shared::message::Span;

use super::output::Slot;

/// The most readings of one connection that are under way.
const MAX_UNDER_WAY: usize = 2;

/// The readings that subscriptions of one session have asked for.
#[derive(Debug, Default)]
pub(super) struct Readings {
    waiting: VecDeque<(Slot, Span, usize)>,
    under_way: usize,
}

impl Readings {
    /// Asks for a reading.
    pub(super) fn ask(&mut self, slot: Slot, span: Span, limit: usize) {
        self.waiting.push_back((slot, span, limit));
    }

    /// The next reading to carry out now, where there is room for one.
    pub(super) fn begin(&mut self) -> Option<(Slot, Span, usize)> {
        if self.under_way >= MAX_UNDER_WAY {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.under_way += 1;
        Some(next)
    }

    /// A reading has its answer, or is not wanted any more.
    pub(super) fn end(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }
}
