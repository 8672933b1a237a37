//! What a delivery costs, and how long it takes, at rates that leave time to spare.

use std::time::Duration;

use super::measure::{cost, p99, spread};
use super::sheet::{Bound, Cell, Sheet, Spread, Table};
use super::stage::{Ask, Broken, Stage};
use super::system::{SERVER, System};
use crate::report::Report;

pub(crate) const ABOUT: &str = "CPU time for each delivered message, and the time from when a message \
    was due to its delivery, at a fixed rate; 500 users, bodies of 128 octets, every message receipted.";

/// Users in all loads.
const USERS: u32 = 500;

/// A load, and what it may cost beside the floor.
struct Case {
    name: &'static str,
    size: u32,
    rate: f64,
    /// How many times the floor's CPU time is allowed.
    cpu: Option<f64>,
    /// How many times the floor's p99 is allowed.
    p99: Option<f64>,
    /// Whether it is within what RabbitMQ can do.
    peer: bool,
}

const CASES: [Case; 4] = [
    Case {
        name: "1:1, 1,000/s",
        size: 2,
        rate: 1000.0,
        cpu: Some(2.0),
        p99: Some(3.0),
        peer: true,
    },
    Case {
        name: "rooms of 10, 1,000/s",
        size: 10,
        rate: 1000.0,
        cpu: Some(1.5),
        p99: Some(3.0),
        peer: true,
    },
    Case {
        name: "rooms of 100, 100/s",
        size: 100,
        rate: 100.0,
        cpu: None,
        p99: None,
        peer: true,
    },
    Case {
        name: "rooms of 100, 1,000/s",
        size: 100,
        rate: 1000.0,
        cpu: Some(1.5),
        p99: Some(3.0),
        peer: false,
    },
];

/// Makes the figures.
///
/// # Errors
/// [`Broken`] where a load could not be run.
pub(crate) async fn speed(stage: &Stage, sheet: &mut Sheet) -> Result<(), Broken> {
    stage.say("speed: starting the floor, two gateways with all behind them, and RabbitMQ");
    let systems = [
        System::floor(stage).await,
        System::tiers(stage, 2, 1).await,
        System::rabbitmq().await,
    ];
    for system in &systems {
        let warm = Ask::rooms(USERS, 2, 500.0, Duration::from_secs(2));
        stage.load(system, &warm).await?;
    }
    let mut seen: Vec<[Vec<Report>; 3]> = CASES.iter().map(|_| Default::default()).collect();
    let mut outcome = Ok(());
    'all: for round in 1..=stage.repeat {
        for (case, seen) in CASES.iter().zip(&mut seen) {
            for (system, seen) in systems.iter().zip(seen) {
                if system.name == "RabbitMQ" && !case.peer {
                    continue;
                }
                stage.say(format_args!(
                    "speed {round}/{}: {}, {}",
                    stage.repeat, case.name, system.name
                ));
                let ask = Ask::rooms(USERS, case.size, case.rate, stage.time(9));
                match stage.load(system, &ask).await {
                    Ok(report) => {
                        sheet.wrong(system.name, case.name, &report);
                        seen.push(report);
                    }
                    Err(broken) => {
                        outcome = Err(broken);
                        break 'all;
                    }
                }
            }
        }
    }
    fill(sheet, systems.each_ref().map(|system| system.name), &seen);
    outcome
}

/// Makes tables of what there is.
fn fill(sheet: &mut Sheet, systems: [&str; 3], seen: &[[Vec<Report>; 3]]) {
    let mut servers = Table::new(
        "What clients talk to (of Roomcast both gateways together):",
        &[
            "load",
            "system",
            "CPU, µs per delivery",
            "× floor",
            "p50, ms",
            "p99, ms",
            "p99, × floor",
        ],
    );
    let mut others = Table::new(
        "What else they cost, CPU time in µs per delivery; the generator's own with the floor and Roomcast:",
        &[
            "load",
            "persister",
            "Redis",
            "mongod",
            "generator, floor",
            "generator, Roomcast",
        ],
    );
    for (case, seen) in CASES.iter().zip(seen) {
        let cpu = |at: usize| spread(&seen[at], |report| cost(report, SERVER));
        let tail = |at: usize| spread(&seen[at], p99);
        let over = |own: Option<Spread>, floor: Option<Spread>| own?.ratio(&floor?);
        for (at, system) in systems.iter().enumerate() {
            let reports = &seen[at];
            if reports.is_empty() {
                continue;
            }
            let half = spread(reports, |report| {
                Some(report.send_to_receive_us.p50 as f64 / 1e3)
            });
            servers.row([
                Cell::from(case.name),
                (*system).into(),
                cpu(at).into(),
                over(cpu(at), cpu(0)).into(),
                half.into(),
                tail(at).into(),
                over(tail(at), tail(0)).into(),
            ]);
        }
        let other = |name| spread(&seen[1], |report| cost(report, name));
        let generator = |at: usize| {
            spread(&seen[at], |report: &Report| {
                report.generator.usage.us_per_delivery
            })
        };
        others.row([
            Cell::from(case.name),
            other("persister").into(),
            other("redis").into(),
            other("mongod").into(),
            generator(0).into(),
            generator(1).into(),
        ]);
        let median = |spread: Option<Spread>| spread.map(|spread| spread.median);
        // What is lost costs nothing, and has no latency.
        let runs = || seen[..2].iter().flatten();
        let is_whole = runs().all(|run| run.ok);
        let is_servers = runs().all(|run| run.generator.bottleneck.is_none());
        if let Some(most) = case.cpu {
            let what = format!("{}: gateways' CPU per delivery, × floor", case.name);
            let found = median(over(cpu(1), cpu(0)));
            sheet.target_of(what, Bound::AtMost(most), found, is_whole);
        }
        if let Some(most) = case.p99 {
            let what = format!("{}: p99 from send to receive, × floor", case.name);
            let found = median(over(tail(1), tail(0)));
            sheet.target_of(what, Bound::AtMost(most), found, is_whole && is_servers);
        }
    }
    sheet.tables.extend([servers, others]);
    sheet.note(
        "RabbitMQ is not asked for 100,000 deliveries a second, which it does not reach here.",
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Latency, Load, Usage};

    /// A run that meets every target, if it is whole.
    fn run() -> Report {
        let usage = Usage {
            name: SERVER.into(),
            us_per_delivery: Some(1.0),
            ..Usage::default()
        };
        let took = Latency {
            count: 1,
            p99: 1000,
            ..Latency::default()
        };
        Report {
            processes: vec![usage],
            send_to_receive_us: took,
            ..Report::new("fanout", Load::default())
        }
    }

    /// Which targets of the first case are met, for CPU time and p99, and of all others whether one is not.
    fn met(floor: [Report; 3], roomcast: [Report; 3]) -> (bool, bool, bool) {
        let good = || [vec![run()], vec![run()], vec![]];
        let mut seen = vec![[floor.into(), roomcast.into(), vec![]]];
        seen.extend(CASES[1..].iter().map(|_| good()));
        let mut sheet = Sheet::default();
        fill(&mut sheet, ["floor", "Roomcast", "RabbitMQ"], &seen);
        let met = |target: usize| sheet.targets[target].met;
        (
            met(0),
            met(1),
            sheet.targets[2..].iter().all(|target| target.met),
        )
    }

    #[test]
    fn a_ratio_meets_no_target_where_a_run_lost_something_or_the_generator_decided() {
        let all = || [run(), run(), run()];
        let one = |spoilt: Report| [run(), spoilt, run()];
        assert_eq!(met(all(), all()), (true, true, true));
        let mut lost = run();
        lost.faults.lost = 1;
        lost.judge();
        assert_eq!(met(all(), one(lost.clone())), (false, false, true));
        assert_eq!(met(one(lost), all()), (false, false, true));
        let mut doubled = run();
        doubled.faults.duplicated = 1;
        doubled.judge();
        assert_eq!(met(all(), one(doubled)), (false, false, true));
        let mut unsent = run();
        unsent.load.messages = 1;
        unsent.judge();
        assert_eq!(met(all(), one(unsent)), (false, false, true));
        let mut late = run();
        late.generator.bottleneck = Some("it sent 20 ms late".into());
        assert_eq!(met(all(), one(late.clone())), (true, false, true));
        assert_eq!(met(one(late), all()), (true, false, true));
    }
}
