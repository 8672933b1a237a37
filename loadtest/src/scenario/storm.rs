//! `loadtest storm`: everybody is cut off at once, and comes back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use shared::exit::Failure;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{asked, prefix, room_for, watch};
use crate::config::{CrowdArgs, StormArgs};
use crate::crew::Crew;
use crate::field::{Ear, Field};
use crate::house::{House, Seat, Seating};
use crate::progress::Progress;
use crate::report::{Latency, Load, Report, Step, StepPlot, Unit};
use crate::roll::Roll;
use crate::tally::{histogram, record};
use crate::target::Target;

/// How long what was missed may take to come once everybody is back.
const SETTLE: Duration = Duration::from_secs(30);

/// What became of those who came back.
struct Back {
    /// From the cut until each was subscribed again.
    times: Histogram<u64>,
    /// From when each attempt that got in was due until it was.
    connects: Histogram<u64>,
    /// Attempts that failed, by reason.
    failed: BTreeMap<String, u64>,
    /// Users who were not back in time.
    missing: usize,
}

/// Cuts everybody off, round after round, and lets them come back.
///
/// # Errors
/// [`Failure`] when it could not be run. That somebody did not come back is no error but in the report.
pub(crate) async fn run(args: &StormArgs) -> Result<Report, Failure> {
    let StormArgs { target, output, .. } = args;
    let (number, prefix) = prefix();
    // Those who send to the rooms while nobody is there have a connection, too.
    room_for(args.users as usize + 1)?;
    let seats = Seating::Size(args.room_size).seats(args.users);
    let (target, names) = Target::open(target, &prefix, seats.len())?;
    if args.after && !target.checks.ids {
        let line = "--after: only Roomcast has it (--server roomcast, with receipts)";
        return Err(Failure::Config(line.into()));
    }
    let house = House::new(seats, names, None, &prefix);
    let crew = Crew::start(args.target.threads)?;
    let mut watch = watch(output)?;
    let progress = Progress::new(output.progress, output.quiet);
    let field = Arc::new(Field::new(Arc::new(target), house, crew, true));
    let first = field.open(&progress).await?;
    let roll = match args.after {
        true => Some(Roll::open(&field, number).await?),
        false => None,
    };
    let crowd = CrowdArgs {
        users: args.users,
        ..CrowdArgs::default()
    };
    let mut report = Report::new("storm", asked(&field, &crowd, &prefix));
    report.target.clone_from(&output.name);
    report.notes = field.target.checks.omitted();
    let mut rng = fastrand::Rng::with_seed(args.seed);
    let mut connects = first;
    watch.begin();
    for round in 0..args.rounds {
        if let Some(roll) = &roll {
            field.tell(Arc::clone(roll) as Arc<dyn Ear>);
            roll.send(true).await?;
        }
        progress.show(&format!("round {}: everybody is cut off", round + 1));
        let cut = Instant::now();
        field.cut().await;
        if let Some(roll) = &roll {
            roll.send(false).await?;
        }
        let back = come_back(args, &field, roll.as_ref(), cut, &mut rng).await;
        let (lost, told) = match &roll {
            Some(roll) => roll.settle(SETTLE).await,
            None => (0, 0),
        };
        let times = Latency::of(&back.times);
        let failed = back.failed.values().sum::<u64>();
        let mut step = Step::new(format!("round {}", round + 1))
            .with("back p50", Unit::Microseconds, times.p50 as f64)
            .with("back p99", Unit::Microseconds, times.p99 as f64)
            .with("all back", Unit::Microseconds, times.max as f64)
            .with(
                "connect p99",
                Unit::Microseconds,
                Latency::of(&back.connects).p99 as f64,
            )
            .with("failed attempts", Unit::Count, failed as f64)
            .with("not back", Unit::Count, back.missing as f64);
        if args.after {
            step =
                step.with("lost", Unit::Count, lost as f64)
                    .with("told", Unit::Count, told as f64);
        }
        step.ok = back.missing == 0 && lost == 0;
        progress.show(&format!(
            "round {}: all back after {:.2} s, {failed} attempts failed",
            round + 1,
            times.max as f64 / 1e6,
        ));
        report.steps.push(step);
        report.faults.lost += lost;
        connects += &back.connects;
        for (reason, count) in back.failed {
            report
                .notes
                .push(format!("round {}: {count} × {reason}", round + 1));
        }
        if back.missing > 0 {
            let line = format!(
                "round {}: {} users did not come back",
                round + 1,
                back.missing
            );
            report.wrong.push(line);
            break;
        }
    }
    watch.end();
    if let Some(roll) = &roll {
        report.faults += roll.faults();
    }
    report.cut_off = field.cut_off();
    field.leave().await;
    report.connect_us = Latency::of(&connects);
    report.steps_plot = Some(StepPlot {
        x: None,
        y: vec!["back p50".into(), "back p99".into(), "all back".into()],
        bound: None,
    });
    let (processes, own, kernel) = watch.close(0);
    report.processes = processes;
    report.generator.usage = own;
    report.kernel = Some(kernel);
    let settings = [
        ("jitter", format!("{:?}", args.jitter)),
        (
            "back-off",
            format!("{:?} to {:?}", args.backoff, args.backoff_most),
        ),
        ("rounds", args.rounds.to_string()),
        ("after", args.after.to_string()),
    ];
    report.load = Load {
        settings: settings
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
        ..report.load
    };
    report.judge();
    Ok(report)
}

/// Lets everybody come back, each after its own pause.
async fn come_back(
    args: &StormArgs,
    field: &Arc<Field>,
    roll: Option<&Arc<Roll>>,
    cut: Instant,
    rng: &mut fastrand::Rng,
) -> Back {
    let mut back = Back {
        times: histogram(),
        connects: histogram(),
        failed: BTreeMap::new(),
        missing: 0,
    };
    let mut coming = JoinSet::new();
    for &seat in &field.house.seats {
        let (field, mut rng) = (Arc::clone(field), rng.fork());
        let (roll, args) = (roll.cloned(), args.clone());
        coming.spawn(async move {
            sleep(args.jitter.mul_f64(rng.f64())).await;
            let attempts = persist(&args, &field, roll.as_deref(), seat, &mut rng);
            let left = args.within.saturating_sub(cut.elapsed());
            let entered = timeout(left, attempts).await;
            entered.map(|(took, failed)| (cut.elapsed(), took, failed))
        });
    }
    while let Some(ended) = coming.join_next().await {
        match ended {
            Ok(Ok((since, took, failed))) => {
                record(&mut back.times, since);
                record(&mut back.connects, took);
                for reason in failed {
                    *back.failed.entry(reason).or_default() += 1;
                }
            }
            _ => back.missing += 1,
        }
    }
    back
}

/// Tries until a user is in: how long the last attempt took, and why those before it failed.
async fn persist(
    args: &StormArgs,
    field: &Field,
    roll: Option<&Roll>,
    seat: Seat,
    rng: &mut fastrand::Rng,
) -> (Duration, Vec<String>) {
    let (mut failed, mut pause) = (Vec::new(), args.backoff);
    loop {
        let start = Instant::now();
        let after = roll.and_then(|roll| roll.newest(seat));
        match field.enter(seat, after).await {
            Ok(recovered) => {
                if let Some(roll) = roll {
                    roll.is_back(seat, recovered);
                }
                return (start.elapsed(), failed);
            }
            Err(error) => failed.push(error.to_string()),
        }
        sleep(pause.mul_f64(0.5 + rng.f64() / 2.0)).await;
        pause = (pause * 2).min(args.backoff_most);
    }
}
