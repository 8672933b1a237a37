//! The figures of runs, and what their loads differ in.

use crate::report::table::Table;
use crate::report::tables::{KINDS, Kind, UNKNOWN, shown};
use crate::report::{Report, Unit, Usage};

/// A row: its name, what it counts, and the figure of each run.
struct Row {
    name: String,
    unit: Unit,
    values: Vec<Option<f64>>,
}

/// The figures of all runs, with a column for how many times the first one's each other run's is.
pub(super) fn side_by_side(runs: &[(String, Report)]) -> Table {
    let columns = runs.iter().map(|(name, _)| column(name));
    let first = runs.first().map_or("", |(name, _)| column(name));
    let heads = columns.enumerate().flat_map(|(at, name)| match at {
        0 => vec![name.to_owned()],
        _ => vec![name.to_owned(), format!("{name}/{first}")],
    });
    let mut table = Table::bare(["figure".to_owned()].into_iter().chain(heads));
    for row in rows(runs) {
        if row.values.iter().all(Option::is_none) {
            continue;
        }
        let base = row.values.first().copied().flatten();
        let cells = row.values.iter().enumerate().flat_map(|(at, value)| {
            let ratio = value.zip(base).filter(|(_, base)| *base != 0.0);
            let ratio = shown(Unit::Ratio, ratio.map(|(value, base)| value / base));
            match at {
                0 => vec![shown(row.unit, *value)],
                _ => vec![shown(row.unit, *value), ratio],
            }
        });
        table.row([row.name].into_iter().chain(cells));
    }
    table
}

/// What of the load and the machine is not the same in all runs. Names are new in each run, and left out.
pub(super) fn differences(runs: &[(String, Report)]) -> Table {
    let heads = runs.iter().map(|(name, _)| column(name));
    let mut table = Table::bare(["of load and machine"].into_iter().chain(heads));
    let all = runs.iter().map(|(_, report)| {
        let rows = report.load_rows().into_iter().chain(report.machine.rows());
        let version = ("loadtest".to_owned(), report.version.clone());
        rows.chain([version]).collect::<Vec<_>>()
    });
    let all = all.collect::<Vec<_>>();
    let mut names = Vec::<&String>::new();
    for (name, _) in all.iter().flatten() {
        if !names.contains(&name) && name != "names begin with" {
            names.push(name);
        }
    }
    for name in names {
        let values = all.iter().map(|rows| {
            let row = rows.iter().find(|(own, _)| own == name);
            row.map_or(UNKNOWN, |(_, value)| value)
        });
        let values = values.collect::<Vec<_>>();
        if values.iter().any(|value| *value != values[0]) {
            table.row([&name[..]].into_iter().chain(values));
        }
    }
    table
}

/// The letter of a run.
fn column(name: &str) -> &str {
    name.split(' ').next().unwrap_or_default()
}

fn rows(runs: &[(String, Report)]) -> Vec<Row> {
    let row = |name: &str, unit: Unit, of: &dyn Fn(&Report) -> Option<f64>| Row {
        name: name.to_owned(),
        unit,
        values: runs.iter().map(|(_, report)| of(report)).collect(),
    };
    let mut rows = vec![
        row("messages sent a second", Unit::PerSecond, &|report| {
            Some(report.sent_per_second)
        }),
        row("deliveries a second", Unit::PerSecond, &|report| {
            Some(report.delivered_per_second)
        }),
    ];
    for Kind { name: kind, of } in KINDS {
        for (at, name) in ["p50", "p99", "p99.9", "max"].into_iter().enumerate() {
            let name = format!("{kind}, {name}");
            rows.push(row(&name, Unit::Microseconds, &|report| {
                let times = of(report);
                let all = [times.p50, times.p99, times.p999, times.max];
                (times.count > 0).then(|| all[at] as f64)
            }));
        }
    }
    let mut names = Vec::<&str>::new();
    for usage in runs.iter().flat_map(|(_, report)| &report.processes) {
        if !names.contains(&&usage.name[..]) {
            names.push(&usage.name);
        }
    }
    for name in names {
        let each = |usage: &Usage| usage.us_per_delivery;
        let peak = |usage: &Usage| usage.rss_peak_bytes.map(|octets| octets as f64);
        rows.push(row(
            &format!("{name}, CPU/delivery"),
            Unit::Microseconds,
            &|report| sum(report, Some(name), each),
        ));
        rows.push(row(
            &format!("{name}, RSS at most"),
            Unit::Bytes,
            &|report| sum(report, Some(name), peak),
        ));
    }
    rows.push(row(
        "all servers, CPU/delivery",
        Unit::Microseconds,
        &|report| sum(report, None, |usage| usage.us_per_delivery),
    ));
    rows.push(row(
        "loadtest, CPU/delivery",
        Unit::Microseconds,
        &|report| report.generator.usage.us_per_delivery,
    ));
    rows
}

/// Of all processes of a name, or of all but the generator; `None` where nothing is known of one, or
/// there is none.
pub(super) fn sum(
    report: &Report,
    name: Option<&str>,
    of: impl Fn(&Usage) -> Option<f64>,
) -> Option<f64> {
    let mut usages = report.processes.iter();
    let named = usages
        .by_ref()
        .filter(|usage| name.is_none_or(|name| usage.name == name));
    let all = named.map(of).collect::<Option<Vec<_>>>()?;
    all.into_iter().reduce(|sum, one| sum + one)
}
