//! A server's memory, CPU time and descriptors, while it is watched; from `/proc`.

use std::fs;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::cpu;

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
        resident(pid)?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut ticks = interval(LOOKS);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let Ok(octets) = resident(pid) else {
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
        resident(self.pid).is_ok()
    }

    /// Its resident memory now, in octets; 0 when it has ended.
    pub(super) fn memory(&self) -> u64 {
        resident(self.pid).unwrap_or_default()
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
        cpu::used(&self.pid.to_string()).ok()
    }

    /// The descriptors that it has open; nothing where that may not be seen.
    pub(super) fn descriptors(&self) -> Option<u64> {
        let folder = fs::read_dir(format!("/proc/{}/fd", self.pid)).ok()?;
        Some(folder.count() as u64)
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

/// What of a process is in memory, in octets: `VmRSS` of proc_pid_status(5). A process that has ended,
/// and was not waited for, has none.
fn resident(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib * 1024)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the process has ended"))
}

#[cfg(test)]
mod tests {
    use super::resident;

    #[test]
    fn a_process_has_memory_and_none_that_is_not_there_has() {
        assert!(resident(std::process::id()).unwrap() > 100_000);
        assert!(resident(u32::MAX).is_err());
    }
}
