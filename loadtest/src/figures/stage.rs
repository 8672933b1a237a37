//! What all sets need: programs, a folder, the wish to end, and this program as the generator.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use harness::Process;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::system::System;
use crate::chaos::programs::Programs;
use crate::report::Report;

/// How often it is looked whether a load has ended.
const LOOK: Duration = Duration::from_millis(50);

/// Why a set could not be finished.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    /// Somebody wants it to end.
    #[error("interrupted")]
    Interrupted,
    /// Something that it needs does not work.
    #[error("{0}")]
    Failed(String),
}

/// Where sets are played.
pub(crate) struct Stage {
    /// Where our programs are.
    pub programs: Programs,
    /// This program, which is the generator and the floor too.
    pub own: PathBuf,
    /// How often each load runs.
    pub repeat: u32,
    /// Whether loads are to be short.
    pub quick: bool,
    /// Set when it is to end.
    pub stop: CancellationToken,
    /// For files of servers and of loads.
    pub folder: TempDir,
    /// When it all began.
    pub began: Instant,
}

/// A load: the scenario and its flags, without those of the system that it runs on.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    args: Vec<String>,
    /// How long it may take altogether.
    limit: Duration,
}

impl Ask {
    /// A scenario of this program that may take `limit` altogether.
    pub(crate) fn new(scenario: &str, limit: Duration) -> Self {
        Self {
            args: vec![scenario.to_owned()],
            limit,
        }
    }

    /// Users in rooms of this size who send so many messages a second for so long.
    pub(crate) fn rooms(users: u32, size: u32, rate: f64, time: Duration) -> Self {
        // Time to connect, to settle, and to leave.
        let limit = time + Duration::from_secs(60);
        Self::new("fanout", limit)
            .with("--users", users)
            .with("--room-size", size)
            .with("--rate", rate)
            .with("--duration", format_args!("{}ms", time.as_millis()))
            .with("--settle", "10s")
    }

    /// The flags of this load on a system.
    pub(crate) fn args(&self, system: &System) -> Vec<String> {
        let mut args = self.args.clone();
        args.extend(system.flags());
        args
    }

    /// The same with one more flag.
    pub(crate) fn with(mut self, flag: &str, value: impl fmt::Display) -> Self {
        self.args.extend([flag.to_owned(), value.to_string()]);
        self
    }
}

impl Stage {
    /// Says on stderr what goes on.
    pub(crate) fn say(&self, what: impl fmt::Display) {
        let seconds = self.began.elapsed().as_secs();
        eprintln!("{:>3}:{:02}  {what}", seconds / 60, seconds % 60);
    }

    /// This long, or a third of it where it has to be quick.
    pub(crate) fn time(&self, seconds: u64) -> Duration {
        Duration::from_millis(seconds * if self.quick { 333 } else { 1000 })
    }

    /// Whether to go on.
    ///
    /// # Errors
    /// [`Broken::Interrupted`] where not.
    pub(crate) fn go_on(&self) -> Result<(), Broken> {
        match self.stop.is_cancelled() {
            true => Err(Broken::Interrupted),
            false => Ok(()),
        }
    }

    /// Runs a load on a system to its end, in a process of its own, and returns what it has shown, lost
    /// messages too.
    ///
    /// # Errors
    /// [`Broken`] when it could not be run.
    pub(crate) async fn load(&self, system: &System, ask: &Ask) -> Result<Report, Broken> {
        self.go_on()?;
        let json = self.folder.path().join("report.json");
        // What an earlier load left must not be taken for this one's.
        let _ = std::fs::remove_file(&json);
        let mut args = ask.args(system);
        args.extend(["--json".into(), json.to_string_lossy().into_owned()]);
        let mut generator = Process::spawn_at(&self.own, &args);
        let deadline = Instant::now() + ask.limit;
        while generator.runs() {
            tokio::select! {
                () = sleep(LOOK) => {}
                () = self.stop.cancelled() => return Err(Broken::Interrupted),
            }
            if Instant::now() > deadline {
                let line = format!("{}: the load does not end", system.name);
                return Err(Broken::Failed(line));
            }
        }
        generator.wait().await;
        let text = std::fs::read_to_string(&json).unwrap_or_default();
        serde_json::from_str(&text).map_err(|_| {
            let output = generator.output();
            let last = output.lines().last().unwrap_or("the load said nothing");
            Broken::Failed(format!("{}: {last}", system.name))
        })
    }
}
