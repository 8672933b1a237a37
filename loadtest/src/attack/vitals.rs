//! A server's memory, CPU time and descriptors, while it is watched; from `/proc`.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::process;

/// How often it is looked at.
const LOOKS: Duration = Duration::from_millis(100);

/// What is watched of a process. It ends when this is dropped.
pub(super) struct Vitals {
    pid: u32,
    seen: Arc<Mutex<Vec<(Instant, u64)>>>,
    task: JoinHandle<()>,
}

impl Vitals {
    /// Watches a process.
    ///
    /// # Errors
    /// When there is no such process, or no `/proc`.
    pub(super) fn watch(pid: u32) -> io::Result<Self> {
        process::resident(pid)?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut ticks = interval(LOOKS);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let Ok(octets) = process::resident(pid) else {
                    return;
                };
                let mut seen = shared.lock().unwrap_or_else(PoisonError::into_inner);
                seen.push((Instant::now(), octets));
            }
        });
        Ok(Self { pid, seen, task })
    }

    /// Whether the process runs.
    pub(super) fn is_alive(&self) -> bool {
        process::resident(self.pid).is_ok()
    }

    /// Its resident memory now, in octets; 0 when it has ended.
    pub(super) fn memory(&self) -> u64 {
        process::resident(self.pid).unwrap_or_default()
    }

    /// The most that it had since `from`.
    pub(super) fn peak(&self, from: Instant) -> u64 {
        self.since(from).into_iter().max().unwrap_or_default()
    }

    /// What it had half of the time since `from` at most.
    pub(super) fn median(&self, from: Instant) -> u64 {
        let mut seen = self.since(from);
        seen.sort_unstable();
        seen.get(seen.len() / 2).copied().unwrap_or_default()
    }

    /// The CPU time that it has used; nothing when it has ended.
    pub(super) fn cpu(&self) -> Option<Duration> {
        process::cpu(self.pid).ok()
    }

    /// The descriptors that it has open; nothing where that may not be seen.
    pub(super) fn descriptors(&self) -> Option<u64> {
        process::descriptors(self.pid).ok()
    }

    fn since(&self, from: Instant) -> Vec<u64> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.iter().filter(|(at, _)| *at >= from);
        seen.map(|(_, octets)| *octets).collect()
    }
}

impl Drop for Vitals {
    fn drop(&mut self) {
        self.task.abort();
    }
}
