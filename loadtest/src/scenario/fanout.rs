//! `loadtest fanout` and `pairs`: connect everybody, send, wait for what is owed, compare with the
//! history.

use shared::exit::Failure;

use super::{asked, field, fill, history, load, prefix, watch};
use crate::config::FanoutArgs;
use crate::play::{Manner, play};
use crate::progress::Progress;
use crate::report::{Latency, Load, Report};

/// Runs the load to its end. One that `forgets` takes no more memory the longer it is, unless its history
/// is to be compared.
///
/// # Errors
/// [`Failure`] when it could not be run. That messages were lost is no error but in the report.
pub(crate) async fn run(args: &FanoutArgs, forgets: bool) -> Result<Report, Failure> {
    let FanoutArgs {
        target,
        crowd,
        output,
        ..
    } = args;
    let (number, prefix) = prefix();
    let field = field(target, crowd, &prefix)?;
    if args.history_check && !field.target.checks.ids {
        let line = "--history-check: only Roomcast's history can be read (--server roomcast)";
        return Err(Failure::Config(line.into()));
    }
    let mut watch = watch(output)?;
    let progress = Progress::new(output.progress, output.quiet);
    let connect = field.open(&progress).await?;
    let run = load(&field, crowd, args.rate, args.duration, number);
    if forgets && !args.history_check {
        run.forget();
    }
    let manner = Manner {
        settle: crowd.settle,
        interval: output.interval,
        receipt_after: crowd.receipt_after,
        hopeless: None,
    };
    let played = play(&field, &run, manner, &mut watch, &progress).await?;
    let cut_off = field.cut_off();
    field.leave().await;
    let found = match args.history_check {
        true => Some(history::compare(&field, &run, crowd.settle).await),
        false => None,
    };
    let load = Load {
        rate: args.rate,
        messages: run.schedule.messages as u64,
        duration_seconds: args.duration.as_secs_f64(),
        ..asked(&field, crowd, &prefix)
    };
    let name = match crowd.room_size {
        Some(2) | None if crowd.rooms.is_none() => "pairs",
        _ => "fanout",
    };
    let mut report = Report::new(name, load);
    report.target.clone_from(&output.name);
    report.connect_us = Latency::of(&connect);
    report.notes = field.target.checks.omitted();
    fill(&mut report, &run, played);
    report.cut_off = cut_off;
    report.history = found;
    let (processes, own, kernel) = watch.close(report.delivered);
    report.processes = processes;
    report.generator.usage = own;
    report.kernel = Some(kernel);
    report.judge();
    Ok(report)
}
