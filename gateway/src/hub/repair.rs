//! The repair of what a room has missed.

use std::pin::pin;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep, timeout_at};

use shared::backoff::Backoff;
use shared::broker::handover::weight;
use shared::config::Protection;

use super::{Hub, Seat};
use crate::close::CloseReason;
use crate::room::{Repaired, Unrepairable};

/// How many messages one reading of a repair fetches.
const PAGE: usize = 100;

/// How many octets a repair delivers before it lets the members read: at once, a long gap would
/// overflow the outbox of every one of them.
const STRIDE: usize = 64 << 10;

/// The longest that it lets them. Who reads more slowly than a stride in this time is cut off in the
/// end, as ever.
const BREATH: Duration = Duration::from_millis(250);

/// The longest that it lets them in all: one who could not keep up with the room anyway must not
/// hold the others up.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it looks whether they have.
const LOOK: Duration = Duration::from_millis(1);

/// How long a repair may fail, or wait while none succeeds, before the room's members are cut off,
/// to come back with `after`.
const REPAIR_DEADLINE: Duration = Duration::from_secs(30);

impl Hub {
    /// Fetches what a room has missed and delivers it before anything newer; where that cannot be
    /// done, or not in time, the members are cut off rather than left believing.
    pub(super) async fn repair(self: Arc<Self>, seat: Arc<Seat>) {
        if self.without.has(Protection::GapRepair) {
            return seat.room().end_without_reading();
        }
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let mut failing_since = None;
        let mut patience = PATIENCE;
        let why = loop {
            match self.read_missed(&seat, &mut patience).await {
                Ok(Repaired::Wholly { has_missed }) => {
                    if has_missed {
                        self.metrics.gaps_repaired.inc();
                    }
                    return;
                }
                Ok(Repaired::Partly) => failing_since = None,
                Ok(Repaired::Behind) | Err(Failed::Unreadable) => {
                    let since = *failing_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= REPAIR_DEADLINE {
                        break "what it missed cannot be read";
                    }
                    sleep(backoff.next()).await;
                }
                Err(Failed::Waiting) => break "no repair succeeds",
                Err(Failed::Unrepairable) => {
                    break "what it missed is gone, or came before what was seen";
                }
            }
        };
        tracing::warn!(why, "a room's members are cut off");
        self.metrics.gaps_unrepaired.inc();
        // Who comes now begins anew, instead of waiting for what those before have missed.
        let mut rooms = self.rooms();
        self.vacate(&mut rooms, &seat);
        seat.room().members.cut(CloseReason::GapUnrepaired);
    }

    /// One reading for a repair, and the delivery of what it finds.
    async fn read_missed(&self, seat: &Seat, patience: &mut Duration) -> Result<Repaired, Failed> {
        // A turn lasts for one reading, so that a room which cannot be read blocks no other.
        let turn = self.turn().await.ok_or(Failed::Waiting)?;
        let Some(from) = seat.room().begin_reading() else {
            return Err(Failed::Unrepairable);
        };
        let shortcut = seat.room().shortcut();
        let in_window = match shortcut {
            Some(newest) => self.past.since_in_window(&seat.name, newest, PAGE).await,
            None => None,
        };
        let since = match in_window {
            Some(since) => Ok(since),
            None => self.past.since_now(&seat.name, from, PAGE).await,
        };
        drop(turn);
        let since = since.map_err(|_| Failed::Unreadable)?;
        if !since.page.complete {
            return Err(Failed::Unreadable);
        }
        *self.progress() = Instant::now();
        if !since.is_known {
            seat.room().begins_nowhere(from)?;
        }
        if since.has_hole {
            return Err(Failed::Unrepairable);
        }
        let mut unread = 0;
        for message in &since.page.messages {
            seat.room().replay(message)?;
            unread += weight(message);
            if unread > STRIDE {
                unread = 0;
                seat.breathe(patience).await;
            }
        }
        // Of what waits, too, much may be released at once.
        seat.breathe(patience).await;
        if since.page.messages.len() < PAGE {
            return Ok(seat.room().end_reading());
        }
        Ok(Repaired::Partly)
    }

    /// A repair's turn. Others before it are no reason to give up, as long as they succeed.
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        let began = Instant::now();
        let mut turn = pin!(self.repairs.acquire());
        loop {
            let due = began.max(*self.progress()) + REPAIR_DEADLINE;
            match timeout_at(due, turn.as_mut()).await {
                Ok(turn) => return turn.ok(),
                Err(_) if *self.progress() + REPAIR_DEADLINE > due => {}
                Err(_) => return None,
            }
        }
    }

    fn progress(&self) -> MutexGuard<'_, Instant> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Lets members read what was delivered.
    async fn breathe(&self, patience: &mut Duration) {
        let began = Instant::now();
        let most = BREATH.min(*patience).max(LOOK);
        while self.room().members.are_crowded() && began.elapsed() < most {
            sleep(LOOK).await;
        }
        *patience = patience.saturating_sub(began.elapsed());
    }
}

/// Why a repair has not come further.
enum Failed {
    /// The past cannot be read now.
    Unreadable,
    /// It had no turn, and none before it had success.
    Waiting,
    /// It never will.
    Unrepairable,
}

impl From<Unrepairable> for Failed {
    fn from(_: Unrepairable) -> Self {
        Self::Unrepairable
    }
}
