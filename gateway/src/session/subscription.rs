//! One subscription, from SUBSCRIBE through its past to live: no gap and no repeat.
//!
//! Live deliveries that arrive before the past has been read are held. In a journaled room ids
//! follow the room's order, so "not greater than the last one" is a repeat. Without a journal they
//! do not, and only what was just replayed can be recognised. What is ephemeral is neither a repeat
//! nor the last one.

use std::collections::HashSet;
use std::sync::Arc;

use shared::message::{Message, MessageId, RoomName, Span};

use super::message::message_frame;
use super::output::{Address, Encoded, Outgoing, Slot};
use crate::outbox::Delivery;

/// How many messages after one are read at a time: with the frame limit it bounds what is held.
pub(super) const PAGE: usize = 50;

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) slot: Slot,
    pub(super) room: RoomName,
    pub(super) address: Address,
    journaled: bool,
    phase: Phase,
    last: Option<MessageId>,
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
    held: Vec<Delivery>,
    replayed: HashSet<MessageId>,
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
    /// The subscription is live.
    Live {
        /// The receipt that SUBSCRIBE asked for.
        receipt: Option<String>,
        /// Whether the past that was asked for is whole; `None` where none was asked for.
        recovered: Option<bool>,
        /// Live messages that had been held.
        released: Vec<Arc<Encoded>>,
    },
}

impl Subscription {
    pub(super) fn new(
        slot: Slot,
        room: RoomName,
        address: Address,
        journaled: bool,
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
            held: Vec::new(),
            replayed: HashSet::new(),
        };
        let phase = Phase::Attaching(Box::new(attach));
        Self {
            slot,
            room,
            address,
            journaled,
            phase,
            last,
        }
    }

    /// A live delivery: what to write now, if anything.
    pub(super) fn deliver(&mut self, delivery: Delivery) -> Option<Arc<Encoded>> {
        match &mut self.phase {
            Phase::Attaching(attach) => {
                attach.held.push(delivery);
                None
            }
            Phase::Live => (delivery.encoded.ephemeral || self.advance(delivery.encoded.id))
                .then(|| delivery.encoded.clone()),
        }
    }

    /// The room is joined: live deliveries miss nothing from here on.
    pub(super) fn joined(&mut self) -> Step {
        let Phase::Attaching(attach) = &self.phase else {
            return self.live();
        };
        match attach.past {
            Past::None => self.live(),
            Past::After(id) => Step::Read(Span::After(id), PAGE),
            Past::Newest(count) => Step::Read(Span::Newest, count),
        }
    }

    /// A page of the past, oldest first: the frames to write, and the next step.
    pub(super) fn page(&mut self, page: &[Arc<Message>], complete: bool) -> (Vec<Outgoing>, Step) {
        let mut frames = Vec::with_capacity(page.len());
        for message in page {
            if self.advance(message.id) {
                frames.push(message_frame(message, &self.address, true));
            }
        }
        let Phase::Attaching(attach) = &mut self.phase else {
            return (frames, self.live());
        };
        attach.recovered &= complete;
        attach
            .replayed
            .extend(page.iter().map(|message| message.id));
        let step = match (attach.past, page.last()) {
            (Past::After(_), Some(last)) if page.len() >= PAGE => {
                Step::Read(Span::After(last.id), PAGE)
            }
            _ => self.live(),
        };
        (frames, step)
    }

    /// The past cannot be read.
    pub(super) fn past_failed(&mut self) -> Step {
        if let Phase::Attaching(attach) = &mut self.phase {
            attach.recovered = false;
        }
        self.live()
    }

    fn live(&mut self) -> Step {
        let Phase::Attaching(attach) = std::mem::replace(&mut self.phase, Phase::Live) else {
            return Step::Live {
                receipt: None,
                recovered: None,
                released: Vec::new(),
            };
        };
        let mut released = Vec::with_capacity(attach.held.len());
        for delivery in attach.held {
            let Encoded { id, ephemeral, .. } = *delivery.encoded;
            if ephemeral || (!attach.replayed.contains(&id) && self.advance(id)) {
                released.push(delivery.encoded.clone());
            }
        }
        let recovered = (attach.past != Past::None).then_some(attach.recovered);
        Step::Live {
            receipt: attach.receipt,
            recovered,
            released,
        }
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
