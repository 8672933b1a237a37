//! The most that one process delivers with the generator beside it.

use super::measure::{cost, p99};
use super::search::{Rates, search};
use super::sheet::{Bound, Cell, Sheet, Table};
use super::stage::{Ask, Broken, Stage};
use super::system::{SERVER, System};
use crate::report::Report;

pub(crate) const ABOUT: &str = "The highest rate in rooms of 100 at which everything arrives, on time, \
    and 99 % within 100 ms; 500 users, one server process with the generator beside it.";

/// Milliseconds that 99 % of deliveries may take.
const BOUND: f64 = 100.0;

/// Members of a room.
const SIZE: u32 = 100;

/// Makes the figures.
///
/// # Errors
/// [`Broken`] where a load could not be run.
pub(crate) async fn saturation(stage: &Stage, sheet: &mut Sheet) -> Result<(), Broken> {
    let mut table = Table::new(
        "Deliveries a second at the highest rate, what each costs, and how long it takes:",
        &[
            "system",
            "deliveries/s",
            "CPU, µs per delivery",
            "p50, ms",
            "p99, ms",
            "generator, cores",
        ],
    );
    let made = fill(stage, sheet, &mut table).await;
    // Also where it was interrupted.
    sheet.tables.push(table);
    made
}

async fn fill(stage: &Stage, sheet: &mut Sheet, table: &mut Table<Cell>) -> Result<(), Broken> {
    let floor = System::floor(stage).await;
    let roomcast = System::standalone(stage, &[]).await?;
    let best = highest(stage, &roomcast, 1000.0).await?;
    table.row(row(roomcast.name, best.as_ref()));
    let reached = best.as_ref().map(|report| report.delivered_per_second);
    sheet.target(
        "deliveries a second in one process",
        Bound::AtLeast(150_000.0),
        reached,
    );
    drop(roomcast);
    let own = best.as_ref().and_then(|report| cost(report, SERVER));
    if let Some(best) = &best {
        let rate = best.load.rate;
        stage.say(format_args!("saturation: floor at the same {rate:.0}/s"));
        let same = stage.load(&floor, &ask(stage, rate)).await?;
        sheet.wrong("floor", "at Roomcast's rate", &same);
        table.row(row("floor, at that rate", Some(&same)));
        let ratio = own.zip(cost(&same, SERVER)).map(|(own, floor)| own / floor);
        sheet.target(
            "CPU per delivery at that rate, × floor",
            Bound::Below(1.0),
            ratio,
        );
    }
    let most = highest(stage, &floor, 1000.0).await?;
    table.row(row("floor", most.as_ref()));
    drop(floor);
    if stage.quick {
        sheet.note("RabbitMQ is left out with --quick.");
        return Ok(());
    }
    let rabbitmq = System::rabbitmq().await;
    let most = highest(stage, &rabbitmq, 100.0).await?;
    table.row(row(rabbitmq.name, most.as_ref()));
    Ok(())
}

async fn highest(stage: &Stage, system: &System, from: f64) -> Result<Option<Report>, Broken> {
    let rates = Rates {
        from,
        halvings: if stage.quick { 2 } else { 4 },
    };
    search(rates, async |rate| {
        let report = stage.load(system, &ask(stage, rate)).await?;
        let tail = p99(&report).unwrap_or(f64::INFINITY);
        let good = report.ok && report.sent_per_second > 0.98 * rate && tail <= BOUND;
        stage.say(format_args!(
            "saturation: {}, {:.0} deliveries/s, p99 {tail:.1} ms: {}",
            system.name,
            report.delivered_per_second,
            if good { "kept up" } else { "too much" },
        ));
        Ok(good.then_some(report))
    })
    .await
}

fn ask(stage: &Stage, rate: f64) -> Ask {
    Ask::rooms(500, SIZE, rate, stage.time(6))
}

fn row(name: &str, report: Option<&Report>) -> Vec<Cell> {
    let figure = |figure: fn(&Report) -> Option<f64>| match report.and_then(figure) {
        Some(figure) => Cell::from(figure),
        None => Cell::Nothing(()),
    };
    vec![
        name.into(),
        figure(|report| Some(report.delivered_per_second)),
        figure(|report| cost(report, SERVER)),
        figure(|report| Some(report.send_to_receive_us.p50 as f64 / 1e3)),
        figure(p99),
        figure(|report| report.generator.usage.cores),
    ]
}
