//! What a load is owed at its end.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use serde::Serialize;

use crate::ledger::Faults;

/// What a load has shown.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Outcome {
    /// Messages that were sent, each counted once however often.
    pub sent: u64,
    /// Of those, with a receipt.
    pub receipted: u64,
    /// What was not paid.
    pub debts: Debts,
    /// How often a member was told that not everything that it missed can be had.
    pub told: u64,
    /// Deliveries that never came to members who were told so.
    pub told_missing: u64,
    /// Why connections ended or could not be made, and how often.
    pub ends: BTreeMap<String, u64>,
    /// The first debts of each room in words.
    pub notes: Vec<String>,
}

impl Outcome {
    /// Counts as lost what members were told that they may miss, and did: nothing had taken it from
    /// the system.
    pub(crate) fn owe_what_was_told(&mut self) {
        if self.told_missing > 0 {
            self.debts.lost += self.told_missing;
            let note = format!(
                "{} deliveries never came to who was told so, though all could be had",
                self.told_missing
            );
            self.notes.insert(0, note);
        }
    }
}

/// Obligations that were not paid, by kind. Their details are in [`Faults`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Debts {
    /// Deliveries that never came, and messages with a receipt that the history does not have.
    pub lost: u64,
    /// Deliveries that came again, and messages that the history has again.
    pub doubled: u64,
    /// Deliveries and messages of the history before one of a smaller id, and messages of one sender
    /// accepted in another order than he sent them.
    pub out_of_order: u64,
    /// Messages that never got a receipt, though everything had time to recover.
    pub unreceipted: u64,
    /// Messages that receipt, deliveries and history name differently.
    pub misnamed: u64,
    /// Receipts that nobody asked for, deliveries and messages that nobody sent.
    pub foreign: u64,
    /// Rooms whose history could not be read.
    pub unread: u64,
}

impl Debts {
    /// Whether there are none.
    pub(crate) fn is_clean(self) -> bool {
        self == Self::default()
    }

    /// Those that have no column of their own in the table.
    pub(crate) fn others(self) -> u64 {
        self.unreceipted + self.misnamed + self.foreign + self.unread
    }
}

impl From<Faults> for Debts {
    fn from(faults: Faults) -> Self {
        Self {
            lost: faults.lost + faults.history_missing,
            doubled: faults.duplicated + faults.history_doubled,
            out_of_order: faults.reordered + faults.history_reordered,
            unreceipted: faults.receipts_missing,
            misnamed: faults.mismatched_ids,
            foreign: faults.foreign + faults.receipts_doubled,
            unread: 0,
        }
    }
}

impl AddAssign for Debts {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.out_of_order += other.out_of_order;
        self.unreceipted += other.unreceipted;
        self.misnamed += other.misnamed;
        self.foreign += other.foreign;
        self.unread += other.unread;
    }
}

impl fmt::Display for Debts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            ("lost", self.lost),
            ("doubled", self.doubled),
            ("out of order", self.out_of_order),
            ("without receipt", self.unreceipted),
            ("with two ids", self.misnamed),
            ("foreign", self.foreign),
            ("rooms unread", self.unread),
        ];
        let owed = kinds.iter().filter(|(_, count)| *count > 0);
        let owed = owed.map(|(name, count)| format!("{name} {count}"));
        match owed.collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => f.write_str("no debt"),
            some => f.write_str(&some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_be_told_pays_nothing_where_all_could_be_had() {
        let mut outcome = Outcome {
            told: 2,
            ..Outcome::default()
        };
        outcome.owe_what_was_told();
        assert!(outcome.debts.is_clean(), "told, and nothing missing");
        outcome.told_missing = 3;
        outcome.owe_what_was_told();
        assert_eq!(outcome.debts.lost, 3);
        assert_eq!(outcome.notes.len(), 1);
    }
}
