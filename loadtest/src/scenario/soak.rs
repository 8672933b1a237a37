//! `loadtest soak`: the same load for long, in which nothing may grow.

use shared::exit::Failure;

use super::fanout;
use crate::config::SoakArgs;
use crate::report::{Interval, Report};

/// Intervals that a trend needs at least.
const LEAST: usize = 6;

/// Runs the load to its end, and looks for growth.
///
/// # Errors
/// [`Failure`] when it could not be run, or is too short to say anything.
pub(crate) async fn run(args: &SoakArgs) -> Result<Report, Failure> {
    let interval = args.load.output.interval;
    let looked_at = args.load.duration.saturating_sub(args.warm_up);
    if looked_at < interval * LEAST as u32 {
        return Err(Failure::Config(format!(
            "soak: --duration has to be at least {LEAST} times --interval longer than --warm-up"
        )));
    }
    let mut report = fanout::run(&args.load, true).await?;
    report.scenario = "soak".to_owned();
    let (from, to) = (args.warm_up.as_secs_f64(), args.load.duration.as_secs_f64());
    // What is shorter than the others is what was waited for at the end.
    let settled = report.series.iter().filter(|it| {
        it.from_seconds >= from && it.from_seconds + it.seconds <= to + interval.as_secs_f64()
    });
    let settled = settled.cloned().collect::<Vec<_>>();
    for (at, usage) in report.processes.iter().enumerate() {
        let memory = settled.iter().filter_map(|it| {
            let rss = it.processes.get(at)?.rss_bytes?;
            Some((it.from_seconds, rss as f64))
        });
        let memory = memory.collect::<Vec<_>>();
        let Some((slope, start)) = trend(&memory) else {
            continue;
        };
        let percent = 100.0 * slope * 3600.0 / start.max(1.0);
        let grown = slope * (to - from) / f64::from(1 << 20);
        report.notes.push(format!(
            "{}'s memory: {percent:+.1} % an hour, {grown:+.2} MiB in all",
            usage.name
        ));
        if percent > args.memory_growth && grown > args.memory_slack {
            report.wrong.push(format!(
                "{}'s memory grows by {percent:.1} % an hour, and may by {} %",
                usage.name, args.memory_growth
            ));
        }
    }
    let third = settled.len() / 3;
    let first = median(&settled[..third]);
    let last = median(&settled[settled.len() - third..]);
    if let (Some(first), Some(last)) = (first, last) {
        let percent = 100.0 * (last as f64 / first.max(1) as f64 - 1.0);
        report.notes.push(format!(
            "p99 from send to receive: {percent:+.0} % from the first third to the last"
        ));
        if percent > args.latency_growth {
            report.wrong.push(format!(
                "p99 from send to receive grew by {percent:.0} %, and may by {} %",
                args.latency_growth
            ));
        }
    }
    report.ok = report.wrong.is_empty();
    Ok(report)
}

/// The slope of the straight line that is nearest to the points, and its height at the first.
fn trend(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let count = points.len() as f64;
    let first = points.first()?.0;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread = points
        .iter()
        .map(|point| (point.0 - x).powi(2))
        .sum::<f64>();
    let shared = points.iter().map(|point| (point.0 - x) * (point.1 - y));
    let slope = (spread > 0.0).then(|| shared.sum::<f64>() / spread)?;
    Some((slope, y + slope * (first - x)))
}

fn median(intervals: &[Interval]) -> Option<u64> {
    let p99 = intervals.iter().filter_map(|it| it.receive_p99_us);
    let mut p99 = p99.collect::<Vec<_>>();
    p99.sort_unstable();
    p99.get(p99.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trend_is_what_remains_of_what_goes_up_and_down() {
        let saw = |at: u32| f64::from(at % 2) * 10.0 - 5.0;
        let points = (0..100).map(|at| (f64::from(at), 1000.0 + 3.0 * f64::from(at) + saw(at)));
        let (slope, start) = trend(&points.collect::<Vec<_>>()).unwrap();
        assert!((slope - 3.0).abs() < 0.05, "{slope}");
        assert!((start - 1000.0).abs() < 3.0, "{start}");
        assert_eq!(trend(&[(1.0, 1.0)]), None);
    }
}
