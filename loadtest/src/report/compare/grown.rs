//! How cost grows from run to run.

use clap::ValueEnum;

use super::figures::sum;
use crate::config::Parameter;
use crate::report::chart::Chart;
use crate::report::table::Table;
use crate::report::tables::UNKNOWN;
use crate::report::{Growth, Report, Unit};

/// Fewer runs are no series, unless somebody says so.
const SERIES: usize = 3;

/// What grows with the parameter that is asked for, or with the first that is another in each run. What no
/// run has measured is left out, and everything where no parameter grows.
pub(super) fn growths(reports: &[Report], over: Option<Parameter>) -> Vec<Growth> {
    let values = |parameter: Parameter| {
        let mut values = reports
            .iter()
            .map(|report| parameter.of(report))
            .collect::<Vec<_>>();
        values.sort_by(f64::total_cmp);
        values.dedup();
        values.len()
    };
    let grows = |parameter: &Parameter| values(*parameter) == reports.len();
    let parameter = match over {
        Some(parameter) => Some(parameter).filter(|parameter| values(*parameter) > 1),
        None if reports.len() < SERIES => None,
        None => Parameter::value_variants().iter().copied().find(grows),
    };
    let Some(parameter) = parameter else {
        return Vec::new();
    };
    let cores = |report: &Report| sum(report, None, |usage| usage.cores);
    let each = |report: &Report| sum(report, None, |usage| usage.us_per_delivery);
    let memory = |report: &Report| {
        sum(report, None, |usage| {
            usage.rss_peak_bytes.map(|octets| octets as f64)
        })
    };
    let late = |report: &Report| {
        let times = &report.send_to_receive_us;
        (times.count > 0).then_some(times.p99 as f64)
    };
    let growth = |name: &str, unit: Unit, of: &dyn Fn(&Report) -> Option<f64>| {
        let cost = |report| Some((parameter.of(report), of(report)?));
        let points = reports.iter().filter_map(cost).collect();
        Growth::fit(name, parameter.name(), unit, points)
    };
    let growths = [
        growth("CPU of all servers, cores", Unit::Cores, &cores),
        growth(
            "CPU of all servers for each delivery",
            Unit::Microseconds,
            &each,
        ),
        growth("memory of all servers", Unit::Bytes, &memory),
        growth("send → receive, p99", Unit::Microseconds, &late),
    ];
    let growths = growths.into_iter();
    growths.filter(|growth| !growth.points.is_empty()).collect()
}

/// A row for each cost, with the exponent.
pub(super) fn table(growths: &[Growth]) -> Table {
    let mut parameters = growths.iter().flat_map(|growth| &growth.points);
    let mut values = parameters.by_ref().map(|point| point.0).collect::<Vec<_>>();
    values.sort_by(f64::total_cmp);
    values.dedup();
    let name = growths.first().map_or("", |growth| &growth.parameter);
    let heads = values.iter().map(|value| Unit::Count.show(*value));
    let heads = [format!("cost over {name}")].into_iter().chain(heads);
    let mut table = Table::bare(heads.chain(["exponent".to_owned()]));
    for growth in growths {
        let cells = values.iter().map(|value| {
            let point = growth.points.iter().find(|point| point.0 == *value);
            point.map_or(UNKNOWN.to_owned(), |point| growth.unit.show(point.1))
        });
        let exponent = growth.exponent.map(|exponent| format!("{exponent:.2}"));
        let cells = [growth.name.clone()].into_iter().chain(cells);
        table.row(cells.chain([exponent.unwrap_or_else(|| UNKNOWN.to_owned())]));
    }
    table
}

/// A chart for each cost.
pub(super) fn charts(growths: &[Growth]) -> Vec<Chart> {
    let charts = growths.iter().map(|growth| {
        let title = format!("{} over {}", growth.name, growth.parameter);
        Growth::chart(&title, std::slice::from_ref(growth))
    });
    charts.collect()
}

impl Parameter {
    fn name(self) -> &'static str {
        match self {
            Self::Gateways => "gateways",
            Self::Users => "users",
            Self::Rooms => "rooms",
            Self::Members => "members of a room",
            Self::Rate => "messages a second",
            Self::BodyBytes => "octets of a body",
        }
    }

    fn of(self, report: &Report) -> f64 {
        let load = &report.load;
        match self {
            Self::Gateways => load.gateways.len() as f64,
            Self::Users => load.users as f64,
            Self::Rooms => load.rooms as f64,
            Self::Members => load.users as f64 / load.rooms.max(1) as f64,
            Self::Rate => load.rate,
            Self::BodyBytes => f64::from(load.body_bytes),
        }
    }
}
