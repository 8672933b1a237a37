//! Plays one kind of attack: peace, the attack, and what is left of it.

use std::io::{self, Write as _};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use shared::exit::Failure;
use shared::stomp::{Command, Frame};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::honest::Honest;
use super::kind::Kind;
use super::row::{Cpu, Descriptors, Memory, Row};
use super::script;
use super::swarm::{Orders, Swarm, Tally};
use super::target::Target;
use super::vitals::Vitals;
use crate::chaos::programs::Programs;
use crate::config::{AttackArgs, GatewayUrl};
use crate::connection::{ClientError, Connection};
use crate::pass::Pass;

/// How often a line says how far it has come.
const PROGRESS: Duration = Duration::from_secs(2);

/// How long hostile connections may take to be opened.
const OPENING: Duration = Duration::from_secs(300);

/// How often it is looked whether memory is given back, and for how long it must have gone on no
/// further.
const LOOKS: Duration = Duration::from_millis(250);
const STEADY: Duration = Duration::from_secs(2);

/// Descriptors that come and go with honest newcomers, and the gateway's connections to its store, of
/// which it keeps 32 once it has needed them.
const FEW_DESCRIPTORS: u64 = 64;

/// Deliveries a second in the busy room, about, and the messages that it has at most.
const DELIVERIES: u32 = 20_000;
const MESSAGES: u32 = 50;

/// Octets of a message in the busy room.
const LOUD: usize = 4096;

/// A message that the generator sent so much later than it was due makes its figures doubtful, in
/// microseconds.
const LAG: u64 = 20_000;

/// What attacks are played with.
pub(super) struct Stage<'a> {
    pub(super) args: &'a AttackArgs,
    pub(super) programs: Option<Programs>,
    /// How honest users get into a server that is given.
    pub(super) pass: Pass,
    pub(super) began: Instant,
    pub(super) stop: CancellationToken,
}

impl Stage<'_> {
    /// Plays an attack to its end. What cannot be started is in `broken`.
    pub(super) async fn row(&self, kind: Kind) -> Row {
        let mut row = Row::new(kind, kind.connections(self.args.connections));
        // The harness panics with what the reader of a failed test needs to know. All that it had
        // started has ended then.
        let played = AssertUnwindSafe(self.play(kind, &mut row))
            .catch_unwind()
            .await;
        match played {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => row.broken = Some(failure.to_string()),
            Err(panic) => {
                let text = panic.downcast::<String>().map(|text| *text);
                row.broken = Some(text.unwrap_or_else(|_| "it panicked".to_owned()));
            }
        }
        row
    }

    async fn play(&self, kind: Kind, row: &mut Row) -> Result<(), Failure> {
        let args = self.args;
        let mut target = match (&args.url, &self.programs) {
            (Some(url), _) => Target::given(url, args.pid, self.pass.clone()).await?,
            (None, Some(programs)) => Target::start(kind, args, programs).await?,
            (None, None) => return Err(Failure::Config("--url: there is no server".into())),
        };
        let prefix = format!("attack-{:08x}", Uuid::new_v4().as_fields().0);
        let vitals = target.pid.map(Vitals::watch).transpose();
        let vitals = vitals.map_err(|error| Failure::Config(format!("--pid: {error}")))?;
        let mut honest = match args.honest {
            0 => None,
            users => {
                let rate = args.honest_rate;
                let (gateway, pass) = (&target.gateway, &target.pass);
                Some(Honest::start(gateway, pass, users, rate, args.seed, &prefix).await?)
            }
        };
        let peace_began = (Instant::now(), vitals.as_ref().and_then(Vitals::cpu));
        self.say(kind, "peace");
        self.pause(args.peace).await;
        row.peace = honest.as_mut().map(Honest::seen);
        let before = vitals.as_ref().map(Vitals::memory).unwrap_or_default();
        let descriptors = vitals.as_ref().and_then(Vitals::descriptors);
        let attack_began = (Instant::now(), vitals.as_ref().and_then(Vitals::cpu));

        let stage = script::Stage {
            prefix,
            tokens: std::mem::take(&mut target.bad_tokens),
        };
        let room = stage.busy_room();
        let speaker = match kind {
            Kind::SlowReader => {
                let speaking = speak(
                    target.gateway.clone(),
                    target.pass.clone(),
                    room,
                    args.connections,
                );
                Some(tokio::spawn(speaking))
            }
            _ => None,
        };
        let orders = Orders {
            kind,
            target: target.address,
            connections: row.wanted as usize,
            comebacks: args.comebacks,
            stage,
        };
        let swarm = Swarm::start(orders);
        let swarm = swarm.map_err(|error| Failure::Other(format!("a thread: {error}")))?;
        let opening = timeout(OPENING, swarm.begun());
        if self
            .reporting(kind, "opening", &swarm, opening)
            .await
            .is_err()
        {
            row.limited = Some("not all connections could be opened in 5 minutes".into());
        }
        let held = Instant::now();
        let holding = self.pause(args.hold);
        self.reporting(kind, "holding", &swarm, holding).await;
        row.attacked = honest.as_mut().map(Honest::seen);
        let released = (Instant::now(), vitals.as_ref().and_then(Vitals::cpu));
        let during = vitals.as_ref().and_then(Vitals::descriptors);
        row.hostile = swarm.release().await;
        if let Some(speaker) = speaker {
            speaker.abort();
        }
        self.say(kind, "released");
        if let Some(vitals) = &vitals {
            let peak = vitals.peak(attack_began.0);
            let kept = (peak.saturating_sub(before) / 2).max(args.may_keep.as_u64());
            let bound = before + kept;
            let most = descriptors.unwrap_or_default() + FEW_DESCRIPTORS;
            row.memory = Some(Memory {
                before,
                peak,
                plateau: vitals.median(held),
                after: self.settled(vitals, bound, most).await,
                bound,
            });
            row.descriptors = descriptors.map(|before| Descriptors {
                before,
                during: during.unwrap_or_default(),
                after: vitals.descriptors().unwrap_or_default(),
                bound: most,
            });
            if let (Some(peace), Some(attacked)) = (
                cores(peace_began, attack_began),
                cores(attack_began, released),
            ) {
                row.cpu = Some(Cpu { peace, attacked });
            }
        }
        if let Some(honest) = honest {
            let (faults, cut_off) = honest.finish(args.settle).await;
            (row.faults, row.cut_off) = (faults, cut_off);
        }
        let is_alive = target.is_alive() && vitals.as_ref().is_none_or(Vitals::is_alive);
        row.died = match target.panic() {
            Some(panic) => Some(format!("the server panicked: {panic}")),
            None if !is_alive => Some("the server has ended".to_owned()),
            None => None,
        };
        row.limited = row.limited.take().or_else(|| limit(row));
        if let Some(folder) = &args.keep_logs {
            target.save_log(&folder.join(format!("{}.log", kind.name())));
        }
        Ok(())
    }

    /// Waits until the server has given back what it does, and gives what is left.
    async fn settled(&self, vitals: &Vitals, bound: u64, descriptors: u64) -> u64 {
        let end = Instant::now() + self.args.settle;
        let (mut least, mut since) = (u64::MAX, Instant::now());
        loop {
            let now = vitals.memory();
            // Less by a hundredth is not steady yet.
            if now < least - least / 100 {
                (least, since) = (now, Instant::now());
            }
            let is_back = now <= bound && vitals.descriptors().is_none_or(|all| all <= descriptors);
            let is_steady = since.elapsed() >= STEADY;
            if (is_back && is_steady) || Instant::now() >= end || self.stop.is_cancelled() {
                return now;
            }
            sleep(LOOKS).await;
        }
    }

    /// Waits, with a line on it now and then.
    async fn reporting<T>(
        &self,
        kind: Kind,
        what: &str,
        swarm: &Swarm,
        wait: impl Future<Output = T>,
    ) -> T {
        let mut wait = std::pin::pin!(wait);
        loop {
            if let Ok(done) = timeout(PROGRESS, wait.as_mut()).await {
                return done;
            }
            let Tally {
                opened, open, ends, ..
            } = swarm.tally();
            let ended = ends.values().map(|end| end.count).sum::<u64>();
            self.say(
                kind,
                &format!("{what}: {opened} opened, {open} are open, the server ended {ended}"),
            );
        }
    }

    /// Waits, unless somebody interrupts.
    async fn pause(&self, time: Duration) {
        timeout(time, self.stop.cancelled()).await.ok();
    }

    fn say(&self, kind: Kind, what: &str) {
        let elapsed = self.began.elapsed().as_secs_f64();
        // Where nobody reads it, the attack goes on.
        let _ = writeln!(io::stderr(), "{elapsed:>7.1} s  {}: {what}", kind.name());
    }
}

/// Cores that were busy between two times.
fn cores(from: (Instant, Option<Duration>), to: (Instant, Option<Duration>)) -> Option<f64> {
    let used = to.1?.checked_sub(from.1?)?;
    Some(used.as_secs_f64() / (to.0 - from.0).as_secs_f64().max(0.001))
}

/// What limited the attack, instead of the server.
fn limit(row: &Row) -> Option<String> {
    // "Too many open files", and no port that is free.
    let own = |why: &&String| why.contains("os error 24") || why.contains("os error 99");
    if let Some(why) = row.hostile.refused.keys().find(own) {
        return Some(why.clone());
    }
    let lag = row.attacked.as_ref()?.generator_lag_us.p99;
    (lag > LAG).then(|| {
        format!(
            "1 % of the honest messages were sent more than {} ms late, for want of CPU time",
            lag / 1000
        )
    })
}

/// Speaks in a room of so many members, until it is aborted.
async fn speak(
    gateway: GatewayUrl,
    pass: Pass,
    room: String,
    members: u32,
) -> Result<(), ClientError> {
    let mut connection = Connection::dial(&gateway, &pass, None).await?;
    connection.connect("speaker", &pass, Duration::ZERO).await?;
    let rate = (DELIVERIES / members.max(1)).clamp(1, MESSAGES);
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let send = Frame::new(Command::Send)
        .with("destination", &format!("/app/rooms/{room}"))
        .with_body("x".repeat(LOUD));
    loop {
        tokio::select! {
            _ = ticks.tick() => connection.queue(&send)?,
            decoded = connection.next() => drop(decoded?),
        }
    }
}
