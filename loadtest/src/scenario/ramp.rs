//! `loadtest ramp`: the highest rate that keeps a bound.

use std::sync::Arc;

use shared::exit::Failure;

use super::{asked, field, fill, load, prefix, watch};
use crate::config::{Of, RampArgs};
use crate::field::Field;
use crate::play::{Manner, play};
use crate::progress::Progress;
use crate::report::{Latency, Load, Report, Step, StepPlot, Unit};

/// Messages that may be outstanding at a step's end, in seconds of its rate: what comes in a second will
/// never keep a bound that anybody asks for.
const BACKLOG: f64 = 0.5;

/// A step is given up once so many seconds of its deliveries are outstanding.
const HOPELESS: f64 = 3.0;

/// Raises the rate step by step until one does not keep the bound, and then halves what lies between. The
/// report is that of the best step.
///
/// # Errors
/// [`Failure`] when it could not be run.
pub(crate) async fn run(args: &RampArgs) -> Result<Report, Failure> {
    let RampArgs {
        target,
        crowd,
        output,
        ..
    } = args;
    let (number, prefix) = prefix();
    let field = field(target, crowd, &prefix)?;
    if args.of == Of::Receipt && !field.target.has_receipts() {
        let line = "--of receipt: this server is not asked for receipts";
        return Err(Failure::Config(line.into()));
    }
    let progress = Progress::new(output.progress, output.quiet);
    let connect = field.open(&progress).await?;
    let (mut best, mut steps) = (None, Vec::new());
    let (mut kept, mut missed) = (0.0, f64::INFINITY);
    let mut rate = args.start.min(args.most);
    let mut limit = None;
    loop {
        let number = number.wrapping_add(1 + steps.len() as u32);
        let (report, step) = attempt(args, &field, number, rate, &progress).await?;
        progress.show(&said(&step));
        match step.ok {
            true => {
                kept = rate;
                best = Some(report);
            }
            false => {
                missed = rate;
                limit = Some(report);
            }
        }
        steps.push(step);
        if field.open_count() < field.house.seats.len() || kept >= args.most {
            break;
        }
        rate = match missed.is_finite() {
            false => (rate * args.factor).min(args.most),
            true if missed - kept <= args.precision * missed => break,
            true if kept > 0.0 => (missed + kept) / 2.0,
            true if missed <= 1.0 => break,
            true => missed / 2.0,
        };
    }
    let cut_off = field.cut_off();
    field.leave().await;
    let found = best.is_some();
    let mut report = best
        .or(limit)
        .unwrap_or_else(|| Report::new("ramp", Load::default()));
    let generator = steps.iter().filter(|step| !step.ok);
    let generator = generator.filter(|step| step.value("generator decided") == Some(1.0));
    let generator = generator
        .filter(|step| step.value("rate") == Some(missed))
        .count();
    let what = match args.of {
        Of::Receive => "send to receive",
        Of::Receipt => "send to receipt",
    };
    let line = format!(
        "{kept:.0} messages a second is the highest rate that keeps p99 {:?} from {what}{}",
        args.p99,
        match (missed.is_finite(), generator > 0) {
            (_, true) => "; the generator, and not the server, was the bottleneck beyond",
            (true, false) => "",
            (false, false) => ", and the most that was tried",
        },
    );
    report.notes.insert(0, line);
    if !found {
        report
            .wrong
            .push(format!("no rate keeps p99 {:?} from {what}", args.p99));
    }
    report.connect_us = Latency::of(&connect);
    report.cut_off = cut_off;
    report.steps = steps;
    report.steps_plot = Some(StepPlot {
        x: Some("rate".to_owned()),
        y: vec![format!("{what} p99")],
        bound: Some(args.p99.as_micros() as f64),
    });
    report.judge();
    Ok(report)
}

async fn attempt(
    args: &RampArgs,
    field: &Arc<Field>,
    number: u32,
    rate: f64,
    progress: &Progress,
) -> Result<(Report, Step), Failure> {
    let crowd = &args.crowd;
    let mut watch = watch(&args.output)?;
    let run = load(field, crowd, rate, args.step, number);
    let owed = field.house.sizes.iter().sum::<usize>() as f64 / field.house.sizes.len() as f64;
    let manner = Manner {
        settle: crowd.settle,
        interval: args.output.interval,
        receipt_after: crowd.receipt_after,
        hopeless: Some((HOPELESS * rate * (owed + 1.0)) as u64),
    };
    let played = play(field, &run, manner, &mut watch, progress).await?;
    let sending = (args.step.as_secs_f64() / args.output.interval.as_secs_f64()) as usize;
    let intervals = played.backlogs.len().min(sending.max(1));
    let backlog = played.backlogs[..intervals].last().copied();
    let backlog = backlog.unwrap_or_default();
    let load = Load {
        rate,
        messages: run.schedule.messages as u64,
        duration_seconds: args.step.as_secs_f64(),
        ..asked(field, crowd, &field.house.prefix)
    };
    let mut report = Report::new("ramp", load);
    report.target.clone_from(&args.output.name);
    report.notes = field.target.checks.omitted();
    fill(&mut report, &run, played);
    let measured = match args.of {
        Of::Receive => &report.send_to_receive_us,
        Of::Receipt => &report.send_to_receipt_us,
    };
    let is_whole = report.faults.is_clean() && report.sent == report.load.messages;
    let is_fast = measured.p99 <= args.p99.as_micros() as u64;
    let is_even = (backlog as f64) < BACKLOG * rate * (owed + 1.0) + owed + 1.0;
    let decided = report.generator.bottleneck.is_some();
    let mut step = Step::new(format!("{rate:.0}/s"))
        .with("rate", Unit::PerSecond, rate)
        .with("sent", Unit::PerSecond, report.sent_per_second)
        .with("delivered", Unit::PerSecond, report.delivered_per_second)
        .with(
            "send to receive p99",
            Unit::Microseconds,
            report.send_to_receive_us.p99 as f64,
        )
        .with(
            "send to receipt p99",
            Unit::Microseconds,
            report.send_to_receipt_us.p99 as f64,
        )
        .with(
            "lag p99",
            Unit::Microseconds,
            report.generator.lag_us.p99 as f64,
        )
        .with("outstanding", Unit::Count, backlog as f64)
        .with("lost", Unit::Count, report.faults.lost as f64)
        .with(
            "generator decided",
            Unit::Count,
            f64::from(u8::from(decided)),
        );
    step.ok = is_whole && is_fast && is_even;
    let (processes, own, kernel) = watch.close(report.delivered);
    report.processes = processes;
    report.generator.usage = own;
    report.kernel = Some(kernel);
    Ok((report, step))
}

/// A step in a line.
fn said(step: &Step) -> String {
    let of = |name| step.value(name).unwrap_or_default();
    format!(
        "{}: p99 {:.1} ms to receive, {:.1} ms to receipt, {:.0} outstanding, {:.0} delivered/s: {}",
        step.label,
        of("send to receive p99") / 1000.0,
        of("send to receipt p99") / 1000.0,
        of("outstanding"),
        of("delivered"),
        if step.ok { "kept" } else { "not kept" },
    )
}
