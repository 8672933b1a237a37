//! Connections that are held, and what they take while they are.

use std::time::Duration;

use harness::Process;
use tokio::time::{Instant, sleep};

use super::stage::{Ask, Broken, Stage};
use super::system::System;
use crate::process;

/// How often it is looked whether everybody is there, or has left.
const LOOK: Duration = Duration::from_millis(100);

/// Longer than anybody looks at them.
const HOLD: Duration = Duration::from_secs(900);

/// How long a process may take to come to rest once everybody is there.
const REST: Duration = Duration::from_secs(2);

/// Users who are connected, in a process of their own. They leave when this is dropped.
pub(crate) struct Crowd {
    generator: Process,
}

impl Crowd {
    /// Connections that each subscribe to a room with one other, and say nothing. They are coming when
    /// this returns.
    pub(crate) fn gather(stage: &Stage, system: &System, users: u32, more: &[String]) -> Self {
        let ask = Ask::new("idle", HOLD)
            .with("--connections", users)
            .with("--room-size", 2)
            .with("--connect-timeout", "120s")
            .with("--hold", format_args!("{}s", HOLD.as_secs()));
        let mut args = ask.args(system);
        args.push("--subscribe".to_owned());
        args.extend_from_slice(more);
        Self {
            generator: Process::spawn_at(&stage.own, &args),
        }
    }

    /// Waits until these processes have so many descriptors together.
    ///
    /// # Errors
    /// [`Broken`] where they do not within `limit`, or the crowd has broken up.
    pub(crate) async fn arrived(
        &mut self,
        stage: &Stage,
        pids: &[u32],
        descriptors: u64,
        limit: Duration,
    ) -> Result<(), Broken> {
        let deadline = Instant::now() + limit;
        while held(pids) < descriptors {
            stage.go_on()?;
            if !self.generator.runs() {
                let output = self.generator.output();
                let last = output.lines().last().unwrap_or("it said nothing");
                return Err(Broken::Failed(format!("the crowd broke up: {last}")));
            }
            if Instant::now() > deadline {
                let line = format!("{} of {descriptors} descriptors in time", held(pids));
                return Err(Broken::Failed(line));
            }
            sleep(LOOK).await;
        }
        sleep(REST).await;
        Ok(())
    }

    /// Sends everybody away at once, and waits until these processes have so few descriptors.
    ///
    /// # Errors
    /// [`Broken`] where they keep them for longer than `limit`.
    pub(crate) async fn leave(
        mut self,
        stage: &Stage,
        pids: &[u32],
        descriptors: u64,
        limit: Duration,
    ) -> Result<(), Broken> {
        if self.generator.runs() {
            self.generator.kill().await;
        }
        let deadline = Instant::now() + limit;
        while held(pids) > descriptors {
            stage.go_on()?;
            if Instant::now() > deadline {
                let line = format!("{} descriptors are kept", held(pids));
                return Err(Broken::Failed(line));
            }
            sleep(LOOK).await;
        }
        sleep(REST).await;
        Ok(())
    }

    /// The generator's process.
    pub(crate) fn pid(&self) -> u32 {
        self.generator.pid()
    }
}

/// The descriptors that these processes have open together.
pub(crate) fn held(pids: &[u32]) -> u64 {
    let each = pids.iter().map(|pid| process::descriptors(*pid));
    each.map(Result::unwrap_or_default).sum()
}

/// What these processes have in memory together, in octets.
pub(crate) fn resident(pids: &[u32]) -> f64 {
    let each = pids.iter().map(|pid| process::exact(*pid));
    let sum: u64 = each.map(|both| both.map_or(0, |(rss, _)| rss)).sum();
    sum as f64
}

/// The CPU time that these processes have used together, in seconds.
pub(crate) fn used(pids: &[u32]) -> f64 {
    let each = pids.iter().map(|pid| process::cpu(*pid));
    each.map(|used| used.unwrap_or_default().as_secs_f64())
        .sum()
}
