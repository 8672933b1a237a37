//! One subscription, from SUBSCRIBE through its past to live: no gap and no repeat.
//!
//! Live deliveries that arrive before the past has been read are held, and so are those that its
//! window of unacknowledged messages has no room for. In a journaled room ids follow the room's
//! order, so "not greater than the last one" is a repeat. Without a journal they do not, and only
//! what was just replayed can be recognised. An ephemeral message is in no order and in no past:
//! it is never a repeat.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use shared::message::{Message, MessageId, RoomName, Span};

use super::message::message_frame;
use super::output::{Address, Encoded, Outgoing, Slot};
use super::permit::Term;
use super::window::{AckMode, Window};
use crate::guard::Claim;
use crate::outbox::Delivery;

/// How many messages after one are read at a time: with the frame limit it bounds what is held.
pub(super) const PAGE: usize = 50;

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) slot: Slot,
    pub(super) address: Address,
    /// For how long it is allowed.
    pub(super) term: Term,
    journaled: bool,
    /// The broker has not answered yet.
    is_joining: bool,
    phase: Phase,
    last: Option<MessageId>,
    /// What was replayed, where ids cannot tell what is a repeat.
    replayed: HashSet<MessageId>,
    window: Window,
    held: VecDeque<Delivery>,
    /// Its room, with all who count it.
    claim: Claim,
}

#[derive(Debug)]
enum Phase {
    /// Behind live: joining, or reading the past.
    Attaching(Box<Attach>),
    Live,
}

#[derive(Debug)]
struct Attach {
    past: Past,
    receipt: Option<String>,
    recovered: bool,
    /// What the client asked to come after.
    given: Option<MessageId>,
    /// That is not in the room.
    nowhere: bool,
    /// How many messages the reading under way asked for.
    limit: usize,
    /// What is to be read once the window has room.
    rest: Option<Span>,
}

/// What a SUBSCRIBE asks of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Past {
    /// Nothing: live messages only.
    None,
    /// `after`: everything after this message.
    After(MessageId),
    /// `history`: this many of the newest.
    Newest(usize),
}

/// What to do after a step of the attach.
pub(super) enum Step {
    /// Read this, and come back.
    Read(Span, usize),
    /// Nothing, until an acknowledgement makes room.
    Wait,
    /// The subscription is live.
    Live {
        /// The receipt that SUBSCRIBE asked for.
        receipt: Option<String>,
        /// Whether the past that was asked for is whole; `None` where none was asked for.
        recovered: Option<bool>,
        /// What it was to come after is not in the room.
        nowhere: bool,
        /// Live messages that had been held.
        released: Vec<Delivery>,
    },
}

impl Subscription {
    pub(super) fn new(
        slot: Slot,
        claim: Claim,
        address: Address,
        journaled: bool,
        window: Window,
        past: Past,
        receipt: Option<String>,
    ) -> Self {
        let last = match past {
            Past::After(id) if journaled => Some(id),
            _ => None,
        };
        let attach = Attach {
            past,
            receipt,
            // Without a journal nobody can say that nothing is missing.
            recovered: journaled,
            given: last,
            nowhere: false,
            limit: 0,
            rest: None,
        };
        let phase = Phase::Attaching(Box::new(attach));
        Self {
            slot,
            address,
            term: Term::FOREVER,
            journaled,
            is_joining: true,
            phase,
            last,
            replayed: HashSet::new(),
            window,
            held: VecDeque::new(),
            claim,
        }
    }

    /// It is allowed for so long, and not for ever.
    pub(super) fn allowed(mut self, term: Term) -> Self {
        self.term = term;
        self
    }

    pub(super) fn is_joining(&self) -> bool {
        self.is_joining
    }

    pub(super) fn room(&self) -> &RoomName {
        &self.claim.room
    }

    /// A live delivery: what to write now, if anything.
    pub(super) fn deliver(&mut self, delivery: Delivery) -> Option<Delivery> {
        let is_live = matches!(self.phase, Phase::Live);
        if !is_live || !self.held.is_empty() || self.window.room() == 0 {
            self.held.push_back(delivery);
            return None;
        }
        self.is_news(&delivery.encoded).then_some(delivery)
    }

    /// The room is joined: live deliveries miss nothing from here on.
    pub(super) fn joined(&mut self) -> Step {
        self.is_joining = false;
        let Phase::Attaching(attach) = &mut self.phase else {
            return self.live();
        };
        match attach.past {
            Past::None => self.live(),
            Past::After(id) => self.read(Span::After(id)),
            Past::Newest(count) => {
                attach.limit = count;
                Step::Read(Span::Newest, count)
            }
        }
    }

    /// A page of the past, oldest first: the frames to write, and the next step. What the window
    /// has no room for is not kept, but read again when it has.
    pub(super) fn page(&mut self, page: &[Arc<Message>], complete: bool) -> (Vec<Outgoing>, Step) {
        let mut frames = Vec::with_capacity(page.len());
        let mut read = None;
        let mut fits = true;
        for message in page {
            if self.window.room() == 0 {
                fits = false;
                break;
            }
            read = Some(message.id);
            if self.advance(message.id) {
                self.window.deliver(message.id);
                frames.push(message_frame(message, &self.address, true));
            }
            if !self.journaled {
                self.replayed.insert(message.id);
            }
        }
        let Phase::Attaching(attach) = &mut self.phase else {
            return (frames, self.live());
        };
        attach.recovered &= complete;
        let is_full = matches!(attach.past, Past::After(_)) && page.len() >= attach.limit;
        let step = match read {
            Some(last) if is_full || !fits => {
                attach.past = Past::After(last);
                self.read(Span::After(last))
            }
            _ => self.live(),
        };
        (frames, step)
    }

    /// The message that this was to come after is not in the room: its id says nothing of what is.
    pub(super) fn forget_after(&mut self) {
        if let Phase::Attaching(attach) = &mut self.phase {
            attach.nowhere = true;
            if self.last == attach.given {
                self.last = None;
            }
        }
    }

    /// The past cannot be read.
    pub(super) fn past_failed(&mut self) -> Step {
        if let Phase::Attaching(attach) = &mut self.phase {
            attach.recovered = false;
        }
        self.live()
    }

    /// How messages of this subscription are acknowledged.
    pub(super) fn mode(&self) -> AckMode {
        self.window.mode()
    }

    /// Whether an acknowledgement of this message makes sense.
    pub(super) fn may_have_delivered(&self, id: MessageId) -> bool {
        self.window.may_have_delivered(id)
    }

    /// A message has been dealt with: what there is room for now.
    pub(super) fn acknowledge(&mut self, id: MessageId) -> Step {
        self.window.acknowledge(id);
        match &mut self.phase {
            Phase::Attaching(attach) => match attach.rest.take() {
                Some(rest) => self.read(rest),
                None => Step::Wait,
            },
            Phase::Live => self.live(),
        }
    }

    /// A message that the session writes itself, in no order: whether the window has room for it.
    pub(super) fn note(&mut self, id: MessageId) -> bool {
        let has_room = self.window.room() > 0;
        if has_room {
            self.window.deliver(id);
        }
        has_room
    }

    /// The subscription ends: the receipt of its SUBSCRIBE where that is still owed, and whether
    /// the past that it asked for has been sent.
    pub(super) fn end(&mut self) -> Option<(String, Option<bool>)> {
        let Phase::Attaching(attach) = &mut self.phase else {
            return None;
        };
        let recovered = (attach.past != Past::None).then_some(false);
        attach.receipt.take().map(|receipt| (receipt, recovered))
    }

    /// Reads on as far as there is room.
    fn read(&mut self, span: Span) -> Step {
        let room = self.window.room();
        let Phase::Attaching(attach) = &mut self.phase else {
            return self.live();
        };
        if room == 0 {
            attach.rest = Some(span);
            return Step::Wait;
        }
        attach.limit = PAGE.min(room);
        Step::Read(span, attach.limit)
    }

    fn live(&mut self) -> Step {
        let (receipt, recovered, nowhere) = match std::mem::replace(&mut self.phase, Phase::Live) {
            Phase::Attaching(attach) => {
                let whole = attach.recovered && !attach.nowhere;
                let recovered = (attach.past != Past::None).then_some(whole);
                (attach.receipt, recovered, attach.nowhere)
            }
            Phase::Live => (None, None, false),
        };
        let mut released = Vec::new();
        while self.window.room() > 0 {
            let Some(delivery) = self.held.pop_front() else {
                // Whatever comes now came after the past was read.
                self.replayed = HashSet::new();
                break;
            };
            if self.is_news(&delivery.encoded) {
                released.push(delivery);
            }
        }
        Step::Live {
            receipt,
            recovered,
            nowhere,
            released,
        }
    }

    /// Whether a live message is to be delivered; if so it counts as delivered now.
    fn is_news(&mut self, encoded: &Encoded) -> bool {
        let id = encoded.id;
        if !encoded.ephemeral && (self.replayed.contains(&id) || !self.advance(id)) {
            return false;
        }
        self.window.deliver(id);
        true
    }

    /// Whether a message is news here; if so it is now the last one.
    fn advance(&mut self, id: MessageId) -> bool {
        if self.journaled && self.last.is_some_and(|last| id <= last) {
            return false;
        }
        self.last = Some(id);
        true
    }
}
