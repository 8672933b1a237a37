//! `loadtest idle`: hold connections that do nothing, and see what they cost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::exit::Failure;
use shared::shutdown;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{asked, prefix, room_for, watch};
use crate::body::HEAD_BYTES;
use crate::config::{CrowdArgs, IdleArgs};
use crate::crew::Crew;
use crate::field::Field;
use crate::house::{House, Seating};
use crate::play::{Manner, play};
use crate::process::{self, Watch};
use crate::progress::Progress;
use crate::report::{Interval, Latency, Load, Report, Step, StepPlot, Unit};
use crate::tally::histogram;
use crate::target::Target;

/// How long what a burst owes is waited for.
const SETTLE: Duration = Duration::from_secs(30);

/// Opens, holds and closes connections.
///
/// # Errors
/// [`Failure`] when it could not be run.
pub(crate) async fn run(args: &IdleArgs) -> Result<Report, Failure> {
    let IdleArgs { target, output, .. } = args;
    let (number, prefix) = prefix();
    room_for(args.connections as usize)?;
    let seats = Seating::Size(args.room_size).seats(args.connections);
    let (target, names) = Target::open(target, &prefix, seats.len())?;
    let house = House::new(seats, names, std::num::NonZeroUsize::new(1), &prefix);
    let crew = Crew::start(args.target.threads)?;
    let mut watch = watch(output)?;
    let progress = Progress::new(output.progress, output.quiet);
    let field = Arc::new(Field::new(Arc::new(target), house, crew, args.subscribe));
    let crowd = CrowdArgs {
        users: args.connections,
        body_bytes: u32::try_from(args.burst_bytes.as_u64())
            .unwrap_or(u32::MAX)
            .max(HEAD_BYTES),
        settle: SETTLE,
        ..CrowdArgs::default()
    };
    let mut report = Report::new("idle", asked(&field, &crowd, &prefix));
    report.target.clone_from(&output.name);
    let (mut all, began) = (histogram(), Instant::now());
    let stop = shutdown::signal();
    for cycle in 0..args.cycles {
        let before = memory(args);
        let start = Instant::now();
        let times = tokio::select! {
            times = field.open(&progress) => times?,
            () = stop.cancelled() => {
                return Err(Failure::Other("interrupted before all were connected".into()));
            }
        };
        let took = start.elapsed().as_secs_f64();
        progress.show(&format!("{} connected after {took:.1} s", times.len()));
        all += &times;
        if args.burst > 0 {
            burst(
                args,
                &crowd,
                &field,
                number ^ (cycle + 1),
                &mut watch,
                &mut report,
            )
            .await?;
        }
        let cores = hold(
            args,
            &field,
            &mut watch,
            &progress,
            began,
            &mut report,
            &stop,
        )
        .await;
        let held = memory(args);
        report.cut_off = field.cut_off();
        field.leave().await;
        sleep(args.rest).await;
        let after = memory(args);
        let times = Latency::of(&times);
        let mut step = Step::new(format!("cycle {}", cycle + 1))
            .with("connections", Unit::Count, args.connections.into())
            .with("connect p99", Unit::Microseconds, times.p99 as f64);
        for (at, pid) in output.pids.iter().enumerate() {
            let (before, held, after) = (before[at], held[at], after[at]);
            let each = (held - before) / f64::from(args.connections);
            step = step
                .with(&format!("{} each", pid.name), Unit::Bytes, each)
                .with(&format!("{} held", pid.name), Unit::Bytes, held)
                .with(
                    &format!("{} given back", pid.name),
                    Unit::Bytes,
                    held - after,
                )
                .with(&format!("{} after", pid.name), Unit::Bytes, after)
                .with(&format!("{} CPU", pid.name), Unit::Cores, cores[at]);
        }
        let own = output.pids.len();
        let each = (held[own] - before[own]) / f64::from(args.connections);
        step = step.with("loadtest each", Unit::Bytes, each).with(
            "loadtest CPU",
            Unit::Cores,
            cores[own],
        );
        report.steps.push(step);
        if stop.is_cancelled() {
            break;
        }
    }
    if let (Some(pid), true) = (output.pids.first(), args.cycles > 1) {
        report.steps_plot = Some(StepPlot {
            x: None,
            y: vec![format!("{} held", pid.name), format!("{} after", pid.name)],
            bound: None,
        });
    }
    report.connect_us = Latency::of(&all);
    report.notes.extend(field.target.checks.omitted());
    let (processes, own, kernel) = watch.close(report.delivered);
    report.processes = processes;
    report.generator.usage = own;
    report.kernel = Some(kernel);
    let settings = [
        ("hold", format!("{:?}", args.hold)),
        ("cycles", args.cycles.to_string()),
        ("heart-beat ms", field.target.beat_ms().to_string()),
        ("burst", args.burst.to_string()),
    ];
    report.load = Load {
        rooms: if args.subscribe { report.load.rooms } else { 0 },
        settings: settings
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
        ..report.load
    };
    report.judge();
    Ok(report)
}

/// A message from the first member of each room, and another, until all have had `--burst`.
async fn burst(
    args: &IdleArgs,
    crowd: &CrowdArgs,
    field: &Arc<Field>,
    number: u32,
    watch: &mut Watch,
    report: &mut Report,
) -> Result<(), Failure> {
    let rooms = field.house.sizes.len() as f64;
    // All at once, as far as one thread can: within a second.
    let rate = (rooms * f64::from(args.burst)).max(1.0);
    let run = super::load(field, crowd, rate, Duration::from_secs(1), number);
    let manner = Manner {
        settle: crowd.settle,
        interval: args.output.interval,
        receipt_after: None,
        hopeless: None,
    };
    play(field, &run, manner, watch, &Progress::silent()).await?;
    let (faults, notes) = run.close();
    let total = run.total();
    report.sent += total.sent;
    report.delivered += total.delivered;
    report.load.messages += run.schedule.messages as u64;
    report.faults += faults;
    report.notes.extend(notes);
    Ok(())
}

/// Holds all connections until `stop`, at the longest as long as the flags say, and notes what that
/// costs: returns how many cores the processes had busy, this one as the last.
async fn hold(
    args: &IdleArgs,
    field: &Field,
    watch: &mut Watch,
    progress: &Progress,
    began: Instant,
    report: &mut Report,
    stop: &CancellationToken,
) -> Vec<f64> {
    let start = Instant::now();
    let mut seconds = 0.0;
    let mut cores = vec![0.0; args.output.pids.len() + 1];
    watch.sample();
    while start.elapsed() < args.hold && !stop.is_cancelled() {
        let from = began.elapsed().as_secs_f64();
        let looked = Instant::now();
        let left = args.hold.saturating_sub(start.elapsed());
        tokio::select! {
            () = sleep(args.output.interval.min(left)) => {}
            () = stop.cancelled() => {}
        }
        let interval = Interval {
            from_seconds: from,
            seconds: looked.elapsed().as_secs_f64(),
            connections: field.open_count() as u64,
            processes: watch.sample(),
            ..Interval::default()
        };
        seconds += interval.seconds;
        for (sum, sample) in cores.iter_mut().zip(&interval.processes) {
            *sum += sample.cores.unwrap_or_default() * interval.seconds;
        }
        progress.show(&format!(
            "{from:>6.0} s   {} connected",
            interval.connections
        ));
        report.series.push(interval);
    }
    for sum in &mut cores {
        *sum /= seconds.max(f64::MIN_POSITIVE);
    }
    cores
}

/// Resident memory of the processes that the flags name, and of this one.
fn memory(args: &IdleArgs) -> Vec<f64> {
    let pids = args.output.pids.iter().map(|pid| pid.pid);
    let pids = pids.chain([std::process::id()]);
    let resident = |pid| {
        process::exact(pid)
            .map(|(rss, _)| rss)
            .or_else(|_| process::resident(pid))
    };
    pids.map(|pid| resident(pid).unwrap_or_default() as f64)
        .collect()
}
