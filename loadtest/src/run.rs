//! One load while it goes on: what is due when, and what has come of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::message::MessageId;
use shared::stomp::Command;
use tokio_util::sync::CancellationToken;

use crate::body::{Bodies, Stamp};
use crate::connection::ClientError;
use crate::field::Ear;
use crate::house::{House, Seat};
use crate::ledger::{Entry, Faults, Ledger};
use crate::tally::{Tally, Window, record};
use crate::target::Checks;
use crate::wire::{Glance, unescaped};

/// Messages of a room that a ledger which forgets remembers because somebody has not got them: a
/// minute's of a room of a thousand a second.
const MOST_OWING: usize = 1 << 16;

/// When messages are due: at a fixed rate, each sender in turn, whatever became of those before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// Messages a second.
    pub rate: f64,
    /// Messages in all.
    pub messages: usize,
    /// Those who take turns.
    pub senders: usize,
}

impl Schedule {
    /// A schedule for so long; at least one message.
    pub(crate) fn new(rate: f64, duration: Duration, senders: usize) -> Self {
        let messages = (rate * duration.as_secs_f64()).round().max(1.0) as usize;
        Self {
            rate,
            messages,
            senders,
        }
    }

    /// When a sender's message is due, since the start; `None` when there is no such message.
    pub(crate) fn due(&self, turn: usize, seq: usize) -> Option<Duration> {
        let at = seq.checked_mul(self.senders)?.checked_add(turn)?;
        (at < self.messages).then(|| Duration::from_secs_f64(at as f64 / self.rate))
    }
}

/// A load while it goes on.
#[derive(Debug)]
pub(crate) struct Run {
    /// When the first message is due.
    pub start: Instant,
    /// When each is.
    pub schedule: Schedule,
    /// Set when nothing more is to be sent.
    pub hush: CancellationToken,
    /// Who sends, in the order of their turns.
    pub turns: Vec<Seat>,
    /// Who sits where.
    pub house: Arc<House>,
    bodies: Bodies,
    checks: Checks,
    /// Each user's turn, by number.
    turn_of: Vec<u32>,
    ledgers: Vec<Mutex<Ledger>>,
    /// One for each thread that listens, and the last for the one that sends.
    tallies: Vec<Mutex<Tally>>,
    /// Whether nothing more will be sent.
    ended: AtomicBool,
}

impl Run {
    /// A load that starts at `start`, nothing sent yet, heard by so many threads. `rng` chooses the
    /// order of sending.
    pub(crate) fn new(
        house: Arc<House>,
        checks: Checks,
        lanes: usize,
        start: Instant,
        (rate, duration): (f64, Duration),
        bodies: Bodies,
        rng: &mut fastrand::Rng,
    ) -> Self {
        let mut turns = house.sending().collect::<Vec<_>>();
        rng.shuffle(&mut turns);
        let mut turn_of = vec![u32::MAX; house.seats.len()];
        for (turn, seat) in turns.iter().enumerate() {
            turn_of[seat.user as usize] = turn as u32;
        }
        let ledger = |room| {
            let ledger = Ledger::new(house.sizes[room], house.senders(room));
            Mutex::new(ledger.checking(checks))
        };
        Self {
            start,
            schedule: Schedule::new(rate, duration, turns.len()),
            hush: CancellationToken::new(),
            bodies,
            checks,
            turn_of,
            ledgers: (0..house.sizes.len()).map(ledger).collect(),
            tallies: (0..=lanes).map(|_| Mutex::new(Tally::new())).collect(),
            ended: AtomicBool::new(false),
            turns,
            house,
        }
    }

    /// Before it starts: the ledgers let go of what was paid, and their memory does not grow with the
    /// length of the load. Its history cannot be compared then.
    pub(crate) fn forget(&self) {
        for room in 0..self.ledgers.len() {
            self.ledger(room).forget_beyond(MOST_OWING);
        }
    }

    /// Writes a message that is due: what follows the head of its SEND.
    pub(crate) fn write(&self, stamp: Stamp, out: &mut Vec<u8>) {
        self.bodies.send(stamp, self.checks, out);
    }

    /// A message is about to be handed to the socket, so much later than it was due.
    pub(crate) fn sent(&self, seat: Seat, seq: usize, due: Duration, late: Duration) {
        self.ledger(seat.room).sent(seat.member, seq);
        let receipts = u64::from(self.checks.receipts);
        let mut tally = self.tally(self.tallies.len() - 1);
        let window = &mut tally.window;
        window.sent += 1;
        window.owed += self.house.sizes[seat.room] as u64 + receipts;
        window.sending = due + late;
        record(&mut window.latencies.lag, late);
    }

    /// Nothing more will be sent.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Whether nothing more will be sent.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Whether everything was sent and everything has come that it owes.
    pub(crate) fn is_settled(&self) -> bool {
        self.has_ended() && self.backlog() == 0
    }

    /// Deliveries and receipts that are owed and have not come.
    pub(crate) fn backlog(&self) -> u64 {
        let balances = (0..self.tallies.len()).map(|at| self.tally(at).balance());
        let (owed, paid) = balances.fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
        owed.saturating_sub(paid)
    }

    /// What has come since this was last asked; the next window begins.
    pub(crate) fn turn(&self) -> Window {
        let mut all = Window::new();
        for at in 0..self.tallies.len() {
            self.tally(at).turn(&mut all);
        }
        all
    }

    /// What has come so far.
    pub(crate) fn total(&self) -> Window {
        let mut all = Window::new();
        for at in 0..self.tallies.len() {
            self.tally(at).add_to(&mut all);
        }
        all
    }

    /// A room's ledger.
    pub(crate) fn ledger(&self, room: usize) -> MutexGuard<'_, Ledger> {
        self.ledgers[room]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes all ledgers: what went wrong with messages, and the first faults in words.
    pub(crate) fn close(&self) -> (Faults, Vec<String>) {
        let (mut faults, mut notes) = (Faults::default(), Vec::new());
        for room in 0..self.ledgers.len() {
            let mut ledger = self.ledger(room);
            faults += ledger.close();
            let name = self.house.room_name(room);
            let of_room = ledger.notes().iter().map(|note| format!("{name}: {note}"));
            notes.extend(of_room);
        }
        (faults, notes)
    }

    /// The message of this load that a body belongs to, and who sent it; `None` when the body or the
    /// sender's name is not as it was sent.
    pub(crate) fn origin(&self, sender: Option<&str>, body: &[u8]) -> Option<(Seat, Stamp)> {
        let stamp = self.bodies.read(body)?;
        let seat = *self.house.seats.get(stamp.user as usize)?;
        let is_right = !self.checks.senders || sender == Some(self.house.name(seat));
        is_right.then_some((seat, stamp))
    }

    fn delivered(&self, seat: Seat, lane: usize, glance: &Glance<'_>, now: Instant) {
        if self.bodies.is_of_another(glance.body) {
            return;
        }
        let sender = glance.sender.map(unescaped);
        let origin = self.origin(sender.as_deref(), glance.body);
        let id = message_id(glance.id).filter(|_| self.checks.ids);
        let mut ledger = self.ledger(seat.room);
        let entry = match origin {
            Some((from, stamp)) if from.room == seat.room && (id.is_some() || !self.checks.ids) => {
                ledger.delivered(seat.member, from.member, stamp.seq as usize, id)
            }
            _ => ledger.foreign(),
        };
        drop(ledger);
        let mut tally = self.tally(lane);
        let window = &mut tally.window;
        window.delivered += 1;
        window.delivering = now.saturating_duration_since(self.start);
        if let (Entry::Paid, Some((_, stamp))) = (entry, origin) {
            let due = self.start + stamp.due;
            record(
                &mut window.latencies.receive,
                now.saturating_duration_since(due),
            );
            window.paid += 1;
        }
    }

    fn receipted(&self, seat: Seat, lane: usize, glance: &Glance<'_>, now: Instant) {
        let receipt = glance.receipt.and_then(|text| self.bodies.receipt(text));
        let seq = match receipt {
            Some(Some(seq)) => seq,
            // Of an earlier load.
            Some(None) => return,
            None => usize::MAX,
        };
        let id = message_id(glance.id);
        if self.ledger(seat.room).receipted(seat.member, seq, id) == Entry::Paid
            && let Some(due) = self
                .schedule
                .due(self.turn_of[seat.user as usize] as usize, seq)
        {
            let mut tally = self.tally(lane);
            record(
                &mut tally.window.latencies.receipt,
                now.saturating_duration_since(self.start + due),
            );
            tally.window.paid += 1;
        }
    }

    fn tally(&self, at: usize) -> MutexGuard<'_, Tally> {
        self.tallies[at]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ear for Run {
    fn hear(&self, seat: Seat, glance: &Glance<'_>, now: Instant) -> Result<(), ClientError> {
        let lane = self.house.lane(seat.room, self.tallies.len() - 1);
        match glance.command {
            Command::Message => self.delivered(seat, lane, glance, now),
            Command::Receipt => self.receipted(seat, lane, glance, now),
            Command::Error => return Err(glance.refusal()),
            _ => {}
        }
        Ok(())
    }
}

fn message_id(text: Option<&[u8]>) -> Option<MessageId> {
    str::from_utf8(text?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_at_the_rate_whoever_sends_them() {
        let schedule = Schedule::new(100.0, Duration::from_secs(1), 30);
        let mut due = (0..100)
            .flat_map(|seq| (0..30).filter_map(move |turn| schedule.due(turn, seq)))
            .collect::<Vec<_>>();
        due.sort_unstable();
        assert_eq!(due.len(), 100);
        assert_eq!(due[99], Duration::from_millis(990));
        assert!(
            due.windows(2)
                .all(|pair| pair[1] - pair[0] > Duration::from_micros(9_990))
        );
    }
}
