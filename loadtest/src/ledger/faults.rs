//! What went wrong with messages, as numbers.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// What went wrong, counted. All zeros is the only good result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Faults {
    /// Deliveries that never came: a sent message counts once for each member who missed it.
    pub lost: u64,
    /// Deliveries that came again.
    pub duplicated: u64,
    /// Deliveries with a smaller id than the member had seen before, and messages whose sender
    /// sent them in another order than that of their ids.
    pub reordered: u64,
    /// Deliveries that this run did not send, or not with that body or sender.
    pub foreign: u64,
    /// Messages with different ids in deliveries, receipt and history, or none in the receipt.
    pub mismatched_ids: u64,
    /// Sent messages without a receipt.
    pub receipts_missing: u64,
    /// Receipts beyond one for each sending, or for nothing that was sent.
    pub receipts_doubled: u64,
    /// Receipted messages that the history does not have.
    pub history_missing: u64,
    /// Messages that the history has again.
    pub history_doubled: u64,
    /// Messages that the history has before one of a smaller id.
    pub history_reordered: u64,
}

impl Faults {
    /// Whether nothing went wrong.
    pub(crate) fn is_clean(self) -> bool {
        self == Self::default()
    }
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.foreign += other.foreign;
        self.mismatched_ids += other.mismatched_ids;
        self.receipts_missing += other.receipts_missing;
        self.receipts_doubled += other.receipts_doubled;
        self.history_missing += other.history_missing;
        self.history_doubled += other.history_doubled;
        self.history_reordered += other.history_reordered;
    }
}
