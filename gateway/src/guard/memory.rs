//! How much memory the process has, and whether it may serve somebody new.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

/// How far below the limit the memory has to be before somebody new is served, in hundredths.
const BELOW: u64 = 95;

/// What the process may have.
#[derive(Debug)]
pub(super) struct Memory {
    most: u64,
    is_over: AtomicBool,
}

impl Memory {
    pub(super) fn new(most: u64) -> Self {
        Self {
            most,
            is_over: AtomicBool::new(false),
        }
    }

    /// Whether nobody new may be served.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Takes note of what the process has.
    pub(super) fn measured(&self, resident: u64) {
        let was_over = self.is_over();
        let is_over = if was_over {
            resident > self.most / 100 * BELOW
        } else {
            resident > self.most
        };
        self.is_over.store(is_over, Ordering::Relaxed);
        let most = self.most;
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

    #[test]
    fn who_was_over_the_limit_serves_again_well_below_it() {
        let memory = Memory::new(1000);
        for (resident, is_over) in [
            (1000, false),
            (1001, true),
            (951, true),
            (950, false),
            (1000, false),
            (2000, true),
            (0, false),
        ] {
            memory.measured(resident);
            assert_eq!(memory.is_over(), is_over, "{resident}");
        }
    }
}
