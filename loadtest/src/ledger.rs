//! What each message of a room owes: one delivery to every member, in one order, one receipt, and
//! one place in the history. It counts what was not paid.

use std::ops::AddAssign;

use serde::Serialize;
use shared::message::MessageId;

/// The obligations of one room.
#[derive(Debug)]
pub(crate) struct Ledger {
    senders: usize,
    per_sender: usize,
    /// One for each message that may be sent, by sender and then sequence.
    messages: Vec<Slot>,
    members: Vec<Member>,
    faults: Faults,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    sent: bool,
    receipts: u8,
    stored: u8,
    mismatched: bool,
    /// As the first to tell it told it: a subscriber, the receipt, or the history.
    id: Option<MessageId>,
}

#[derive(Clone, Debug)]
struct Member {
    /// A bit for each message that has come.
    seen: Vec<u64>,
    newest: Option<MessageId>,
}

/// What went wrong, counted. All zeros is the only good result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
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
    /// Receipts that came again, or for nothing that was sent.
    pub receipts_doubled: u64,
    /// Receipted messages that the history does not have.
    pub history_missing: u64,
    /// Messages that the history has again.
    pub history_doubled: u64,
    /// Messages that the history has before one of a smaller id.
    pub history_reordered: u64,
}

/// What a ledger says of a delivery or a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// It paid an obligation.
    Paid,
    /// It is a fault, and was counted as one.
    Fault,
}

impl Ledger {
    /// A room with so many members, each of whom may send up to `per_sender` messages.
    pub(crate) fn new(members: usize, per_sender: usize) -> Self {
        let count = members * per_sender;
        let member = Member {
            seen: vec![0; count.div_ceil(64)],
            newest: None,
        };
        Self {
            senders: members,
            per_sender,
            messages: vec![Slot::default(); count],
            members: vec![member; members],
            faults: Faults::default(),
        }
    }

    /// A member's message is handed to the socket. Every member is owed it from here on.
    pub(crate) fn sent(&mut self, sender: usize, seq: usize) {
        if let Some(at) = self.at(sender, seq) {
            self.messages[at].sent = true;
        }
    }

    /// A delivery of a sender's message to a member.
    pub(crate) fn delivered(
        &mut self,
        member: usize,
        sender: usize,
        seq: usize,
        id: MessageId,
    ) -> Entry {
        let Some(at) = self.at(sender, seq).filter(|at| self.messages[*at].sent) else {
            return self.foreign();
        };
        let reader = &mut self.members[member];
        let (word, bit) = (at / 64, 1 << (at % 64));
        if reader.seen[word] & bit != 0 {
            self.faults.duplicated += 1;
            return Entry::Fault;
        }
        reader.seen[word] |= bit;
        if reader.newest.is_some_and(|newest| id <= newest) {
            self.faults.reordered += 1;
        }
        reader.newest = reader.newest.max(Some(id));
        self.name(at, id);
        Entry::Paid
    }

    /// A delivery that bears no stamp of this run, or a wrong one.
    pub(crate) fn foreign(&mut self) -> Entry {
        self.faults.foreign += 1;
        Entry::Fault
    }

    /// A receipt for a sender's message, with the id that it names.
    pub(crate) fn receipted(&mut self, sender: usize, seq: usize, id: Option<MessageId>) -> Entry {
        let Some(at) = self.at(sender, seq).filter(|at| self.messages[*at].sent) else {
            self.faults.receipts_doubled += 1;
            return Entry::Fault;
        };
        let slot = &mut self.messages[at];
        slot.receipts = slot.receipts.saturating_add(1);
        if slot.receipts > 1 {
            self.faults.receipts_doubled += 1;
            return Entry::Fault;
        }
        match id {
            Some(id) => self.name(at, id),
            None => slot.mismatched = true,
        }
        Entry::Paid
    }

    /// The whole history of the room, in the order in which it was read: the sender's place and
    /// sequence of each message, or `None` for one that this run did not send.
    pub(crate) fn stored(
        &mut self,
        history: impl IntoIterator<Item = (MessageId, Option<(usize, usize)>)>,
    ) {
        let mut newest = None;
        for (id, message) in history {
            if newest.is_some_and(|newest| id < newest) {
                self.faults.history_reordered += 1;
            }
            newest = newest.max(Some(id));
            let at = message.and_then(|(sender, seq)| self.at(sender, seq));
            let Some(at) = at.filter(|at| self.messages[*at].sent) else {
                self.faults.foreign += 1;
                continue;
            };
            let slot = &mut self.messages[at];
            slot.stored = slot.stored.saturating_add(1);
            if slot.stored > 1 {
                self.faults.history_doubled += 1;
            } else {
                self.name(at, id);
            }
        }
        let missing = self
            .messages
            .iter()
            .filter(|slot| slot.receipts > 0 && slot.stored == 0);
        self.faults.history_missing += missing.count() as u64;
    }

    /// How many messages have a receipt.
    pub(crate) fn receipts(&self) -> usize {
        self.messages
            .iter()
            .filter(|slot| slot.receipts > 0)
            .count()
    }

    /// What was not paid, once nothing more can come.
    pub(crate) fn close(&self) -> Faults {
        let mut faults = self.faults;
        for (at, slot) in self
            .messages
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.sent)
        {
            let missed = |member: &&Member| member.seen[at / 64] & (1 << (at % 64)) == 0;
            faults.lost += self.members.iter().filter(missed).count() as u64;
            faults.receipts_missing += u64::from(slot.receipts == 0);
            faults.mismatched_ids += u64::from(slot.mismatched);
        }
        // Deliveries come in the order of ids, so that a sender's order is kept for everyone when
        // it is that of the ids.
        for sender in 0..self.senders {
            let own = &self.messages[sender * self.per_sender..][..self.per_sender];
            let ids = own.iter().filter_map(|slot| slot.id).collect::<Vec<_>>();
            faults.reordered += ids.windows(2).filter(|pair| pair[0] >= pair[1]).count() as u64;
        }
        faults
    }

    fn name(&mut self, at: usize, id: MessageId) {
        let slot = &mut self.messages[at];
        slot.mismatched |= *slot.id.get_or_insert(id) != id;
    }

    fn at(&self, sender: usize, seq: usize) -> Option<usize> {
        (sender < self.senders && seq < self.per_sender).then(|| sender * self.per_sender + seq)
    }
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

#[cfg(test)]
mod tests;
