//! What a ledger lets go of: what has come to everybody once can only be a fault when it comes again.

use std::collections::{BTreeMap, VecDeque};

use shared::message::MessageId;

use super::{Faults, Ledger, Slot};

/// Messages that are let go together: a word of what a member has seen.
const BLOCK: usize = 64;

/// Messages of a room that are kept side by side, unless two rounds of its senders are more. Those that
/// are older and still owed are kept one by one.
const WINDOW: usize = 1024;

/// What is older than what a ledger keeps side by side.
#[derive(Debug)]
pub(super) struct Past {
    /// The place of the first message that is kept side by side; a multiple of [`BLOCK`].
    pub first: usize,
    blocks: VecDeque<Block>,
    /// What is older, and still owed.
    pub owing: BTreeMap<usize, Owing>,
    /// Each sender's newest that is older, and the id of the newest that has one.
    senders: Vec<Option<(usize, Option<MessageId>)>>,
    /// Messages that were paid, or given up.
    pub gone: usize,
    /// Of those, the ones with a receipt.
    pub receipts: usize,
    most: usize,
}

#[derive(Clone, Debug)]
struct Block {
    unsent: usize,
    owed: usize,
}

/// A message that somebody still has to get.
#[derive(Debug)]
pub(super) struct Owing {
    pub slot: Slot,
    /// A bit for each member who has it.
    seen: Vec<u64>,
}

impl Past {
    pub(super) fn new(senders: usize, most: usize) -> Self {
        Self {
            first: 0,
            blocks: VecDeque::new(),
            owing: BTreeMap::new(),
            senders: vec![None; senders],
            gone: 0,
            receipts: 0,
            most,
        }
    }

    /// Whether a message that is older was sent.
    pub(super) fn has(&self, sender: usize, seq: usize) -> bool {
        self.senders[sender].is_some_and(|(newest, _)| seq <= newest)
    }

    /// The id of the newest among a sender's older messages.
    pub(super) fn newest(&self, sender: usize) -> Option<MessageId> {
        self.senders[sender].and_then(|(_, id)| id)
    }

    fn block(&mut self, at: usize) -> Option<&mut Block> {
        let block = at.checked_sub(self.first)? / BLOCK;
        if self.blocks.len() <= block {
            let new = Block {
                unsent: BLOCK,
                owed: 0,
            };
            self.blocks.resize(block + 1, new);
        }
        self.blocks.get_mut(block)
    }
}

impl Owing {
    pub(super) fn has(&self, member: usize) -> bool {
        self.seen[member / 64] & (1 << (member % 64)) != 0
    }

    /// Whether it had not come to this member before.
    pub(super) fn see(&mut self, member: usize) -> bool {
        let is_new = !self.has(member);
        self.seen[member / 64] |= 1 << (member % 64);
        is_new
    }
}

impl Ledger {
    /// Before anything is sent: lets go from now on of what everybody has, and which has its receipt, so
    /// that memory is taken by what is on its way, and not by how long a load goes on.
    ///
    /// It is for loads in which nobody sends a message twice, or a round ahead of the others, and whose
    /// [history](Self::stored) is not compared. What comes again is found however late it is. Of those
    /// that somebody has not got at most `most` are remembered: beyond that the oldest is given up as lost, and counts as doubled for those to whom it comes after all.
    pub(crate) fn forget_beyond(&mut self, most: usize) {
        self.past = Some(Box::new(Past::new(self.senders, most)));
    }

    /// A message was sent for the first time, and so much is owed.
    pub(super) fn owe(&mut self, at: usize, owed: usize) {
        let Some(block) = self.past.as_mut().and_then(|past| past.block(at)) else {
            return;
        };
        block.unsent -= 1;
        block.owed += owed;
        self.forget();
    }

    /// Something that was owed for this message has come.
    pub(super) fn pay(&mut self, at: usize) {
        let members = self.members.len();
        let Some(past) = &mut self.past else {
            return;
        };
        if let Some(block) = past.block(at) {
            block.owed -= 1;
            return self.forget();
        }
        let is_paid = past.owing.get(&at).is_some_and(|owing| {
            let receipts = owing.slot.receipts > 0 || !self.checks.receipts;
            receipts && (0..members).all(|member| owing.has(member))
        });
        if is_paid && let Some(owing) = past.owing.remove(&at) {
            self.let_go(owing.slot);
        }
    }

    fn forget(&mut self) {
        while let Some(past) = &self.past
            && let Some(block) = past.blocks.front()
            && (block.unsent + block.owed == 0
                || self.messages.len() > WINDOW.max(2 * self.senders))
        {
            self.forget_block();
        }
    }

    /// Lets go of the oldest messages; what is owed for them is kept one by one.
    fn forget_block(&mut self) {
        let Some(past) = &mut self.past else {
            return;
        };
        let first = past.first;
        past.first += BLOCK;
        past.blocks.pop_front();
        let seen = self.members.iter_mut();
        let seen = seen.map(|member| member.seen.pop_front().unwrap_or(0));
        let seen = seen.collect::<Vec<_>>();
        for at in first..first + BLOCK {
            let Some(slot) = self.messages.pop_front() else {
                return;
            };
            if slot.sent == 0 {
                continue;
            }
            self.pass(at, slot.id);
            let bit = 1 << (at - first);
            let is_paid = seen.iter().all(|seen| seen & bit != 0)
                && (slot.receipts > 0 || !self.checks.receipts);
            if is_paid {
                self.let_go(slot);
                continue;
            }
            let mut owing = Owing {
                slot,
                seen: vec![0; seen.len().div_ceil(64)],
            };
            for (member, _) in seen
                .iter()
                .enumerate()
                .filter(|(_, seen)| **seen & bit != 0)
            {
                owing.see(member);
            }
            let Some(past) = &mut self.past else {
                return;
            };
            past.owing.insert(at, owing);
            let oldest = (past.owing.len() > past.most).then(|| past.owing.pop_first());
            if let Some((at, owing)) = oldest.flatten() {
                let members = 0..self.members.len();
                let lost = members.filter(|member| !owing.has(*member)).collect();
                let unpaid = self.unpaid(at, &owing.slot, lost);
                self.faults += unpaid;
                self.let_go(owing.slot);
            }
        }
    }

    /// A message is older from now on. Each sender's are so in the order in which it sent them.
    fn pass(&mut self, at: usize, id: Option<MessageId>) {
        let (seq, sender) = (at / self.senders, at % self.senders);
        let Some(past) = &mut self.past else {
            return;
        };
        let newest = past.newest(sender);
        past.senders[sender] = Some((seq, id.or(newest)));
        if let (Some(newest), Some(id)) = (newest, id)
            && id <= newest
        {
            self.faults += Faults {
                reordered: 1,
                ..Faults::default()
            };
            self.note(|| {
                format!("message {seq} of member {sender} has no greater id than one before it")
            });
        }
    }

    /// What was counted of a message is all that is left of it.
    fn let_go(&mut self, slot: Slot) {
        let Some(past) = &mut self.past else {
            return;
        };
        past.gone += 1;
        past.receipts += usize::from(slot.receipts > 0);
        self.faults.mismatched_ids += u64::from(slot.mismatched);
    }
}
