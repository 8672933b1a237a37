//! What each message of a room owes: one delivery to every member, in one order, a receipt for each
//! time that it was sent, and one place in the history. It counts what was not paid.
//!
//! What is owed, case by case, by the promises of the README:
//! - **A message with a receipt** is in the history once, under the id of its receipt, before what has
//!   a greater id, and after what its sender sent before it.
//! - **A message that was sent again** with the same key is one message. Each sending may be answered by
//!   a receipt of its own, and all of them name one id.
//! - **A message without a receipt** at the end owes that receipt, and is owed to every member all the
//!   same, since its sender went on asking until the end. The history may have it or not.
//! - **A member** gets every message of its room once, in the order of ids, from when the load began: it
//!   stays, or comes back with `after`. Seen once and stored never, or stored under another id than
//!   it was seen with, is a fault like any other.
//! - **A member who was told** (`recovered:false`) may miss what lies between the newest message that it
//!   had seen and the next that comes after it was told. That is counted apart, and is no fault: the
//!   promise is every message or being told. It gets none of it twice and nothing out of order either.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};
use shared::message::MessageId;

use crate::target::Checks;

/// How many faults of one room are described in words.
const MAX_NOTES: usize = 8;

/// The obligations of one room.
#[derive(Debug)]
pub(crate) struct Ledger {
    senders: usize,
    checks: Checks,
    /// One for each message that was sent, by sequence and then sender, with holes where one sender
    /// is ahead of another.
    messages: Vec<Slot>,
    members: Vec<Member>,
    faults: Faults,
    notes: Vec<String>,
    /// Deliveries and messages with a receipt that are owed.
    owed: u64,
    /// Of those, what has come.
    paid: u64,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    /// How often it was sent.
    sent: u16,
    receipts: u16,
    stored: u8,
    mismatched: bool,
    /// As the first to tell it told it: a subscriber, the receipt, or the history.
    id: Option<MessageId>,
}

#[derive(Clone, Debug, Default)]
struct Member {
    /// A bit for each message that has come.
    seen: Vec<u64>,
    newest: Option<MessageId>,
    /// What it was told that it may miss: after the first id, before the second, which is not known
    /// until the next message comes.
    told: Vec<(Option<MessageId>, Option<MessageId>)>,
}

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

/// What a ledger says of a delivery or a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// It paid an obligation.
    Paid,
    /// It was paid before, and this is no fault.
    Again,
    /// It is a fault, and was counted as one.
    Fault,
}

impl Ledger {
    /// A room with so many members, the first of whom may send.
    pub(crate) fn new(members: usize, senders: usize) -> Self {
        Self {
            senders,
            checks: Checks::ALL,
            messages: Vec::new(),
            members: vec![Member::default(); members],
            faults: Faults::default(),
            notes: Vec::new(),
            owed: 0,
            paid: 0,
        }
    }

    /// The same, for a server of which only this can be checked. Without ids, each sender's messages are
    /// owed in the order in which it sent them.
    pub(crate) fn checking(self, checks: Checks) -> Self {
        Self { checks, ..self }
    }

    /// A member's message is handed to the socket, for the first time or again. Every member is
    /// owed it from here on.
    pub(crate) fn sent(&mut self, sender: usize, seq: usize) {
        let at = seq * self.senders + sender;
        if self.messages.len() <= at {
            self.messages.resize(at + 1, Slot::default());
        }
        let slot = &mut self.messages[at];
        slot.sent = slot.sent.saturating_add(1);
        if slot.sent == 1 {
            self.owed += self.members.len() as u64 + u64::from(self.checks.receipts);
        }
    }

    /// A delivery of a sender's message to a member.
    pub(crate) fn delivered(
        &mut self,
        member: usize,
        sender: usize,
        seq: usize,
        id: impl Into<Option<MessageId>>,
    ) -> Entry {
        let Some(at) = self.at(sender, seq) else {
            return self.foreign();
        };
        let id = id.into();
        let reader = &mut self.members[member];
        let (word, bit) = (at / 64, 1 << (at % 64));
        if reader.seen.len() <= word {
            reader.seen.resize(word + 1, 0);
        }
        if reader.seen[word] & bit != 0 {
            self.faults.duplicated += 1;
            let first = self.messages[at].id;
            self.note(|| {
                let first = first.map(|id| id.to_string()).unwrap_or_default();
                format!(
                    "member {member} got message {seq} of member {sender} again: {}, first as {first}",
                    id.map(described).unwrap_or_default()
                )
            });
            return Entry::Fault;
        }
        reader.seen[word] |= bit;
        self.paid += 1;
        let Some(id) = id else {
            // What is out of order at all is out of order somewhere with what comes next.
            if reader.has(at + self.senders) {
                self.faults.reordered += 1;
                self.note(|| {
                    format!(
                        "member {member} got message {seq} of member {sender} after the one that was \
                         sent next"
                    )
                });
            }
            return Entry::Paid;
        };
        let newest = reader.newest;
        reader.newest = newest.max(Some(id));
        if let Some((_, end @ None)) = reader.told.last_mut() {
            *end = Some(id);
        }
        if let Some(newest) = newest.filter(|newest| id <= *newest) {
            self.faults.reordered += 1;
            self.note(|| {
                format!(
                    "member {member} got message {seq} of member {sender} out of order: {}, after {newest}",
                    described(id)
                )
            });
        }
        self.name(at, id, || format!("member {member} got it"));
        Entry::Paid
    }

    /// A member who came back with `after` the newest message that it had seen was told that what
    /// followed may not be whole.
    pub(crate) fn told(&mut self, member: usize, after: Option<MessageId>) {
        self.members[member].told.push((after, None));
    }

    /// A delivery that bears no stamp of this run, or a wrong one.
    pub(crate) fn foreign(&mut self) -> Entry {
        self.faults.foreign += 1;
        self.note(|| "a member got what nobody sent, or not as it was sent".to_owned());
        Entry::Fault
    }

    /// A receipt for a sender's message, with the id that it names.
    pub(crate) fn receipted(&mut self, sender: usize, seq: usize, id: Option<MessageId>) -> Entry {
        let Some(at) = self.at(sender, seq) else {
            self.faults.receipts_doubled += 1;
            self.note(|| format!("member {sender} got a receipt for {seq}, which it never sent"));
            return Entry::Fault;
        };
        let slot = &mut self.messages[at];
        slot.receipts = slot.receipts.saturating_add(1);
        let Slot { receipts, sent, .. } = *slot;
        if receipts > sent {
            self.faults.receipts_doubled += 1;
            self.note(|| {
                format!("member {sender} got {receipts} receipts for {seq}, sent {sent} times")
            });
            return Entry::Fault;
        }
        match id.filter(|_| self.checks.ids) {
            Some(id) => self.name(at, id, || format!("receipt {receipts} names it")),
            None if !self.checks.ids => {}
            None => {
                slot.mismatched = true;
                self.note(|| format!("a receipt of member {sender} for {seq} names no id"));
            }
        }
        if receipts > 1 {
            return Entry::Again;
        }
        self.paid += 1;
        Entry::Paid
    }

    /// The whole history of the room, in the order in which it was read: the sender's place and
    /// sequence of each message, or `None` for one that this run did not send. Another history of it,
    /// from elsewhere, owes the same.
    pub(crate) fn stored(
        &mut self,
        history: impl IntoIterator<Item = (MessageId, Option<(usize, usize)>)>,
    ) {
        for slot in &mut self.messages {
            slot.stored = 0;
        }
        let mut newest = None;
        for (id, message) in history {
            if let Some(newest) = newest.filter(|newest| id < *newest) {
                self.faults.history_reordered += 1;
                self.note(|| format!("the history has {} after {newest}", described(id)));
            }
            newest = newest.max(Some(id));
            let at = message.and_then(|(sender, seq)| self.at(sender, seq));
            let Some(at) = at else {
                self.faults.foreign += 1;
                self.note(|| format!("the history has {}, which nobody sent", described(id)));
                continue;
            };
            let slot = &mut self.messages[at];
            slot.stored = slot.stored.saturating_add(1);
            if slot.stored > 1 {
                self.faults.history_doubled += 1;
                let message = self.message(at);
                self.note(|| format!("the history has {message} again, as {}", described(id)));
            } else {
                self.name(at, id, || "the history has it".to_owned());
            }
        }
        for at in 0..self.messages.len() {
            let slot = &self.messages[at];
            if slot.receipts > 0 && slot.stored == 0 {
                self.faults.history_missing += 1;
                let message = self.message(at);
                self.note(|| format!("the history does not have {message}, which has a receipt"));
            }
        }
    }

    /// How many messages were sent.
    pub(crate) fn messages(&self) -> usize {
        self.messages.iter().filter(|slot| slot.sent > 0).count()
    }

    /// How many messages have a receipt.
    pub(crate) fn receipts(&self) -> usize {
        self.messages
            .iter()
            .filter(|slot| slot.receipts > 0)
            .count()
    }

    /// Whether everything that was sent has a receipt and has come to everybody who was not told that
    /// it would not.
    pub(crate) fn is_settled(&self) -> bool {
        // Counting is cheap, and looking at each message of each member is not.
        self.paid == self.owed || (self.excused() > 0 && self.owed - self.paid == self.excused())
    }

    /// Deliveries that never came to members who were told so.
    pub(crate) fn excused(&self) -> u64 {
        let told = self.members.iter().filter(|member| !member.told.is_empty());
        let missed = told.flat_map(|member| {
            let sent = self.messages.iter().enumerate();
            sent.filter(|(at, slot)| slot.sent > 0 && !member.has(*at) && member.knows(slot))
        });
        missed.count() as u64
    }

    /// What was not paid, once nothing more can come.
    pub(crate) fn close(&mut self) -> Faults {
        let mut faults = self.faults;
        for at in 0..self.messages.len() {
            let slot = &self.messages[at].clone();
            if slot.sent == 0 {
                continue;
            }
            let has_receipt = slot.receipts > 0 || !self.checks.receipts;
            faults.receipts_missing += u64::from(!has_receipt);
            faults.mismatched_ids += u64::from(slot.mismatched);
            if !has_receipt {
                let message = self.message(at);
                self.note(|| format!("no receipt has come for {message}"));
            }
            let missed = |member: &Member| !member.has(at) && !member.knows(slot);
            let lost = (0..self.members.len()).filter(|reader| missed(&self.members[*reader]));
            let lost = lost.collect::<Vec<_>>();
            faults.lost += lost.len() as u64;
            if let Some(first) = lost.first() {
                let (message, newest) = (self.message(at), self.members[*first].newest);
                let others = lost.len() - 1;
                self.note(|| {
                    let newest = newest.map_or_else(|| "nothing".to_owned(), described);
                    format!(
                        "member {first} (and {others} more) never got {message}; the newest that it got \
                         is {newest}"
                    )
                });
            }
        }
        // Deliveries come in the order of ids, so that a sender's order is kept for everyone when
        // it is that of the ids.
        for sender in 0..self.senders {
            let own = (sender..self.messages.len()).step_by(self.senders);
            let named = own.filter(|at| self.messages[*at].id.is_some());
            let named = named.collect::<Vec<_>>();
            for pair in named.windows(2) {
                if self.messages[pair[0]].id >= self.messages[pair[1]].id {
                    faults.reordered += 1;
                    let (first, second) = (self.message(pair[0]), self.message(pair[1]));
                    self.note(|| format!("{second} has no greater id than {first}"));
                }
            }
        }
        faults
    }

    /// The first faults in words, without the room's name.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    fn name(&mut self, at: usize, id: MessageId, who: impl FnOnce() -> String) {
        let slot = &mut self.messages[at];
        let first = *slot.id.get_or_insert(id);
        if first != id {
            slot.mismatched = true;
            let message = self.message(at);
            self.note(|| format!("{message} has two ids: {} as {}", who(), described(id)));
        }
    }

    fn at(&self, sender: usize, seq: usize) -> Option<usize> {
        let at = seq.checked_mul(self.senders)?.checked_add(sender)?;
        let sent = sender < self.senders && self.messages.get(at)?.sent > 0;
        sent.then_some(at)
    }

    fn message(&self, at: usize) -> String {
        let Slot { id, sent, .. } = &self.messages[at];
        let (seq, sender) = (at / self.senders, at % self.senders);
        let id = id
            .map(described)
            .unwrap_or_else(|| "no id known".to_owned());
        let again = match sent {
            0 | 1 => String::new(),
            times => format!(", sent {times} times"),
        };
        format!("message {seq} of member {sender} ({id}{again})")
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push(text());
        }
    }
}

impl Member {
    fn has(&self, at: usize) -> bool {
        self.seen
            .get(at / 64)
            .is_some_and(|word| word & (1 << (at % 64)) != 0)
    }

    /// Whether it was told that it may miss this message.
    fn knows(&self, slot: &Slot) -> bool {
        slot.id.is_some_and(|id| {
            let mut told = self.told.iter();
            told.any(|(after, before)| Some(id) > *after && before.is_none_or(|before| id < before))
        })
    }
}

fn described(id: MessageId) -> String {
    format!("{id}, accepted {}", id.created_at_rfc3339())
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
