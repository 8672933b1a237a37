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

mod faults;
mod member;
mod past;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use shared::message::MessageId;

pub(crate) use self::faults::Faults;
use self::member::Member;
use self::past::Past;
use crate::target::Checks;

/// How many faults of one room are described in words.
const MAX_NOTES: usize = 8;

/// The obligations of one room.
#[derive(Debug)]
pub(crate) struct Ledger {
    senders: usize,
    checks: Checks,
    /// One for each message that was sent, by sequence and then sender, with holes where one sender
    /// is ahead of another; those of the past are left out.
    messages: VecDeque<Slot>,
    members: Vec<Member>,
    faults: Faults,
    notes: Vec<String>,
    /// Deliveries and messages with a receipt that are owed.
    owed: u64,
    /// Of those, what has come.
    paid: u64,
    /// What it has let go of, where it does so.
    past: Option<Box<Past>>,
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
            messages: VecDeque::new(),
            members: vec![Member::default(); members],
            faults: Faults::default(),
            notes: Vec::new(),
            owed: 0,
            paid: 0,
            past: None,
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
        // Nobody is so far behind the others.
        let Some(place) = at.checked_sub(self.first()) else {
            return;
        };
        if self.messages.len() <= place {
            self.messages.resize(place + 1, Slot::default());
        }
        let slot = &mut self.messages[place];
        slot.sent = slot.sent.saturating_add(1);
        if slot.sent == 1 {
            let owed = self.members.len() + usize::from(self.checks.receipts);
            self.owed += owed as u64;
            self.owe(at, owed);
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
        if !self.see(member, at) {
            self.faults.duplicated += 1;
            let first = self.slot(at).and_then(|slot| slot.id);
            self.note(|| {
                let first = first.map(|id| id.to_string()).unwrap_or_default();
                format!(
                    "member {member} got message {seq} of member {sender} again: {}, first as {first}",
                    id.map(described).unwrap_or_default()
                )
            });
            return Entry::Fault;
        }
        self.paid += 1;
        let Some(id) = id else {
            // What is out of order at all is out of order somewhere with what comes next.
            if self
                .at(sender, seq + 1)
                .is_some_and(|next| self.has(member, next))
            {
                self.faults.reordered += 1;
                self.note(|| {
                    format!(
                        "member {member} got message {seq} of member {sender} after the one that was \
                         sent next"
                    )
                });
            }
            self.pay(at);
            return Entry::Paid;
        };
        let reader = &mut self.members[member];
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
        self.pay(at);
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
        let (receipts, sent) = match self.slot_mut(at) {
            Some(slot) => {
                slot.receipts = slot.receipts.saturating_add(1);
                (slot.receipts, slot.sent)
            }
            // It had its receipt, or it would be there.
            None => (2, 1),
        };
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
                self.mismatch(at);
                self.note(|| format!("a receipt of member {sender} for {seq} names no id"));
            }
        }
        if receipts > 1 {
            return Entry::Again;
        }
        self.paid += 1;
        self.pay(at);
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
            let Some(slot) = self.slot_mut(at) else {
                continue;
            };
            slot.stored = slot.stored.saturating_add(1);
            if slot.stored > 1 {
                self.faults.history_doubled += 1;
                let message = self.message(at);
                self.note(|| format!("the history has {message} again, as {}", described(id)));
            } else {
                self.name(at, id, || "the history has it".to_owned());
            }
        }
        for at in self.first()..self.first() + self.messages.len() {
            let slot = &self.messages[at - self.first()];
            if slot.receipts > 0 && slot.stored == 0 {
                self.faults.history_missing += 1;
                let message = self.message(at);
                self.note(|| format!("the history does not have {message}, which has a receipt"));
            }
        }
    }

    /// How many messages were sent.
    pub(crate) fn messages(&self) -> usize {
        let gone = self.past.as_ref().map_or(0, |past| past.gone);
        gone + self.open().filter(|(_, slot)| slot.sent > 0).count()
    }

    /// How many messages have a receipt.
    pub(crate) fn receipts(&self) -> usize {
        let gone = self.past.as_ref().map_or(0, |past| past.receipts);
        gone + self.open().filter(|(_, slot)| slot.receipts > 0).count()
    }

    /// Whether everything that was sent has a receipt and has come to everybody who was not told that
    /// it would not.
    pub(crate) fn is_settled(&self) -> bool {
        // Counting is cheap, and looking at each message of each member is not.
        self.paid == self.owed || (self.excused() > 0 && self.owed - self.paid == self.excused())
    }

    /// Deliveries that never came to members who were told so.
    pub(crate) fn excused(&self) -> u64 {
        let members = self.members.iter().enumerate();
        let told = members.filter(|(_, member)| !member.told.is_empty());
        let missed = told.flat_map(|(number, member)| {
            let sent = self.open().filter(|(_, slot)| slot.sent > 0);
            sent.filter(move |(at, slot)| !self.has(number, *at) && member.knows(slot))
        });
        missed.count() as u64
    }

    /// What was not paid, once nothing more can come.
    pub(crate) fn close(&mut self) -> Faults {
        let mut faults = self.faults;
        let owing = self.past.iter().flat_map(|past| past.owing.keys().copied());
        let places = self.first()..self.first() + self.messages.len();
        for at in owing.collect::<Vec<_>>().into_iter().chain(places) {
            let slot = self.slot(at).cloned().unwrap_or_default();
            if slot.sent > 0 {
                faults.mismatched_ids += u64::from(slot.mismatched);
                let lost = self.members.iter().enumerate();
                let lost = lost.filter(|(member, it)| !self.has(*member, at) && !it.knows(&slot));
                let lost = lost.map(|(member, _)| member).collect();
                faults += self.unpaid(at, &slot, lost);
            }
        }
        // Deliveries come in the order of ids, so that a sender's order is kept for everyone when
        // it is that of the ids.
        for sender in 0..self.senders {
            let first = self.first();
            let ahead = (sender + self.senders - first % self.senders) % self.senders;
            let own = (ahead..self.messages.len()).step_by(self.senders);
            let named = own.filter_map(|place| Some((first + place, self.messages[place].id?)));
            let mut newest = self.past.as_ref().and_then(|past| past.newest(sender));
            for (at, id) in named.collect::<Vec<_>>() {
                if newest.is_some_and(|newest| newest >= id) {
                    faults.reordered += 1;
                    let message = self.message(at);
                    self.note(|| format!("{message} has no greater id than one before it"));
                }
                newest = Some(id);
            }
        }
        faults
    }

    /// The first faults in words, without the room's name.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What a message that these members have lost still owes.
    fn unpaid(&mut self, at: usize, slot: &Slot, lost: Vec<usize>) -> Faults {
        let mut faults = Faults {
            lost: lost.len() as u64,
            ..Faults::default()
        };
        if self.checks.receipts && slot.receipts == 0 {
            faults.receipts_missing = 1;
            let message = self.described(at, slot);
            self.note(|| format!("no receipt has come for {message}"));
        }
        if let Some(first) = lost.first() {
            let (message, newest) = (self.described(at, slot), self.members[*first].newest);
            let others = lost.len() - 1;
            self.note(|| {
                let newest = newest.map_or_else(|| "nothing".to_owned(), described);
                format!(
                    "member {first} (and {others} more) never got {message}; the newest that it got is \
                     {newest}"
                )
            });
        }
        faults
    }

    fn name(&mut self, at: usize, id: MessageId, who: impl FnOnce() -> String) {
        let Some(slot) = self.slot_mut(at) else {
            return;
        };
        let first = *slot.id.get_or_insert(id);
        if first != id {
            slot.mismatched = true;
            let message = self.message(at);
            self.note(|| format!("{message} has two ids: {} as {}", who(), described(id)));
        }
    }

    fn mismatch(&mut self, at: usize) {
        if let Some(slot) = self.slot_mut(at) {
            slot.mismatched = true;
        }
    }

    /// Where a message is, if it was sent.
    fn at(&self, sender: usize, seq: usize) -> Option<usize> {
        let at = seq.checked_mul(self.senders)?.checked_add(sender)?;
        let is_known = || match (at.checked_sub(self.first()), &self.past) {
            (Some(place), _) => self.messages.get(place).is_some_and(|slot| slot.sent > 0),
            (None, Some(past)) => past.has(sender, seq),
            (None, None) => false,
        };
        (sender < self.senders && is_known()).then_some(at)
    }

    /// The place of the first message that is not of the past.
    fn first(&self) -> usize {
        self.past.as_ref().map_or(0, |past| past.first)
    }

    /// All that it has not let go of.
    fn open(&self) -> impl Iterator<Item = (usize, &Slot)> {
        let owing = self.past.iter().flat_map(|past| &past.owing);
        let owing = owing.map(|(at, owing)| (*at, &owing.slot));
        owing.chain((self.first()..).zip(&self.messages))
    }

    fn slot(&self, at: usize) -> Option<&Slot> {
        match at.checked_sub(self.first()) {
            Some(place) => self.messages.get(place),
            None => Some(&self.past.as_ref()?.owing.get(&at)?.slot),
        }
    }

    fn slot_mut(&mut self, at: usize) -> Option<&mut Slot> {
        match at.checked_sub(self.first()) {
            Some(place) => self.messages.get_mut(place),
            None => Some(&mut self.past.as_mut()?.owing.get_mut(&at)?.slot),
        }
    }

    /// Whether a message that was sent has come to a member.
    fn has(&self, member: usize, at: usize) -> bool {
        match (at.checked_sub(self.first()), &self.past) {
            (Some(place), _) => self.members[member].has(place),
            (None, Some(past)) => past.owing.get(&at).is_none_or(|owing| owing.has(member)),
            (None, None) => false,
        }
    }

    /// A message that was sent has come to a member: whether it had not before.
    fn see(&mut self, member: usize, at: usize) -> bool {
        let Some(place) = at.checked_sub(self.first()) else {
            let owing = self.past.as_mut().and_then(|past| past.owing.get_mut(&at));
            return owing.is_some_and(|owing| owing.see(member));
        };
        self.members[member].see(place)
    }

    fn message(&self, at: usize) -> String {
        match self.slot(at) {
            Some(slot) => self.described(at, slot),
            None => self.described(at, &Slot::default()),
        }
    }

    fn described(&self, at: usize, Slot { id, sent, .. }: &Slot) -> String {
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

fn described(id: MessageId) -> String {
    format!("{id}, accepted {}", id.created_at_rfc3339())
}
