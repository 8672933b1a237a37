//! The charts of reports.

use crate::report::chart::{Axis, Chart, Line};
use crate::report::series::Interval;
use crate::report::unit::Unit;
use crate::report::{Latency, Report};

/// From so many deliveries for each message on, both are on a logarithmic axis.
const FAN: f64 = 20.0;

/// Latencies over their quantiles, all of a run.
pub(super) fn distribution(report: &Report) -> Chart {
    distributions("Distribution of latencies", report.latencies())
}

/// Latencies over their quantiles.
pub(in crate::report) fn distributions<'a>(
    title: &str,
    all: impl IntoIterator<Item = (impl Into<String>, &'a Latency)>,
) -> Chart {
    let x = Axis::tail("so many of them are at most as late");
    let y = Axis::log("latency", Unit::Microseconds);
    let mut chart = Chart::new(title, x, y);
    for (name, times) in all {
        // The greatest stands where the last of so many is.
        let tail = |quantile: f64| (1.0 / (1.0 - quantile)).min(times.count as f64);
        let points = times.curve.iter();
        let points = points.map(|(quantile, time)| (tail(*quantile), *time as f64));
        chart.lines.push(Line::new(name, points.collect()));
    }
    chart
}

/// How a run went on: throughput, latencies, CPU and memory, and the connections where they changed.
pub(super) fn over_time(report: &Report) -> Vec<Chart> {
    let series = &report.series;
    let line =
        |name: &str, of: &dyn Fn(&Interval) -> Option<f64>| Line::new(name, values(series, of));
    let rate = |count: u64, interval: &Interval| Some(count as f64 / interval.seconds);
    let is_fan = report.delivered as f64 >= FAN * report.sent.max(1) as f64;
    let rates = match is_fan {
        true => Axis::log("a second", Unit::PerSecond),
        false => Axis::linear("a second", Unit::PerSecond),
    };
    let throughput = Chart::new("Throughput", time(), rates)
        .with(line("deliveries", &|at| rate(at.delivered, at)))
        .with(line("messages sent", &|at| rate(at.sent, at)));
    let latencies = Axis::log("latency", Unit::Microseconds);
    let mut latency = Chart::new("Latency", time(), latencies);
    let mut add = |name: &str, of: &dyn Fn(&Interval) -> Option<u64>| {
        let points = values(series, &|at| of(at).map(|time| time as f64));
        // What was never measured needs no place in the legend.
        if points.iter().any(|point| point.1.is_finite()) {
            latency.lines.push(Line::new(name, points));
        }
    };
    add("receive p50", &|at| at.receive_p50_us);
    add("receive p99", &|at| at.receive_p99_us);
    add("receive max", &|at| at.receive_max_us);
    add("receipt p99", &|at| at.receipt_p99_us);
    add("generator's lag p99", &|at| at.lag_p99_us);
    let cores = Axis::linear("cores busy", Unit::Cores);
    let mut cpu = Chart::new("CPU", time(), cores);
    let resident = Axis::linear("resident memory", Unit::Bytes);
    let mut memory = Chart::new("Memory", time(), resident);
    let names = report.processes.iter().map(|usage| &usage.name[..]);
    for (process, name) in names.chain(["loadtest"]).enumerate() {
        let of = |at: &Interval| at.processes.get(process).copied();
        cpu.lines.push(line(name, &|at| of(at)?.cores));
        memory
            .lines
            .push(line(name, &|at| Some(of(at)?.rss_bytes? as f64)));
    }
    let mut charts = vec![throughput, latency, cpu, memory];
    let open = series.iter().map(|interval| interval.connections);
    if open.clone().min() != open.max() {
        let axis = Axis::linear("open connections", Unit::Count);
        let open = line("connections", &|at| Some(at.connections as f64));
        charts.push(Chart::new("Connections", time(), axis).with(open));
    }
    charts
}

/// A figure of several runs over time.
pub(in crate::report) fn runs_over_time(
    title: &str,
    axis: Axis,
    runs: &[(String, &Report)],
    of: &dyn Fn(&Interval) -> Option<f64>,
) -> Chart {
    let mut chart = Chart::new(title, time(), axis);
    for (name, report) in runs {
        let points = values(&report.series, of);
        chart.lines.push(Line::new(name, points));
    }
    chart
}

/// The figures of the steps that the scenario wants plotted, with their bound.
pub(super) fn steps(report: &Report) -> Option<Chart> {
    let plot = report.steps_plot.as_ref()?;
    let unit = |name: &str| {
        let mut figures = report.steps.iter().flat_map(|step| &step.figures);
        let figure = figures.find(|figure| figure.name == name);
        figure.map_or(Unit::Count, |figure| figure.unit)
    };
    let x = match &plot.x {
        Some(name) => Axis::linear(name, unit(name)),
        None => Axis::linear("step", Unit::Count),
    };
    let vertical = unit(plot.y.first()?);
    let y = match vertical {
        Unit::Microseconds => Axis::log(&plot.y.join(", "), vertical),
        _ => Axis::linear(&plot.y.join(", "), vertical),
    };
    let mut chart = Chart::new("Steps", x, y);
    for name in &plot.y {
        let points = report.steps.iter().enumerate().map(|(at, step)| {
            let x = match &plot.x {
                Some(name) => step.value(name),
                None => Some(at as f64 + 1.0),
            };
            (x.unwrap_or(f64::NAN), step.value(name).unwrap_or(f64::NAN))
        });
        let mut points = points.collect::<Vec<_>>();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        chart.lines.push(Line::new(name, points));
    }
    let bound = plot
        .bound
        .map(|bound| (format!("bound: {}", vertical.show(bound)), bound));
    chart.bounds.extend(bound);
    Some(chart)
}

fn time() -> Axis {
    Axis::linear("time since the load began", Unit::Seconds)
}

/// A figure at the end of each interval.
fn values(series: &[Interval], of: &dyn Fn(&Interval) -> Option<f64>) -> Vec<(f64, f64)> {
    let point = |at: &Interval| (at.from_seconds + at.seconds, of(at).unwrap_or(f64::NAN));
    series.iter().map(point).collect()
}
