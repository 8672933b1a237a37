//! What all members of a load share: the ledgers of their rooms, and what is measured.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::message::MessageId;

use super::load::Recovery;
use crate::body::{Bodies, Stamp};
use crate::ledger::{Entry, Ledger};
use crate::run::Seat;

/// What comes sooner than this after it was due was not waited for.
const PROMPT: Duration = Duration::from_millis(200);

/// What all members share.
pub(crate) struct Board {
    /// Times count from here.
    pub start: Instant,
    /// What messages say.
    pub bodies: Bodies,
    /// The rooms' names, by number.
    pub rooms: Vec<String>,
    /// The members' names, by number.
    pub names: Vec<String>,
    /// Members of each room.
    members: usize,
    states: Vec<Mutex<Room>>,
    told: AtomicU64,
    ends: Mutex<BTreeMap<String, u64>>,
}

/// What is known of one room.
pub(crate) struct Room {
    /// What is owed there.
    pub ledger: Ledger,
    /// Its members, by place.
    watched: Vec<Watched>,
    /// Since when something that is due is waited for.
    mark: Duration,
    /// Whether a receipt from the store is waited for.
    awaits_store: bool,
    recovery: Recovery,
    /// The longest that a member had nothing while something was due to it.
    interruption: Duration,
}

#[derive(Clone, Debug)]
struct Watched {
    /// When the last delivery came.
    last: Duration,
    subscribed: bool,
    awaits_delivery: bool,
    awaits_receipt: bool,
}

/// What does not flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Members who never subscribed.
    pub subscriptions: usize,
    /// Members whom nothing new has reached.
    pub deliveries: usize,
    /// Senders without a receipt for anything new.
    pub receipts: usize,
    /// Rooms of which nothing new has been stored.
    pub stores: usize,
}

impl Board {
    /// Rooms of so many members each, the first of whom send.
    pub(crate) fn new(
        prefix: &str,
        rooms: usize,
        members: usize,
        senders: usize,
        bodies: Bodies,
    ) -> Self {
        let watched = Watched {
            last: Duration::ZERO,
            subscribed: false,
            awaits_delivery: false,
            awaits_receipt: false,
        };
        let room = || Room {
            ledger: Ledger::new(members, senders),
            watched: vec![watched.clone(); members],
            mark: Duration::ZERO,
            awaits_store: false,
            recovery: Recovery::default(),
            interruption: Duration::ZERO,
        };
        let rooms_and_members = (0..rooms).flat_map(|room| (0..members).map(move |at| (room, at)));
        Self {
            start: Instant::now(),
            bodies,
            rooms: (0..rooms).map(|room| format!("{prefix}-r{room}")).collect(),
            names: rooms_and_members
                .map(|(room, member)| format!("{prefix}-r{room}-m{member}"))
                .collect(),
            members,
            states: (0..rooms).map(|_| Mutex::new(room())).collect(),
            told: AtomicU64::new(0),
            ends: Mutex::default(),
        }
    }

    /// The time since the start.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// What is known of a room.
    pub(crate) fn room(&self, room: usize) -> MutexGuard<'_, Room> {
        self.states[room]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A message is about to be handed to the socket, for the first time or again.
    pub(crate) fn sent(&self, seat: Seat, seq: u32) {
        self.room(seat.room).ledger.sent(seat.member, seq as usize);
    }

    /// A SUBSCRIBE was confirmed. `after` is what was asked for, `told` whether the answer was that
    /// not everything can be had.
    pub(crate) fn subscribed(&self, seat: Seat, after: Option<MessageId>, told: bool) {
        let mut room = self.room(seat.room);
        room.watched[seat.member].subscribed = true;
        if told {
            room.ledger.told(seat.member, after);
            self.told.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A MESSAGE has come to a member.
    pub(crate) fn delivered(
        &self,
        seat: Seat,
        id: Option<MessageId>,
        sender: Option<&str>,
        body: &[u8],
    ) {
        let now = self.now();
        let origin = self.origin(sender, body);
        let mut room = self.room(seat.room);
        let (Some((from, stamp)), Some(id)) = (origin, id) else {
            room.ledger.foreign();
            return;
        };
        if from.room != seat.room {
            room.ledger.foreign();
            return;
        }
        let seq = stamp.seq as usize;
        if room.ledger.delivered(seat.member, from.member, seq, id) != Entry::Paid {
            return;
        }
        let mark = room.mark;
        let watched = &mut room.watched[seat.member];
        let interruption = now.saturating_sub(watched.last.max(stamp.due));
        watched.last = now;
        let recovered = watched.awaits_delivery && stamp.due > mark;
        watched.awaits_delivery &= !recovered;
        if recovered {
            let deliveries = &mut room.recovery.deliveries;
            *deliveries = (*deliveries).max(since(mark, stamp.due, now));
        }
        room.interruption = room.interruption.max(interruption);
    }

    /// A RECEIPT for a message has come to its sender.
    pub(crate) fn receipted(
        &self,
        seat: Seat,
        seq: usize,
        id: Option<MessageId>,
        due: Duration,
        is_stored: bool,
    ) {
        let now = self.now();
        let mut room = self.room(seat.room);
        if room.ledger.receipted(seat.member, seq, id) != Entry::Paid || due <= room.mark {
            return;
        }
        let took = since(room.mark, due, now);
        if std::mem::take(&mut room.watched[seat.member].awaits_receipt) {
            room.recovery.receipts = room.recovery.receipts.max(took);
        }
        if is_stored && std::mem::take(&mut room.awaits_store) {
            room.recovery.stores = took;
        }
    }

    /// The message of this load that a body belongs to, and who sent it; `None` when the body or the
    /// sender's name is not as it was sent.
    pub(crate) fn origin(&self, sender: Option<&str>, body: &[u8]) -> Option<(Seat, Stamp)> {
        let stamp = self.bodies.read(body)?;
        let user = stamp.user as usize;
        let name = self.names.get(user)?;
        let seat = Seat {
            user: stamp.user,
            room: user / self.members,
            member: user % self.members,
        };
        (sender == Some(name)).then_some((seat, stamp))
    }

    /// From here on waits for something that is due after `mark` to reach each member, and for
    /// receipts for it: of each room's first `senders`, and one from the store where `stored`.
    pub(crate) fn watch(&self, mark: Duration, senders: usize, stored: bool) {
        for room in 0..self.states.len() {
            let mut room = self.room(room);
            room.mark = mark;
            room.recovery = Recovery::default();
            room.awaits_store = stored && senders > 0;
            for (place, watched) in room.watched.iter_mut().enumerate() {
                watched.awaits_delivery = senders > 0;
                watched.awaits_receipt = place < senders;
            }
        }
    }

    /// What is still waited for, and how long the rest took.
    pub(crate) fn waiting(&self) -> (Waiting, Recovery) {
        let mut waiting = Waiting::default();
        let mut recovery = Recovery::default();
        for room in 0..self.states.len() {
            let room = self.room(room);
            recovery = recovery.max(room.recovery);
            waiting.stores += usize::from(room.awaits_store);
            for watched in &room.watched {
                waiting.subscriptions += usize::from(!watched.subscribed);
                waiting.deliveries += usize::from(watched.awaits_delivery);
                waiting.receipts += usize::from(watched.awaits_receipt);
            }
        }
        (waiting, recovery)
    }

    /// The longest interruption of any member since this was last asked.
    pub(crate) fn longest_interruption(&self) -> Duration {
        let rooms = (0..self.states.len()).map(|room| self.room(room));
        rooms
            .map(|mut room| std::mem::take(&mut room.interruption))
            .max()
            .unwrap_or_default()
    }

    /// A member's connection has ended, or could not be made.
    pub(crate) fn ended(&self, reason: String) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        *ends.entry(reason).or_default() += 1;
    }

    /// How often connections ended, by reason.
    pub(crate) fn ends(&self) -> BTreeMap<String, u64> {
        self.ends
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How often a member was told that not everything can be had.
    pub(crate) fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }
}

/// How long after `mark` a thing came; no time at all when it was not waited for.
fn since(mark: Duration, due: Duration, now: Duration) -> Duration {
    match now.saturating_sub(due) < PROMPT {
        true => Duration::ZERO,
        false => now.saturating_sub(mark),
    }
}
