//! The kinds of load, and what they have in common.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::exit::Failure;
use uuid::Uuid;

use crate::body::Bodies;
use crate::config::{CrowdArgs, OutputArgs, TargetArgs};
use crate::crew::Crew;
use crate::field::Field;
use crate::house::{House, Seat, Seating};
use crate::play::{HEAD_START, Played};
use crate::process::Watch;
use crate::report::{Generator, LATE, Latency, Load, Report};
use crate::run::Run;
use crate::tally::Window;
use crate::target::Target;
use crate::verdict::{self, Evidence};
use crate::wire;

pub(crate) mod fanout;
mod history;
pub(crate) mod idle;
pub(crate) mod ramp;
pub(crate) mod soak;
pub(crate) mod storm;

/// The prefix of a load's names: new in each, so that an earlier load's messages are not in the rooms.
fn prefix() -> (u32, String) {
    let number = Uuid::new_v4().as_fields().0;
    (number, format!("load-{number:08x}"))
}

/// The rooms of a crowd.
///
/// # Errors
/// [`Failure::Config`] where there are more rooms than users.
fn seats(crowd: &CrowdArgs) -> Result<Vec<Seat>, Failure> {
    let seating = match (crowd.rooms, crowd.room_size) {
        (Some(rooms), _) if rooms > crowd.users => {
            let line = "--rooms: there are more rooms than --users";
            return Err(Failure::Config(line.into()));
        }
        (Some(rooms), _) => Seating::Rooms(rooms),
        (None, size) => Seating::Size(size.unwrap_or(2)),
    };
    Ok(seating.seats(crowd.users))
}

/// Everybody of a crowd, not yet connected.
///
/// # Errors
/// [`Failure`] where a flag is wrong, or this machine cannot hold so many connections.
fn field(args: &TargetArgs, crowd: &CrowdArgs, prefix: &str) -> Result<Arc<Field>, Failure> {
    let seats = seats(crowd)?;
    room_for(seats.len())?;
    let (target, names) = Target::open(args, prefix, seats.len())?;
    let house = House::new(seats, names, crowd.senders, prefix);
    let crew = Crew::start(args.threads)?;
    Ok(Arc::new(Field::new(Arc::new(target), house, crew, true)))
}

/// Makes room for so many connections.
///
/// # Errors
/// [`Failure::Config`] where this process may not have so many descriptors.
fn room_for(connections: usize) -> Result<(), Failure> {
    /// For everything that is no connection.
    const SPARE: u64 = 64;
    match wire::raise_descriptors() {
        Some(limit) if limit < connections as u64 + SPARE => Err(Failure::Config(format!(
            "{connections} connections need more descriptors than the {limit} that this process may \
             have (ulimit -Hn): use several processes"
        ))),
        _ => Ok(()),
    }
}

/// A load on everybody, due soon.
fn load(field: &Field, crowd: &CrowdArgs, rate: f64, duration: Duration, number: u32) -> Arc<Run> {
    let mut rng = fastrand::Rng::with_seed(crowd.seed);
    let bodies = Bodies::new(number, crowd.body_bytes, &mut rng);
    let start = Instant::now() + HEAD_START;
    Arc::new(Run::new(
        Arc::clone(&field.house),
        field.target.checks,
        field.crew().lanes().len(),
        start,
        (rate, duration),
        bodies,
        &mut rng,
    ))
}

/// Watches the processes that the flags name.
///
/// # Errors
/// [`Failure::Other`] where the system gives no thread.
fn watch(output: &OutputArgs) -> Result<Watch, Failure> {
    let pids = output.pids.iter().map(|pid| (pid.name.clone(), pid.pid));
    Watch::start(pids).map_err(|error| Failure::Other(format!("a thread: {error}")))
}

/// What was asked for, of what all loads have.
fn asked(field: &Field, crowd: &CrowdArgs, prefix: &str) -> Load {
    let gateways = field.target.gateways.iter();
    Load {
        gateways: gateways
            .map(|gateway| gateway.as_str().to_owned())
            .collect(),
        sources: field.target.sources.len(),
        users: field.house.seats.len(),
        rooms: field.house.sizes.len(),
        body_bytes: crowd.body_bytes,
        receipt_after: crowd.receipt_after.map(|after| after.as_str().to_owned()),
        seed: crowd.seed,
        prefix: prefix.to_owned(),
        ..Load::default()
    }
}

/// Fills in what a load has shown.
fn fill(report: &mut Report, run: &Run, played: Played) {
    let Window {
        sent,
        delivered,
        sending,
        delivering,
        latencies,
        ..
    } = run.total();
    // The last message takes its share of the time too.
    let share = 1.0 / run.schedule.rate;
    let per_second = |count: u64, time: Duration| count as f64 / (time.as_secs_f64() + share);
    let since = run.start.elapsed().as_millis() as u64;
    report.started_ms = report.started_ms.saturating_sub(since);
    report.sent = sent;
    report.sent_per_second = per_second(sent, sending);
    report.delivered = delivered;
    report.delivered_per_second = per_second(delivered, delivering);
    report.send_to_receive_us = Latency::of(&latencies.receive);
    report.send_to_receipt_us = Latency::of(&latencies.receipt);
    let lag_us = Latency::of(&latencies.lag);
    report.generator = Generator {
        bottleneck: verdict::bottleneck(Evidence {
            lag: &lag_us,
            measured: &report.send_to_receive_us,
            busy: &played.busy,
            rate: (run.schedule.rate, report.sent_per_second),
        }),
        late_sends: latencies.lag.len() - latencies.lag.count_between(0, LATE),
        lag_us,
        usage: std::mem::take(&mut report.generator.usage),
    };
    report.series.extend(played.series);
    let (faults, notes) = run.close();
    report.faults += faults;
    report.notes.extend(notes);
}
