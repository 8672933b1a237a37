//! Plays a scenario: round after round of its fault under load, and the reckoning.

use std::io::{self, Write as _};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::fault::Blow;
use super::figures::Figures;
use super::load::{Gateways, Load, LoadSettings, Longest, Outcome, Recovery};
use super::programs::Programs;
use super::scenario::{Control, Scenario, System};
use super::world::World;

/// How long everything may take to flow again after a fault, and to settle at the end.
const PATIENCE: Duration = Duration::from_secs(60);

/// The same for a control, which may never flow again.
const CONTROL_PATIENCE: Duration = Duration::from_secs(8);

/// How long all is well between two rounds.
const PEACE: Duration = Duration::from_millis(500);

/// What a scenario is played with.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub programs: Programs,
    pub rounds: u32,
    pub seed: u64,
    pub began: Instant,
    pub stop: CancellationToken,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Played {
    /// Of each round.
    pub longest: Vec<Longest>,
    /// Of each round after which all flowed again.
    pub recoveries: Vec<Recovery>,
    pub outcome: Option<Outcome>,
    /// What else is worth telling.
    pub notes: Vec<String>,
    /// Why it is worth nothing, though there may be no debt.
    pub broken: Option<String>,
}

impl Stage {
    /// Plays a scenario, or a control of it, to its end or to the first round in which not all
    /// flows again. What cannot be started, or does not do as it is told, is in `broken`.
    pub(crate) async fn play(
        &self,
        scenario: &'static Scenario,
        control: Option<&'static Control>,
        logs: &Path,
    ) -> Played {
        // The harness panics with what the reader of a failed test needs to know. All that it had
        // started has ended then, so nothing half done is seen again.
        let rounds = AssertUnwindSafe(self.rounds(scenario, control, logs));
        let broken = match rounds.catch_unwind().await {
            Ok(Ok(played)) => return played,
            Ok(Err(reason)) => reason,
            Err(panic) => match panic.downcast::<String>() {
                Ok(text) => *text,
                Err(panic) => panic
                    .downcast::<&str>()
                    .map_or_else(|_| "it panicked".into(), |text| text.to_string()),
            },
        };
        Played {
            broken: Some(broken),
            ..Played::default()
        }
    }

    async fn rounds(
        &self,
        scenario: &'static Scenario,
        control: Option<&'static Control>,
        logs: &Path,
    ) -> Result<Played, String> {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let started = World::start(scenario, control, &self.programs, logs).await;
        let mut world = started.map_err(|error| format!("it could not be started: {error}"))?;
        let settings = self.load(scenario, control);
        let gateways = Gateways::new(world.clients().to_vec());
        let load = Load::start(gateways, settings).await;
        let load = load.map_err(|error| format!("the load could not be started: {error}"))?;
        let measuring = CancellationToken::new();
        let figures = world
            .urls()
            .filter(|_| scenario.measured)
            .map(|(redis, mongo)| tokio::spawn(Figures::gather(redis, mongo, measuring.clone())));
        let patience = match control {
            Some(_) => CONTROL_PATIENCE,
            None => PATIENCE,
        };
        let mut played = Played::default();
        let mut deck = Vec::new();
        let mut witnessed = scenario.witness.is_none();
        load.longest();
        for round in 1..=self.rounds {
            if self.stop.is_cancelled() {
                break;
            }
            let blow = Blow::choose(scenario.faults, &mut deck, round, &mut random);
            let what = blow.inflict(&mut world).await;
            if blow.is_over() {
                load.watch();
            }
            let longer = (scenario.hold / 2).min(Duration::from_secs(1));
            let hold = scenario.hold + longer.mul_f64(random.f64());
            // Whoever interrupts need not wait for that.
            timeout(hold, self.stop.cancelled()).await.ok();
            if let Some(witness) = scenario.witness.filter(|_| !witnessed) {
                witnessed = world.counted(witness).await > 0.0;
            }
            if !blow.is_over() {
                load.watch();
            }
            blow.end(&mut world).await;
            let flowing = load.flowing(patience).await;
            played.longest.push(load.longest());
            let then = match &flowing {
                Ok(recovery) => format!(
                    "deliveries after {:.2} s, receipts {:.2} s, stores {:.2} s",
                    recovery.deliveries.as_secs_f64(),
                    recovery.receipts.as_secs_f64(),
                    recovery.stores.as_secs_f64()
                ),
                Err(stuck) => format!("not all flows again: {stuck}"),
            };
            // Where nobody reads it, the rounds go on.
            let _ = writeln!(
                io::stderr(),
                "{:>7.1} s  {} {round}/{}: {what}; {then}",
                self.began.elapsed().as_secs_f64(),
                scenario.name,
                self.rounds
            );
            match flowing {
                Ok(recovery) => played.recoveries.push(recovery),
                Err(stuck) => {
                    played.broken = Some(format!("after round {round}: {stuck}"));
                    break;
                }
            }
            if let Some(words) = world.last_words() {
                played.broken = Some(words);
                break;
            }
            sleep(PEACE).await;
        }
        if let Some(witness) = scenario.witness.filter(|_| !witnessed) {
            witnessed = world.counted(witness).await > 0.0;
            if !witnessed && played.broken.is_none() {
                played.broken = Some(format!("the fault had no effect: no {witness}"));
            }
        }
        let settled = load.settle(patience).await;
        let mut outcome = settled
            .close(patience, async { Some(world.archive().await) })
            .await;
        if !scenario.may_tell() {
            outcome.owe_what_was_told();
        }
        played.outcome = Some(outcome);
        measuring.cancel();
        if let Some(figures) = figures {
            let figures = figures.await.map_err(|error| error.to_string())?;
            played.notes.push(figures.to_string());
        }
        Ok(played)
    }

    fn load(&self, scenario: &Scenario, control: Option<&Control>) -> LoadSettings {
        let mut settings = LoadSettings {
            rooms: 6,
            members: 4,
            senders: 2,
            rate: 200.0,
            stored: 0.3,
            body_bytes: 200,
            seed: self.seed,
            ..LoadSettings::default()
        };
        if scenario.system == System::Cluster {
            // Every shard has its rooms.
            settings.rooms = 12;
        }
        (scenario.load)(&mut settings);
        if let Some(control) = control {
            (control.load)(&mut settings);
        }
        settings
    }
}
