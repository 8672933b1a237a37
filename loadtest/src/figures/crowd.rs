//! Connections that are held, and what they take while they are.

use std::path::PathBuf;
use std::time::Duration;

use harness::Process;
use tokio::time::{Instant, sleep};

use super::stage::{Ask, Broken, Stage};
use super::system::{SERVER, System};
use crate::process;
use crate::report::Report;

/// How often it is looked whether everybody is there, or has left.
const LOOK: Duration = Duration::from_millis(100);

/// Longer than anybody looks at them.
const HOLD: Duration = Duration::from_secs(900);

/// How long processes may take to come to rest once everybody is there, or has left.
pub(crate) const REST: Duration = Duration::from_secs(2);

/// Users who are connected, in a process of their own. They leave when this is dropped.
pub(crate) struct Crowd {
    generator: Process,
    json: PathBuf,
    system: &'static str,
}

impl Crowd {
    /// Connections that each subscribe to a room with one other, and say nothing. They are coming when
    /// this returns. A system has one crowd at a time.
    pub(crate) fn gather(stage: &Stage, system: &System, users: u32, more: &[&str]) -> Self {
        let first = system.pids(SERVER).first().copied().unwrap_or_default();
        let json = stage.folder.path().join(format!("crowd-{first}.json"));
        let ask = Ask::new("idle", HOLD)
            .with("--connections", users)
            .with("--room-size", 2)
            .with("--connect-timeout", "120s")
            .with("--hold", format_args!("{}s", HOLD.as_secs()))
            .with("--rest", "100ms")
            .with("--json", json.display());
        let mut args = ask.args(system);
        args.extend(["--subscribe", "--progress"].map(str::to_owned));
        args.extend(more.iter().map(ToString::to_string));
        Self {
            generator: Process::spawn_at(&stage.own, &args),
            json,
            system: system.name,
        }
    }

    /// Waits until everybody is there and has the receipt of its subscription.
    ///
    /// # Errors
    /// [`Broken`] where that is not so within `limit`, or the crowd has broken up.
    pub(crate) async fn arrived(&mut self, stage: &Stage, limit: Duration) -> Result<(), Broken> {
        let deadline = Instant::now() + limit;
        while !self.generator.output().contains("connected after") {
            if !self.generator.runs() {
                return Err(self.broken("broke up"));
            }
            self.look(stage, deadline).await?;
        }
        Ok(())
    }

    /// Asks everybody to leave, and waits until these processes have so few descriptors. Returns what
    /// the crowd has to say: who was cut off, and how long it took them to come.
    ///
    /// # Errors
    /// [`Broken`] where it takes longer than `limit`, or the crowd had broken up before.
    pub(crate) async fn leave(
        mut self,
        stage: &Stage,
        pids: &[u32],
        descriptors: u64,
        limit: Duration,
    ) -> Result<Report, Broken> {
        let deadline = Instant::now() + limit;
        // One that has ended already has said why.
        if self.generator.runs() {
            self.generator.terminate().await;
        }
        while self.generator.runs() {
            self.look(stage, deadline).await?;
        }
        self.generator.wait().await;
        let text = std::fs::read_to_string(&self.json).unwrap_or_default();
        let report = serde_json::from_str(&text).map_err(|_| self.broken("broke up"))?;
        while held(pids) > descriptors {
            stage.go_on()?;
            if Instant::now() > deadline {
                let line = format!("{} descriptors are kept", held(pids));
                return Err(Broken::Failed(line));
            }
            sleep(LOOK).await;
        }
        Ok(report)
    }

    /// The generator's process.
    pub(crate) fn pid(&self) -> u32 {
        self.generator.pid()
    }

    /// Lets some time pass, unless it is too late.
    async fn look(&self, stage: &Stage, deadline: Instant) -> Result<(), Broken> {
        stage.go_on()?;
        if Instant::now() > deadline {
            return Err(self.broken("takes too long"));
        }
        sleep(LOOK).await;
        Ok(())
    }

    fn broken(&self, what: &str) -> Broken {
        let output = self.generator.output();
        let last = output.lines().last().unwrap_or("it said nothing");
        Broken::Failed(format!("{}: the crowd {what}: {last}", self.system))
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
