//! What all users of a run share: who sits where, what is due when, and what has come of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use shared::message::MessageId;
use tokio_util::sync::CancellationToken;

use crate::body::{Bodies, Stamp};
use crate::ledger::{Entry, Ledger};

/// Latencies are kept in so many parts, so that users seldom wait for each other.
const PARTS: usize = 8;

/// Where a user sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    /// Its number in the run.
    pub user: u32,
    /// Its room.
    pub room: usize,
    /// Its place among the room's members.
    pub member: usize,
}

/// How users are spread over rooms.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seating {
    /// So many rooms of about the same size.
    Rooms(u32),
    /// Rooms of this size; the last may be smaller.
    Size(u32),
}

impl Seating {
    /// The seats of this many users.
    pub(crate) fn seats(self, users: u32) -> Vec<Seat> {
        let seat = |user| {
            let (room, member) = match self {
                Self::Rooms(rooms) => (user % rooms, user / rooms),
                Self::Size(size) => (user / size, user % size),
            };
            Seat {
                user,
                room: room as usize,
                member: member as usize,
            }
        };
        (0..users).map(seat).collect()
    }
}

/// When messages are due: at a fixed rate, each user in turn, whatever became of those before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// Messages a second.
    pub rate: f64,
    /// Messages in all.
    pub messages: usize,
    /// Users who take turns.
    pub users: usize,
}

impl Schedule {
    /// A schedule for so long; at least one message.
    pub(crate) fn new(rate: f64, duration: Duration, users: usize) -> Self {
        let messages = (rate * duration.as_secs_f64()).round().max(1.0) as usize;
        Self {
            rate,
            messages,
            users,
        }
    }

    /// When a user's message is due, since the start; `None` when there is no such message.
    pub(crate) fn due(&self, turn: usize, seq: usize) -> Option<Duration> {
        let at = seq * self.users + turn;
        (at < self.messages).then(|| Duration::from_secs_f64(at as f64 / self.rate))
    }
}

/// A run while it goes on.
pub(crate) struct Run {
    /// When the first message is due.
    pub start: Instant,
    /// When each is.
    pub schedule: Schedule,
    /// What they say.
    pub bodies: Bodies,
    /// Everybody's seat, by number.
    pub seats: Vec<Seat>,
    /// Everybody's name, by number.
    pub names: Vec<String>,
    /// Set when nothing more is to be sent.
    pub hush: CancellationToken,
    /// Set when the users are to end.
    pub stop: CancellationToken,
    /// Set when nothing is outstanding.
    pub done: CancellationToken,
    ledgers: Vec<Mutex<Ledger>>,
    outstanding: AtomicU64,
    sent: AtomicU64,
    /// Microseconds from the start to the newest send.
    sending: AtomicU64,
    delivered: AtomicU64,
    /// Microseconds from the start to the newest delivery.
    delivering: AtomicU64,
    latencies: Vec<Mutex<Latencies>>,
}

/// Latencies in microseconds.
pub(crate) struct Latencies {
    /// From when a message was due to its delivery.
    pub receive: Histogram<u64>,
    /// From when a message was due to its receipt.
    pub receipt: Histogram<u64>,
    /// From when a message was due to its being handed to the socket.
    pub lag: Histogram<u64>,
}

impl Run {
    /// A run that starts at `start`, nothing sent yet. `turns` has a user's number for each place
    /// in the order of sending.
    pub(crate) fn new(
        start: Instant,
        schedule: Schedule,
        bodies: Bodies,
        seats: Vec<Seat>,
        names: Vec<String>,
        turns: &[u32],
    ) -> Self {
        let rooms = seats.iter().map(|seat| seat.room + 1).max().unwrap_or(0);
        let mut sizes = vec![0; rooms];
        for seat in &seats {
            sizes[seat.room] += 1;
        }
        let ledger = |size| Mutex::new(Ledger::new(size, size));
        let owed = |at: usize| {
            let sender = turns[at % turns.len()] as usize;
            sizes[seats[sender].room] as u64 + 1
        };
        Self {
            outstanding: AtomicU64::new((0..schedule.messages).map(owed).sum()),
            ledgers: sizes.iter().map(|size| ledger(*size)).collect(),
            latencies: (0..PARTS).map(|_| Mutex::new(Latencies::new())).collect(),
            sent: AtomicU64::new(0),
            sending: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            delivering: AtomicU64::new(0),
            hush: CancellationToken::new(),
            stop: CancellationToken::new(),
            done: CancellationToken::new(),
            start,
            schedule,
            bodies,
            seats,
            names,
        }
    }

    /// A message is about to be handed to the socket, so much later than it was due.
    pub(crate) fn sent(&self, seat: Seat, seq: usize, due: Duration, late: Duration) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.sending
            .fetch_max(micros(due + late), Ordering::Relaxed);
        self.ledger(seat.room).sent(seat.member, seq);
        record(&mut self.latencies(seat).lag, late);
    }

    /// A MESSAGE has come to a user.
    pub(crate) fn delivered(
        &self,
        seat: Seat,
        id: Option<MessageId>,
        sender: Option<&str>,
        body: &[u8],
        now: Instant,
    ) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
        let since_start = micros(now.saturating_duration_since(self.start));
        self.delivering.fetch_max(since_start, Ordering::Relaxed);
        let origin = self.origin(sender, body);
        let mut ledger = self.ledger(seat.room);
        let entry = match (origin, id) {
            (Some((from, stamp)), Some(id)) if from.room == seat.room => {
                ledger.delivered(seat.member, from.member, stamp.seq as usize, id)
            }
            _ => ledger.foreign(),
        };
        drop(ledger);
        if let (Entry::Paid, Some((_, stamp))) = (entry, origin) {
            let due = self.start + stamp.due;
            record(
                &mut self.latencies(seat).receive,
                now.saturating_duration_since(due),
            );
            self.paid();
        }
    }

    /// The message of this run that a body belongs to, and who sent it; `None` when the body or the
    /// sender's name is not as it was sent.
    pub(crate) fn origin(&self, sender: Option<&str>, body: &[u8]) -> Option<(Seat, Stamp)> {
        let stamp = self.bodies.read(body)?;
        let user = stamp.user as usize;
        let seat = *self.seats.get(user)?;
        (sender == Some(&self.names[user])).then_some((seat, stamp))
    }

    /// A RECEIPT has come to a user; `seq` is the message that it names, if it is one.
    pub(crate) fn receipted(
        &self,
        seat: Seat,
        turn: usize,
        seq: Option<usize>,
        id: Option<MessageId>,
        now: Instant,
    ) {
        let seq = seq.unwrap_or(usize::MAX);
        if self.ledger(seat.room).receipted(seat.member, seq, id) == Entry::Paid
            && let Some(due) = self.schedule.due(turn, seq)
        {
            let due = self.start + due;
            record(
                &mut self.latencies(seat).receipt,
                now.saturating_duration_since(due),
            );
            self.paid();
        }
    }

    /// A room's ledger.
    pub(crate) fn ledger(&self, room: usize) -> MutexGuard<'_, Ledger> {
        self.ledgers[room]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// How many rooms there are.
    pub(crate) fn rooms(&self) -> usize {
        self.ledgers.len()
    }

    /// Messages handed to sockets.
    pub(crate) fn sent_count(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// From the start to the newest send.
    pub(crate) fn sending(&self) -> Duration {
        Duration::from_micros(self.sending.load(Ordering::Relaxed))
    }

    /// Deliveries that came, whatever they were.
    pub(crate) fn delivered_count(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// From the start to the newest delivery.
    pub(crate) fn delivering(&self) -> Duration {
        Duration::from_micros(self.delivering.load(Ordering::Relaxed))
    }

    /// Everybody's latencies together.
    pub(crate) fn all_latencies(&self) -> Latencies {
        let mut all = Latencies::new();
        for part in &self.latencies {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            all.receive += &part.receive;
            all.receipt += &part.receipt;
            all.lag += &part.lag;
        }
        all
    }

    fn paid(&self) {
        if self.outstanding.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done.cancel();
        }
    }

    fn latencies(&self, seat: Seat) -> MutexGuard<'_, Latencies> {
        let part = seat.user as usize % PARTS;
        self.latencies[part]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Latencies {
    fn new() -> Self {
        let histogram = || {
            // To an hour, with three digits: 0.1 % of whatever is recorded.
            Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("the bounds are valid")
        };
        Self {
            receive: histogram(),
            receipt: histogram(),
            lag: histogram(),
        }
    }
}

fn record(histogram: &mut Histogram<u64>, latency: Duration) {
    histogram.saturating_record(micros(latency).max(1));
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seat_is_taken_once() {
        for seating in [Seating::Rooms(3), Seating::Size(4)] {
            let seats = seating.seats(10);
            let mut places = seats.iter().map(|s| (s.room, s.member)).collect::<Vec<_>>();
            places.sort_unstable();
            places.dedup();
            assert_eq!(places.len(), 10);
            let rooms = seats.iter().map(|seat| seat.room).max().unwrap() + 1;
            assert_eq!(rooms, 3);
            for room in 0..rooms {
                let members = seats.iter().filter(|seat| seat.room == room);
                let mut members = members.map(|seat| seat.member).collect::<Vec<_>>();
                members.sort_unstable();
                assert_eq!(
                    members,
                    (0..members.len()).collect::<Vec<_>>(),
                    "without a gap"
                );
            }
        }
    }

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
