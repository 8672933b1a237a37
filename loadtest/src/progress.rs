//! A line on stderr that says how far it is.

use std::io::{IsTerminal, Write, stderr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often the line changes at most.
const PAUSE: Duration = Duration::from_secs(1);

/// Where progress goes.
#[derive(Debug)]
pub(crate) struct Progress {
    shows: bool,
    /// Whether the line is written over the one before.
    overwrites: bool,
    last: Mutex<Option<Instant>>,
}

impl Progress {
    /// A line each second: where stderr is a terminal, or `forced`; none where it is to be `quiet`.
    pub(crate) fn new(forced: bool, quiet: bool) -> Self {
        let overwrites = stderr().is_terminal();
        Self {
            shows: (forced || overwrites) && !quiet,
            overwrites,
            last: Mutex::new(None),
        }
    }

    /// Nothing is shown.
    pub(crate) fn silent() -> Self {
        Self::new(false, true)
    }

    /// Shows a line, whenever the one before was.
    pub(crate) fn show(&self, line: &str) {
        if !self.shows {
            return;
        }
        let line = match self.overwrites {
            true => format!("\r{line}\x1b[K"),
            false => format!("{line}\n"),
        };
        // Who has closed stderr does not want to know.
        let _ = stderr().write_all(line.as_bytes());
    }

    /// So many users are connected.
    pub(crate) fn connecting(&self, open: u64, all: usize) {
        if !self.shows || !self.is_time() {
            return;
        }
        self.show(&format!("connecting: {open} of {all}"));
    }

    fn is_time(&self) -> bool {
        let Ok(mut last) = self.last.lock() else {
            return false;
        };
        let is_time = last.is_none_or(|last| last.elapsed() >= PAUSE);
        if is_time {
            *last = Some(Instant::now());
        }
        is_time
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.overwrites {
            self.show("");
        }
    }
}
