//! How cost grows with connections, rooms, members, gateways and persisters.

use super::measure::cost;
use super::sheet::{Bound, Cell, Plot, Sheet, Spread, Table};
use super::stage::{Ask, Broken, Stage};
use super::system::{SERVER, System};
use crate::report::{Growth, Report, Unit};

pub(crate) const ABOUT: &str = "CPU time a second against one parameter at a time (with --quick its least and \
    greatest value): 200 to 12,800 connections, 10 to 640 rooms, 2 to 200 members per room, 1 to 4 gateways, 1 \
    to 4 persisters, the rate of sending being the same; and the exponent that fits: 0 is no growth at all, 1 \
    is linear.";

/// Whose CPU time: processes' names, and what they are called here.
const WHOSE: [(&str, &str); 4] = [
    (SERVER, "gateways"),
    ("persister", "persisters"),
    ("redis", "Redis"),
    ("mongod", "mongod"),
];

/// How long each load sends, in seconds.
const SENDING: u64 = 4;

/// What grows.
struct Series {
    /// The parameter.
    name: &'static str,
    /// The load, for the reader.
    load: &'static str,
    /// The parameter's values.
    values: &'static [u32],
    /// How many gateways and persisters run, and the load, for a value.
    of: fn(u32) -> (usize, usize, Case),
}

/// A load.
struct Case {
    users: u32,
    size: u32,
    rate: f64,
    /// A further flag and its value.
    more: Option<(&'static str, &'static str)>,
}

impl Case {
    fn new(users: u32, size: u32, rate: f64) -> Self {
        Self {
            users,
            size,
            rate,
            more: None,
        }
    }

    fn with(mut self, flag: &'static str, value: &'static str) -> Self {
        self.more = Some((flag, value));
        self
    }
}

/// CPU time a second of some processes, in cores: for each value of the parameter, of each repeat.
type Costs = Vec<(f64, Vec<f64>)>;

const SERIES: [Series; 5] = [
    Series {
        name: "connections",
        load: "1:1 rooms with heart-beats of 10 s, 300 messages a second, two gateways",
        values: &[200, 800, 3200, 12_800],
        of: |value| {
            let case = Case::new(value, 2, 300.0);
            (2, 1, case.with("--heartbeat", "10s"))
        },
    },
    Series {
        name: "rooms",
        load: "rooms of 10, 100 messages a second over all of them, two gateways",
        values: &[10, 40, 160, 640],
        of: |value| (2, 1, Case::new(value * 10, 10, 100.0)),
    },
    Series {
        name: "members per room",
        load: "600 users, 100 messages a second, two gateways",
        values: &[2, 10, 50, 200],
        of: |value| (2, 1, Case::new(600, value, 100.0)),
    },
    Series {
        name: "gateways",
        load: "rooms of 10 with members on all gateways, 300 messages a second",
        values: &[1, 2, 4],
        of: |value| (value as usize, 1, Case::new(600, 10, 300.0)),
    },
    Series {
        name: "persisters",
        load: "1:1 rooms, 1,000 messages a second, receipted when stored",
        values: &[1, 2, 4],
        of: |value| {
            let case = Case::new(500, 2, 1000.0);
            (2, value as usize, case.with("--receipt-after", "stored"))
        },
    },
];

/// Makes the figures.
///
/// # Errors
/// [`Broken`] where a load could not be run.
pub(crate) async fn growth(stage: &Stage, sheet: &mut Sheet) -> Result<(), Broken> {
    let mut running = None;
    for series in &SERIES {
        let costs = costs(stage, sheet, series, &mut running).await?;
        let values = costs[0].iter().map(|(value, _)| Unit::Count.show(*value));
        let columns = ["CPU, ms a second".to_owned()].into_iter().chain(values);
        let columns = columns.chain(["exponent".to_owned()]);
        let columns = columns.collect::<Vec<_>>();
        let columns = columns.iter().map(String::as_str).collect::<Vec<_>>();
        let caption = format!("Against {}: {}.", series.name, series.load);
        let mut table = Table::new(caption, &columns);
        let mut lines = Vec::new();
        let mut greatest: Option<f64> = None;
        for ((_, name), costs) in WHOSE.iter().zip(&costs) {
            let exponent = exponent(costs);
            let found = exponent.as_ref().map(|exponent| exponent.median);
            greatest = [greatest, found].into_iter().flatten().reduce(f64::max);
            let spreads = costs
                .iter()
                .map(|(_, all)| Spread::of(all.iter().map(|cores| cores * 1e3)));
            let spreads = spreads.collect::<Vec<_>>();
            let values = costs.iter().map(|(value, _)| *value);
            let medians = spreads.iter().flatten().map(|spread| spread.median / 1e3);
            lines.push(((*name).to_owned(), values.zip(medians).collect()));
            let cells = spreads.into_iter().chain([exponent]).map(Cell::from);
            table.row([Cell::from(*name)].into_iter().chain(cells));
        }
        sheet.tables.push(table);
        // The first digit after the point is what the measurement is good for.
        let what = format!("exponent of {}, the greatest", series.name);
        sheet.target(what, Bound::AtMost(1.1), greatest);
        sheet.plots.push(Plot {
            title: format!("CPU time against {}", series.name),
            x: (series.name.into(), Unit::Count),
            y: ("CPU time, cores".into(), Unit::Cores),
            logarithmic: true,
            lines,
        });
    }
    Ok(())
}

/// What the loads of a series cost, in the order of [`WHOSE`]. A system that runs is used again where it
/// has as many processes.
async fn costs(
    stage: &Stage,
    sheet: &mut Sheet,
    series: &Series,
    running: &mut Option<((usize, usize), System)>,
) -> Result<[Costs; WHOSE.len()], Broken> {
    let mut costs: [Costs; WHOSE.len()] = Default::default();
    // With two of them an exponent is a slope.
    let step = match stage.quick {
        true => series.values.len() - 1,
        false => 1,
    };
    for &value in series.values.iter().step_by(step) {
        let (gateways, persisters, case) = (series.of)(value);
        let tiers = (gateways, persisters);
        let system = match running.take() {
            Some((same, system)) if same == tiers => system,
            other => {
                // Its processes would take their share of the cores.
                drop(other);
                let system = System::tiers(stage, gateways, persisters).await;
                let warm = Ask::rooms(500, 2, 500.0, stage.time(2));
                stage.load(&system, &warm).await?;
                system
            }
        };
        stage.say(format_args!("growth: {} {value}", series.name));
        let time = stage.time(SENDING);
        let mut ask = Ask::rooms(case.users, case.size, case.rate, time);
        if let Some((flag, value)) = case.more {
            ask = ask.with(flag, value);
        }
        let mut all: [Vec<f64>; WHOSE.len()] = Default::default();
        for _ in 0..stage.repeat {
            let report = stage.load(&system, &ask).await?;
            // How late the generator was says nothing about what the others used.
            if !report.ok {
                let load = format!("{} {value}", series.name);
                sheet.note(format!("{load}: {}", report.wrong.join("; ")));
            }
            for (all, (process, name)) in all.iter_mut().zip(WHOSE) {
                let cores = cores(&report, process);
                let cores = cores.ok_or_else(|| {
                    let line = format!("{} {value}: nothing is known of {name}", series.name);
                    Broken::Failed(line)
                })?;
                all.push(cores);
            }
        }
        for (costs, all) in costs.iter_mut().zip(all) {
            costs.push((f64::from(value), all));
        }
        *running = Some((tiers, system));
    }
    Ok(costs)
}

/// The exponent that fits the medians, as the plot has it, and that of each repeat.
fn exponent(costs: &Costs) -> Option<Spread> {
    let fit = |points| Growth::fit("", "", Unit::Cores, points).exponent;
    let repeats = costs.first().map_or(0, |(_, all)| all.len());
    let fits = (0..repeats).filter_map(|repeat| {
        let points = costs.iter().map(|(value, all)| (*value, all[repeat]));
        fit(points.collect())
    });
    let medians = costs.iter().filter_map(|(value, all)| {
        let spread = Spread::of(all.iter().copied())?;
        Some((*value, spread.median))
    });
    let spread = Spread::of(fits)?;
    let median = fit(medians.collect())?;
    Some(Spread { median, ..spread })
}

/// Seconds of CPU time in each second of sending.
fn cores(report: &Report, whose: &str) -> Option<f64> {
    let each = cost(report, whose)?;
    Some(each * report.delivered_per_second / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_repeat_has_an_exponent_of_its_own() {
        let costs = [10.0, 100.0, 1000.0].map(|value: f64| (value, vec![7.0, value, value.sqrt()]));
        let exponent = exponent(&costs.to_vec()).unwrap();
        let near = |found: f64, is: f64| assert!((found - is).abs() < 1e-9, "{exponent:?}");
        for (found, is) in exponent.all.iter().zip([0.0, 1.0, 0.5]) {
            near(*found, is);
        }
        // 7, 10 and 31.6.
        near(exponent.median, (1000_f64.sqrt() / 7.0).log(100.0));
        assert_eq!(super::exponent(&Vec::new()), None);
    }

    #[test]
    fn a_plot_of_growth_has_exponents_and_what_is_linear() {
        let plot = Plot {
            title: "CPU time against rooms".into(),
            x: ("rooms".into(), Unit::Count),
            y: ("CPU time, cores".into(), Unit::Cores),
            logarithmic: true,
            lines: vec![
                ("Redis".into(), vec![(10.0, 0.1), (1000.0, 1.0)]),
                ("mongod".into(), vec![(10.0, 0.2), (1000.0, 0.1999)]),
            ],
        };
        let page = plot.chart().figure();
        for text in [
            "Redis (exponent 0.50)",
            "mongod (exponent 0.00)",
            "linear (exponent 1)",
            "CPU time, cores",
        ] {
            assert!(page.contains(text), "{text}: {page}");
        }
    }
}
