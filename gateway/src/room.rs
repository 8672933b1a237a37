//! One room on one gateway: its members, what they were shown last, and what waits for a repair.
//!
//! In a journaled room ids grow and each message names the one before it, so that a repeat and a
//! gap show. While a gap is repaired, what is newer waits; what is ephemeral has no place in that
//! order, and passes.
//!
//! What a broker's server has shown may go with it: one that takes its place may have lost the
//! newest messages, and have given others ids below theirs. So a repair begins at the newest that was
//! shown where the broker has it, else at the oldest of what was shown lately; and whatever it finds
//! there that was not shown is a gap that cannot be closed, because what is newer has been seen.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use shared::broker::handover::weight;
use shared::message::{Message, MessageId};

use crate::members::Members;
use crate::shown::Shown;
use crate::whispers::Whispers;

/// How old a message is that may be gone without harm: no server of a broker is taken for the right
/// one for so long, and what a store removes by age is older.
const SETTLED: Duration = Duration::from_secs(600);

/// The state of one room.
#[derive(Default)]
pub(crate) struct Room {
    /// Who is here.
    pub(crate) members: Members,
    /// What this gateway's own clients have sent here that is ephemeral.
    pub(crate) whispers: Whispers,
    journaled: bool,
    checks_prev: bool,
    window: Duration,
    shown: Shown,
    /// The broker has confirmed the room: from here on nothing may be missed.
    confirmed: bool,
    /// Something may have been missed before.
    disturbed: bool,
    max_held_bytes: usize,
    repair: Option<Repair>,
}

/// What a reading for a repair has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repaired {
    /// There is more to read.
    Partly,
    /// What came live was not found: who was asked is behind, or it has gone with a server of the
    /// broker's, and its sender may send it again.
    Behind,
    /// Nothing is missing any more; whether anything was.
    Wholly {
        /// Something was fetched that had not come live.
        has_missed: bool,
    },
}

/// Something was missed that comes before what members have seen, or is nowhere any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unrepairable;

#[derive(Default)]
struct Repair {
    held: Vec<Arc<Message>>,
    held_bytes: usize,
    /// Something may have been missed since the reading began.
    more: bool,
    /// So may something anywhere in what was shown lately.
    again: bool,
    /// The last message that was read.
    read: Option<MessageId>,
    /// What was accepted up to here is found by the reading under way.
    covered: Option<MessageId>,
    has_missed: bool,
}

/// What a live message is to what was shown before it.
enum Place {
    Next,
    Repeat,
    /// Something before it may be missing.
    Doubtful,
}

impl Room {
    /// A room without members. `journaled` is what the broker guarantees; `checks_prev` is whether
    /// what a message names as the one before it is believed; after a silence of `window` it may name
    /// none. Of what arrives during a repair at most `max_held_bytes` octets wait; beyond, they are dropped and read again.
    pub(crate) fn new(
        journaled: bool,
        checks_prev: bool,
        window: Duration,
        max_held_bytes: usize,
    ) -> Self {
        Self {
            journaled,
            checks_prev,
            window,
            max_held_bytes,
            ..Self::default()
        }
    }

    /// The newest message that the room is known to have.
    pub(crate) fn newest(&self) -> Option<MessageId> {
        self.shown.newest()
    }

    /// The room is subscribed, and this was then its newest message where that could be read: what
    /// comes later and is missed is a gap. `false` when something may have been missed since it was
    /// read: read it again.
    pub(crate) fn confirm(&mut self, newest: Option<MessageId>) -> bool {
        if std::mem::take(&mut self.disturbed) {
            return false;
        }
        if let (None, Some(newest)) = (self.newest(), newest) {
            self.shown.push(newest);
        }
        self.confirmed = true;
        true
    }

    /// A live message. `false` when a gap shows: the message waits, and the caller must repair.
    pub(crate) fn arrive(&mut self, message: &Arc<Message>) -> bool {
        // Who types would have stopped by the end of a repair.
        if message.ephemeral || !self.journaled {
            if message.ephemeral {
                self.whispers.hear(message.id);
            }
            self.members.show(message);
            return true;
        }
        if let Some(repair) = &mut self.repair {
            repair.hold(message, self.max_held_bytes);
            return true;
        }
        match self.place(message) {
            Place::Next => self.deliver(message),
            Place::Repeat => {}
            Place::Doubtful => {
                let mut repair = Repair::default();
                repair.hold(message, self.max_held_bytes);
                self.repair = Some(repair);
                return false;
            }
        }
        true
    }

    /// A message that the broker has accepted from one of this gateway's own clients, by the answer to
    /// its publish: it is shown now if it is the very next one. Whether it was; otherwise it comes
    /// live.
    ///
    /// Where the newest that was shown is the one before it, nothing can lie between, and its copy that
    /// comes live is a repeat. In doubt nothing is done: the live link is what shows gaps.
    pub(crate) fn answered(&mut self, message: &Message) -> bool {
        let is_settled = self.journaled
            && self.checks_prev
            && self.confirmed
            && self.repair.is_none()
            && self.whispers.are_over();
        let is_next = message.prev.is_some_and(|prev| {
            is_settled && self.newest() == Some(prev) && message.id > prev && !message.ephemeral
        });
        if is_next {
            self.deliver(message);
        }
        is_next
    }

    /// Holds live messages back until the repair has ended. `false` when there is none to begin: one
    /// is under way and begins anew, or the room is not confirmed yet and promises nothing.
    pub(crate) fn begin_repair(&mut self) -> bool {
        if self.newest().is_none() && !self.confirmed {
            self.disturbed = true;
            return false;
        }
        match &mut self.repair {
            Some(repair) => {
                repair.again = true;
                false
            }
            None => {
                self.repair = Some(Repair::default());
                true
            }
        }
    }

    /// After which message a repair is to read now. `None` when nobody knows.
    pub(crate) fn begin_reading(&mut self) -> Option<MessageId> {
        let repair = self.repair.as_mut()?;
        if std::mem::take(&mut repair.again) {
            repair.read = None;
        }
        repair.more = false;
        repair.covered = repair.held.last().map(|message| message.id);
        repair.read.or(self.shown.oldest())
    }

    /// After which message the reading may begin as well, if the broker itself has that one: a server
    /// that has a message had all that came before it. `None` when that spares nothing.
    pub(crate) fn shortcut(&self) -> Option<MessageId> {
        let has_begun = self.repair.as_ref()?.read.is_some();
        let newest = self.newest().filter(|_| !has_begun);
        newest.filter(|newest| Some(*newest) != self.shown.oldest())
    }

    /// Where a reading began is neither in the broker nor in the store.
    ///
    /// # Errors
    /// [`Unrepairable`] unless that is so long ago that nothing can have taken its place.
    pub(crate) fn begins_nowhere(&self, from: MessageId) -> Result<(), Unrepairable> {
        match from.created_at().elapsed() {
            Ok(age) if age > SETTLED => Ok(()),
            _ => Err(Unrepairable),
        }
    }

    /// Shows what a repair has read, unless it was shown before.
    ///
    /// # Errors
    /// [`Unrepairable`] when it was not, and what comes after it was.
    pub(crate) fn replay(&mut self, message: &Message) -> Result<(), Unrepairable> {
        if self.newest().is_some_and(|newest| message.id <= newest) {
            if !self.shown.has(message.id) && !self.shown.precedes(message.id) {
                return Err(Unrepairable);
            }
        } else {
            self.deliver(message);
            if let Some(repair) = &mut self.repair {
                repair.has_missed |= !repair.held.iter().any(|held| held.id == message.id);
            }
        }
        if let Some(repair) = &mut self.repair {
            repair.read = Some(message.id);
        }
        Ok(())
    }

    /// A reading has come to the room's end: releases what waited, if nothing is missing.
    pub(crate) fn end_reading(&mut self) -> Repaired {
        let Some(mut repair) = self.repair.take() else {
            return Repaired::Wholly { has_missed: false };
        };
        let mut outcome = match repair.again || repair.more {
            true => Repaired::Partly,
            false => Repaired::Wholly {
                has_missed: repair.has_missed,
            },
        };
        let mut held = std::mem::take(&mut repair.held).into_iter().peekable();
        while let (Some(message), Repaired::Wholly { .. }) = (held.peek(), outcome) {
            match self.place(message) {
                Place::Repeat => {}
                _ if Some(message.id) <= repair.covered => outcome = Repaired::Behind,
                Place::Doubtful => outcome = Repaired::Partly,
                Place::Next => self.deliver(message),
            }
            if matches!(outcome, Repaired::Wholly { .. }) {
                held.next();
            }
        }
        repair.held = held.collect();
        if !matches!(outcome, Repaired::Wholly { .. }) {
            repair.held_bytes = repair.held.iter().map(|held| weight(held)).sum();
            self.repair = Some(repair);
        }
        outcome
    }

    /// Shows what waited, whatever is missing.
    pub(crate) fn end_without_reading(&mut self) {
        for message in self
            .repair
            .take()
            .into_iter()
            .flat_map(|repair| repair.held)
        {
            if self.newest().is_none_or(|newest| message.id > newest) {
                self.deliver(&message);
            }
        }
    }

    fn place(&self, message: &Message) -> Place {
        let Some(newest) = self.newest() else {
            return Place::Next;
        };
        if message.id <= newest {
            // A copy of what a repair has read may come late, and be older than what is remembered.
            return if !self.checks_prev
                || self.shown.has(message.id)
                || self.shown.precedes(message.id)
            {
                Place::Repeat
            } else {
                Place::Doubtful
            };
        }
        let silence = message.id.created_at().duration_since(newest.created_at());
        match message.prev {
            _ if !self.checks_prev => Place::Next,
            Some(prev) if prev == newest || self.shown.has(prev) => Place::Next,
            // It is the first of a room that was empty. Reading for each would cost every new room a
            // question to the store; and a message that was missed would still be in the window.
            None if newest == MessageId::MIN => Place::Next,
            // The window has expired. Whatever loses messages without their window says so, as a
            // gap; and to ask the store now would make a quiet room depend on it.
            None if silence.is_ok_and(|silence| silence >= self.window) => Place::Next,
            // The window was lost with whatever came between.
            Some(_) | None => Place::Doubtful,
        }
    }

    fn deliver(&mut self, message: &Message) {
        self.shown.push(message.id);
        self.members.show(message);
    }
}

impl Repair {
    fn hold(&mut self, message: &Arc<Message>, max_bytes: usize) {
        self.held_bytes += weight(message);
        if self.held_bytes > max_bytes {
            self.held.clear();
            self.held_bytes = 0;
            self.more = true;
        } else {
            self.held.push(Arc::clone(message));
        }
    }
}
