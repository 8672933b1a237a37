//! How much memory the process has, and whether it may serve somebody new.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// How far below the limit the memory has to be before somebody new is served, in hundredths, or below
/// what they were the connections.
const BELOW: u64 = 95;

/// What the process may have.
#[derive(Debug)]
pub(super) struct Memory {
    most: u64,
    is_over: AtomicBool,
    full: Mutex<Option<Full>>,
}

/// The memory is over the limit, and has not been well below it since.
///
/// An allocator keeps much of what it is given back, and uses it again. Memory that never falls must not
/// turn everyone away for ever: where connections have gone, others may have what those had.
#[derive(Debug)]
struct Full {
    /// The most memory that there was.
    peak: u64,
    /// The connections that there were then, or fewer.
    connections: u64,
}

impl Memory {
    pub(super) fn new(most: u64) -> Self {
        Self {
            most,
            is_over: AtomicBool::new(false),
            full: Mutex::default(),
        }
    }

    /// Whether nobody new may be served.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Takes note of what the process has, and of how many connections.
    pub(super) fn measured(&self, resident: u64, connections: usize) {
        let most = self.most;
        let connections = connections as u64;
        let was_over = self.is_over();
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *full {
            Some(_) if resident <= most / 100 * BELOW => *full = None,
            // More than what is kept: what who came took was not there.
            Some(full) if resident > full.peak.saturating_add(most / 20) => {
                let fewer = if was_over {
                    full.connections
                } else {
                    full.connections * BELOW / 100
                };
                *full = Full {
                    peak: resident,
                    connections: fewer.min(connections),
                };
            }
            None if resident > most => {
                *full = Some(Full {
                    peak: resident,
                    connections,
                });
            }
            _ => {}
        }
        let is_over = full
            .as_ref()
            .is_some_and(|full| connections > full.connections * BELOW / 100);
        self.is_over.store(is_over, Ordering::Relaxed);
        if is_over && !was_over {
            tracing::warn!(resident, most, "out of memory: nobody new is served");
        } else if was_over && !is_over {
            tracing::info!(resident, most, "there is memory for more connections");
        }
    }
}

/// The resident memory of this process in octets, where the system tells it (Linux, proc(5)).
pub(super) fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::Memory;

    #[track_caller]
    fn follow(memory: &Memory, steps: &[(u64, usize, bool)]) {
        for &(resident, connections, is_over) in steps {
            memory.measured(resident, connections);
            assert_eq!(memory.is_over(), is_over, "{resident} {connections}");
        }
    }

    #[test]
    fn who_was_over_the_limit_serves_again_well_below_it() {
        let steps = [1000, 1001, 951, 950, 1000, 2000, 0];
        let over = [false, true, true, false, false, true, false];
        let steps: Vec<_> = steps
            .into_iter()
            .zip(over)
            .map(|(m, o)| (m, 10, o))
            .collect();
        follow(&Memory::new(1000), &steps);
    }

    #[test]
    fn memory_that_the_allocator_keeps_is_for_as_many_as_had_it() {
        let memory = Memory::new(1000);
        follow(
            &memory,
            &[
                (1040, 100, true),
                // Who is there takes more, which is nobody else's.
                (1200, 100, true),
                (1200, 96, true),
                (1200, 95, false),
                (1200, 20, false),
                (1200, 95, false),
                (1200, 96, true),
                (1200, 0, false),
            ],
        );
    }

    #[test]
    fn who_comes_and_finds_nothing_that_was_kept_is_the_last() {
        let memory = Memory::new(1000);
        follow(
            &memory,
            &[
                (1010, 100, true),
                (1010, 50, false),
                (1061, 60, true),
                (1061, 57, false),
                // Even where nobody measured between: each time fewer are let in.
                (1112, 60, true),
                (1112, 54, false),
                (1112, 55, true),
                (900, 55, false),
                (1000, 200, false),
            ],
        );
    }
}
