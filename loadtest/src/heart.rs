//! Heart-beats of all connections of a thread, without a timer for each.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::wire::Outlet;

/// How often some of the connections have their turn.
const TICK: Duration = Duration::from_millis(100);

/// A server that is silent for so many of its intervals has gone.
const PATIENCE: f64 = 2.5;

/// The share of its interval after which a connection shows that it lives.
const EARLY: f64 = 0.8;

/// Connections that take turns in showing that they live.
#[derive(Debug, Default)]
pub(crate) struct Heart {
    beating: Mutex<Beating>,
}

#[derive(Debug, Default)]
struct Beating {
    outlets: Vec<Pulse>,
    next: usize,
    /// The shortest interval of them.
    interval: Option<Duration>,
    /// Connections whose server was found silent.
    silent: u64,
}

#[derive(Debug)]
struct Pulse {
    outlet: Weak<Outlet>,
    sends: bool,
    silence: Option<Duration>,
}

impl Heart {
    /// Takes a connection in, with how often this side and the other are to show that they live.
    pub(crate) fn add(&self, outlet: &Arc<Outlet>, beats: (Option<Duration>, Option<Duration>)) {
        let (ours, theirs) = beats;
        let Some(shortest) = [ours, theirs].into_iter().flatten().min() else {
            return;
        };
        let mut beating = self.beating();
        beating.interval = Some(beating.interval.map_or(shortest, |it| it.min(shortest)));
        beating.outlets.push(Pulse {
            outlet: Arc::downgrade(outlet),
            sends: ours.is_some(),
            silence: theirs.map(|theirs| theirs.mul_f64(PATIENCE)),
        });
    }

    /// Connections whose server was silent for too long, so far.
    pub(crate) fn silent(&self) -> u64 {
        self.beating().silent
    }

    /// Beats for ever.
    pub(crate) async fn beat(&self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.beating().turn();
        }
    }

    fn beating(&self) -> MutexGuard<'_, Beating> {
        self.beating.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Beating {
    /// The turn of as many connections as have to have one each tick.
    fn turn(&mut self) {
        let Some(interval) = self.interval else {
            return;
        };
        let cycle = interval.mul_f64(EARLY).as_secs_f64();
        let share = self.outlets.len() as f64 * TICK.as_secs_f64() / cycle;
        let turns = (share.ceil() as usize).min(self.outlets.len());
        for _ in 0..turns {
            if self.next >= self.outlets.len() {
                self.next = 0;
            }
            let Some(pulse) = self.outlets.get_mut(self.next) else {
                return;
            };
            let Some(outlet) = pulse.outlet.upgrade() else {
                self.outlets.swap_remove(self.next);
                continue;
            };
            self.next += 1;
            if pulse.silence.is_some_and(|most| outlet.silence() > most) {
                self.silent += 1;
                pulse.silence = None;
            }
            if pulse.sends {
                // Its listener meets the same error.
                let _ = outlet.beat();
            }
        }
    }
}
