//! How cost grows with connections, rooms, members, gateways and persisters.

use super::measure::cost;
use super::sheet::{Bound, Cell, Plot, Sheet, Table};
use super::stage::{Ask, Broken, Stage};
use super::system::{SERVER, System};
use crate::report::{Growth, Report, Unit};

pub(crate) const ABOUT: &str = "CPU time a second against one parameter at a time, the rate of sending being \
    the same, and the exponent that fits: 0 is no growth at all, 1 is linear.";

/// What grows, and what is charged.
struct Series {
    /// The parameter.
    name: &'static str,
    /// The load, for the reader.
    load: &'static str,
    /// The parameter's values.
    values: &'static [u32],
    /// Whose CPU time: a process's name.
    whose: &'static str,
    /// How many gateways and persisters run, and the load, for a value.
    of: fn(u32) -> (usize, usize, Case),
}

/// A load.
struct Case {
    users: u32,
    size: u32,
    rate: f64,
    stored: bool,
}

impl Case {
    fn new(users: u32, size: u32, rate: f64) -> Self {
        Self {
            users,
            size,
            rate,
            stored: false,
        }
    }
}

const SERIES: [Series; 5] = [
    Series {
        name: "connections",
        load: "1:1 rooms, 300 messages a second, two gateways",
        values: &[200, 800, 3200, 12_800],
        whose: SERVER,
        of: |value| (2, 1, Case::new(value, 2, 300.0)),
    },
    Series {
        name: "rooms",
        load: "rooms of 10, 100 messages a second over all of them, two gateways",
        values: &[10, 40, 160, 640],
        whose: SERVER,
        of: |value| (2, 1, Case::new(value * 10, 10, 100.0)),
    },
    Series {
        name: "members per room",
        load: "600 users, 100 messages a second, two gateways",
        values: &[2, 10, 50, 200],
        whose: SERVER,
        of: |value| (2, 1, Case::new(600, value, 100.0)),
    },
    Series {
        name: "gateways",
        load: "rooms of 10 with members on all gateways, 300 messages a second",
        values: &[1, 2, 4],
        whose: SERVER,
        of: |value| (value as usize, 1, Case::new(600, 10, 300.0)),
    },
    Series {
        name: "persisters",
        load: "1:1 rooms, 1,000 messages a second, receipted when stored",
        values: &[1, 2, 4],
        whose: "persister",
        of: |value| {
            let case = Case {
                stored: true,
                ..Case::new(500, 2, 1000.0)
            };
            (2, value as usize, case)
        },
    },
];

/// Makes the figures.
///
/// # Errors
/// [`Broken`] where a load could not be run.
pub(crate) async fn growth(stage: &Stage, sheet: &mut Sheet) -> Result<(), Broken> {
    let mut table = Table::new(
        "Exponents of CPU time a second; cores at the least and the greatest value:",
        &[
            "parameter",
            "values",
            "whose CPU",
            "cores, least",
            "cores, greatest",
            "exponent",
        ],
    );
    let mut outcome = Ok(());
    for series in &SERIES {
        let seen = points(stage, sheet, series).await;
        let points = match seen {
            Ok(points) => points,
            Err(broken) => {
                outcome = Err(broken);
                break;
            }
        };
        let fit = Growth::fit(series.whose, series.name, Unit::Cores, points);
        let values = series.values.iter().map(ToString::to_string);
        let ends = [fit.points.first(), fit.points.last()];
        let [least, most] = ends.map(|point| point.map_or(f64::NAN, |point| point.1));
        let exponent = fit.exponent;
        table.row([
            Cell::from(series.name),
            values.collect::<Vec<_>>().join(", ").into(),
            series.whose.into(),
            least.into(),
            most.into(),
            exponent.map_or(Cell::Nothing(()), Cell::from),
        ]);
        // The first digit after the point is what the measurement is good for.
        let what = format!("exponent of {}", series.name);
        sheet.target(what, Bound::AtMost(1.1), exponent);
        sheet.note(format!("{}: {}.", series.name, series.load));
        sheet.plots.push(Plot {
            title: format!("CPU time against {}", series.name),
            x: (series.name.into(), Unit::Count),
            y: ("CPU time a second".into(), Unit::Cores),
            logarithmic: true,
            lines: vec![(fit.legend(), fit.points)],
        });
    }
    sheet.tables.push(table);
    outcome
}

async fn points(
    stage: &Stage,
    sheet: &mut Sheet,
    series: &Series,
) -> Result<Vec<(f64, f64)>, Broken> {
    let mut points = Vec::new();
    let mut running: Option<((usize, usize), System)> = None;
    // With two of them an exponent is a slope.
    let step = if stage.quick {
        series.values.len() - 1
    } else {
        1
    };
    for &value in series.values.iter().step_by(step) {
        let (gateways, persisters, case) = (series.of)(value);
        let system = match running.take() {
            Some((tiers, system)) if tiers == (gateways, persisters) => system,
            _ => {
                let system = System::tiers(stage, gateways, persisters).await;
                let warm = Ask::rooms(500, 2, 500.0, stage.time(2));
                stage.load(&system, &warm).await?;
                system
            }
        };
        stage.say(format_args!("growth: {} {value}", series.name));
        let mut ask = Ask::rooms(case.users, case.size, case.rate, stage.time(6));
        if case.stored {
            ask = ask.with("--receipt-after", "stored");
        }
        let report = stage.load(&system, &ask).await?;
        let load = format!("{} {value}", series.name);
        sheet.wrong("Roomcast", &load, &report);
        if let Some(cores) = cores(&report, series.whose) {
            points.push((f64::from(value), cores));
        }
        running = Some(((gateways, persisters), system));
    }
    Ok(points)
}

/// Seconds of CPU time in each second of sending.
fn cores(report: &Report, whose: &str) -> Option<f64> {
    let each = cost(report, whose)?;
    Some(each * report.delivered_per_second / 1e6)
}
