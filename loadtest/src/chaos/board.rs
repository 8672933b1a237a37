//! What all members of a load share: the ledgers of their rooms, and what is measured.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::message::MessageId;

use super::load::{LoadSettings, Longest, Recovery};
use crate::body::{Bodies, Stamp};
use crate::house::Seat;
use crate::ledger::{Entry, Ledger};

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
    /// How many of them, the first, read what comes.
    readers: usize,
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
    longest: Longest,
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
    /// The rooms of a load, its names with this prefix.
    pub(crate) fn new(prefix: &str, settings: &LoadSettings, bodies: Bodies) -> Self {
        let &LoadSettings {
            rooms,
            members,
            senders,
            ..
        } = settings;
        let slow = settings.slow_reader.as_ref().map_or(0, |slow| slow.members);
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
            longest: Longest::default(),
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
            readers: members - slow,
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

    /// A MESSAGE has come to a member, now.
    pub(crate) fn delivered(
        &self,
        seat: Seat,
        id: Option<MessageId>,
        sender: Option<&str>,
        body: &[u8],
        now: Duration,
    ) {
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
        // What is kept from a member because it does not read says nothing of the system.
        if seat.member >= self.readers {
            return;
        }
        if recovered {
            let deliveries = &mut room.recovery.deliveries;
            *deliveries = (*deliveries).max(since(mark, stamp.due, now));
        }
        room.longest.interruption = room.longest.interruption.max(interruption);
    }

    /// A RECEIPT for a message has come to its sender, now: of the store, where `is_stored`.
    pub(crate) fn receipted(
        &self,
        seat: Seat,
        (seq, due): (u32, Duration),
        id: Option<MessageId>,
        is_stored: bool,
        now: Duration,
    ) {
        let mut room = self.room(seat.room);
        let entry = room.ledger.receipted(seat.member, seq as usize, id);
        if entry != Entry::Paid {
            return;
        }
        room.longest.receipt = room.longest.receipt.max(now.saturating_sub(due));
        if due <= room.mark {
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

    /// The first few members who wait for something.
    pub(crate) fn who_waits(&self) -> Vec<String> {
        let places = (0..self.states.len()).flat_map(|room| {
            let watched = self.room(room).watched.clone().into_iter().enumerate();
            watched.map(move |(place, watched)| (room * self.members + place, watched))
        });
        let waiting = places.filter(|(_, watched)| {
            !watched.subscribed || watched.awaits_delivery || watched.awaits_receipt
        });
        let names = waiting.map(|(user, _)| self.names[user].clone());
        names.take(3).collect()
    }

    /// The longest waits of anybody since this was last asked.
    pub(crate) fn longest(&self) -> Longest {
        let mut longest = Longest::default();
        for room in 0..self.states.len() {
            let Longest {
                interruption,
                receipt,
            } = std::mem::take(&mut self.room(room).longest);
            longest.interruption = longest.interruption.max(interruption);
            longest.receipt = longest.receipt.max(receipt);
        }
        longest
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

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBERS: usize = 3;
    const SENDERS: usize = 2;

    /// One room whose senders send in turn, a message a second, all of it due after `mark`.
    struct Scene {
        board: Board,
        sent: u32,
    }

    impl Scene {
        fn new() -> Self {
            let bodies = Bodies::new(1, 40, &mut fastrand::Rng::with_seed(1));
            let settings = LoadSettings {
                rooms: 1,
                members: MEMBERS,
                senders: SENDERS,
                ..LoadSettings::default()
            };
            Self {
                board: Board::new("test", &settings, bodies),
                sent: 0,
            }
        }

        /// The next message, due at this second.
        fn send(&mut self, due: u64) -> Stamp {
            let stamp = Stamp {
                user: self.sent % SENDERS as u32,
                seq: self.sent / SENDERS as u32,
                due: seconds(due),
            };
            self.sent += 1;
            self.board.sent(seat(stamp.user), stamp.seq);
            stamp
        }

        fn deliver(&self, stamp: Stamp, member: u32, now: Duration) {
            let sender = self.board.names[stamp.user as usize].clone();
            let body = self.board.bodies.write(stamp);
            let id = Some(id(stamp));
            self.board
                .delivered(seat(member), id, Some(&sender), &body, now);
        }

        fn receipt(&self, stamp: Stamp, is_stored: bool, now: Duration) {
            let message = (stamp.seq, stamp.due);
            let id = Some(id(stamp));
            self.board
                .receipted(seat(stamp.user), message, id, is_stored, now);
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn seat(user: u32) -> Seat {
        Seat {
            user,
            room: 0,
            member: user as usize,
        }
    }

    fn id(stamp: Stamp) -> MessageId {
        let clock = shared::message::Stamp {
            ms: u64::from(stamp.seq),
            seq: u64::from(stamp.user),
        };
        MessageId::new(clock, 0)
    }

    #[test]
    fn a_fault_is_over_when_the_last_has_got_what_was_due_after_it() {
        let mut scene = Scene::new();
        let before = scene.send(1);
        scene.board.watch(seconds(2), SENDERS, true);
        let (first, second) = (scene.send(2), scene.send(3));
        let third = scene.send(4);
        for member in 0..MEMBERS as u32 {
            scene.deliver(before, member, seconds(5));
        }
        scene.receipt(before, true, seconds(5));
        let waiting = scene.board.waiting().0;
        assert_eq!(
            (waiting.deliveries, waiting.receipts, waiting.stores),
            (3, 2, 1),
            "what was due before says nothing"
        );
        scene.receipt(first, false, seconds(5));
        assert_eq!(
            scene.board.waiting().0.receipts,
            2,
            "due at the mark itself"
        );
        scene.receipt(second, false, seconds(6));
        scene.receipt(third, true, seconds(8));
        for (member, at) in [(0, 6), (1, 9), (2, 7)] {
            scene.deliver(second, member, seconds(at));
        }
        let (waiting, recovery) = scene.board.waiting();
        assert_eq!(waiting.subscriptions, MEMBERS);
        assert_eq!((waiting.deliveries, waiting.stores), (0, 0));
        assert_eq!(recovery.deliveries, seconds(7));
        assert_eq!(recovery.stores, seconds(6));
        assert_eq!(recovery.receipts, seconds(6));
    }

    #[test]
    fn what_comes_promptly_was_not_waited_for() {
        let mut scene = Scene::new();
        scene.board.watch(seconds(2), SENDERS, false);
        for due in [10, 11] {
            let stamp = scene.send(due);
            let now = stamp.due + PROMPT / 2;
            scene.receipt(stamp, false, now);
            (0..MEMBERS as u32).for_each(|member| scene.deliver(stamp, member, now));
        }
        let (waiting, recovery) = scene.board.waiting();
        assert_eq!((waiting.deliveries, waiting.receipts), (0, 0));
        assert_eq!(recovery, Recovery::default());
    }

    #[test]
    fn an_interruption_is_what_one_member_went_without_while_something_was_due() {
        let mut scene = Scene::new();
        let (first, second, third) = (scene.send(10), scene.send(20), scene.send(21));
        scene.deliver(first, 0, seconds(11));
        scene.deliver(first, 1, seconds(10));
        assert_eq!(scene.board.longest().interruption, seconds(1));
        scene.deliver(second, 0, seconds(27));
        scene.deliver(third, 0, seconds(28));
        scene.deliver(second, 1, seconds(21));
        assert_eq!(
            scene.board.longest().interruption,
            seconds(7),
            "until the first came; before it was due, nothing was missing"
        );
        assert_eq!(scene.board.longest().interruption, Duration::ZERO);
    }
    #[test]
    fn a_receipt_is_waited_for_from_when_its_message_was_due_whenever_that_was() {
        let mut scene = Scene::new();
        let (first, second) = (scene.send(10), scene.send(20));
        scene.board.watch(seconds(30), SENDERS, true);
        scene.receipt(second, true, seconds(31));
        scene.receipt(first, false, seconds(13));
        scene.receipt(first, false, seconds(99));
        assert_eq!(scene.board.longest().receipt, seconds(11));
        assert_eq!(scene.board.longest().receipt, Duration::ZERO);
    }
}
