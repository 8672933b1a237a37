//! 1:1 rooms through Redis into MongoDB, with receipts that wait for the store.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::measure::{follow, receipt_p99};
use super::search::{Rates, search};
use super::sheet::{Bound, Cell, Plot, Sheet, Table};
use super::stage::{Ask, Broken, Stage};
use super::system::System;
use crate::report::{Report, Unit};

pub(crate) const ABOUT: &str = "1:1 rooms over two gateways, Redis (synced before it answers), a \
    persister and MongoDB, all on this machine: every receipt waits until its message is stored. The \
    backlog is what is accepted and not stored, once a second.";

/// What is to be reached, in messages a second.
const WANTED: f64 = 10_000.0;

/// Milliseconds that 99 % of receipts may take.
const BOUND: f64 = 50.0;

/// Messages that the backlog may have more at the end than at the beginning: what arrives in a tenth of
/// a second, since it is counted while messages come in groups.
const GROWTH: f64 = WANTED / 10.0;

/// The persister's metric.
const BACKLOG: &str = "roomcast_persister_backlog";

/// A load, and how the backlog went on.
struct Seen {
    report: Report,
    backlog: Vec<(f64, f64)>,
    /// How much more there was in the last third than in the first, in the mean.
    growth: f64,
}

/// Makes the figures.
///
/// # Errors
/// [`Broken`] where a load could not be run.
pub(crate) async fn stored(stage: &Stage, sheet: &mut Sheet) -> Result<(), Broken> {
    let system = System::tiers(stage, 2, 1).await;
    let warm = ask(1000.0, Duration::from_secs(2));
    stage.load(&system, &warm).await?;
    stage.say(format_args!("stored: {WANTED:.0} messages a second"));
    let wanted = look(stage, &system, WANTED, stage.time(20)).await?;
    sheet.wrong("roomcast", "10,000/s", &wanted.report);
    let mut table = Table::new(
        "Milliseconds from when a message was due to its receipt, and messages in the backlog:",
        &[
            "messages/s",
            "sent/s",
            "p50, ms",
            "p99, ms",
            "p99.9, ms",
            "backlog, most",
            "backlog, growth",
        ],
    );
    table.row(row(WANTED, &wanted));
    let sent = wanted.report.sent_per_second;
    let is_whole = wanted.report.ok.then_some(sent);
    sheet.target(
        "messages a second, stored, none lost",
        Bound::AtLeast(0.99 * WANTED),
        is_whole,
    );
    let tail = receipt_p99(&wanted.report);
    sheet.target("p99 from send to receipt, ms", Bound::Below(BOUND), tail);
    let growth = Some(wanted.growth);
    sheet.target(
        "growth of the backlog, messages",
        Bound::AtMost(GROWTH),
        growth,
    );
    sheet.plots.push(Plot {
        title: "The backlog at 10,000 messages a second".into(),
        x: ("time".into(), Unit::Seconds),
        y: ("messages".into(), Unit::Count),
        logarithmic: false,
        lines: vec![("backlog".into(), wanted.backlog)],
    });
    let rates = Rates {
        from: WANTED / 2.0,
        halvings: if stage.quick { 1 } else { 3 },
    };
    let best = search(rates, async |rate| {
        let seen = look(stage, &system, rate, stage.time(8)).await?;
        let tail = receipt_p99(&seen.report).unwrap_or(f64::INFINITY);
        let kept_up = seen.report.ok && seen.report.sent_per_second > 0.98 * rate;
        let good = kept_up && tail < BOUND && seen.growth <= GROWTH;
        stage.say(format_args!(
            "stored: {rate:.0}/s, p99 {tail:.1} ms, backlog grew by {:.0}: {}",
            seen.growth,
            if good { "kept up" } else { "too much" },
        ));
        Ok(good.then_some((rate, seen)))
    })
    .await?;
    match best {
        Some((rate, seen)) => table.row(row(rate, &seen)),
        None => sheet.note("No rate kept 99 % of receipts below 50 ms with a backlog that stays."),
    }
    sheet.tables.push(table);
    sheet.note("The last row is the highest rate that was found to keep the bounds.");
    Ok(())
}

async fn look(stage: &Stage, system: &System, rate: f64, time: Duration) -> Result<Seen, Broken> {
    let stop = CancellationToken::new();
    let ask = ask(rate, time);
    let load = async {
        let report = stage.load(system, &ask).await;
        stop.cancel();
        report
    };
    let backlog = follow(
        &system.persisters,
        BACKLOG,
        Duration::from_millis(500),
        stop.clone(),
    );
    let (report, backlog) = tokio::join!(load, backlog);
    let growth = growth(&backlog);
    Ok(Seen {
        report: report?,
        backlog,
        growth,
    })
}

fn ask(rate: f64, time: Duration) -> Ask {
    Ask::rooms(500, 2, rate, time).with("--receipt-after", "stored")
}

/// What the backlog has more in the last third of the time in which there was any than in the first.
fn growth(backlog: &[(f64, f64)]) -> f64 {
    let from = backlog.iter().position(|(_, messages)| *messages > 0.0);
    let to = backlog.iter().rposition(|(_, messages)| *messages > 0.0);
    let Some((from, to)) = from.zip(to) else {
        return 0.0;
    };
    let busy = &backlog[from..=to];
    let third = busy.len().div_ceil(3);
    let mean = |part: &[(f64, f64)]| {
        let sum: f64 = part.iter().map(|(_, messages)| messages).sum();
        sum / part.len() as f64
    };
    mean(&busy[busy.len() - third..]) - mean(&busy[..third])
}

fn row(rate: f64, seen: &Seen) -> Vec<Cell> {
    let took = &seen.report.send_to_receipt_us;
    let most = seen.backlog.iter().map(|(_, messages)| *messages);
    vec![
        rate.into(),
        seen.report.sent_per_second.into(),
        (took.p50 as f64 / 1e3).into(),
        (took.p99 as f64 / 1e3).into(),
        (took.p999 as f64 / 1e3).into(),
        most.fold(0.0, f64::max).into(),
        seen.growth.into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_grows_when_its_end_is_above_its_beginning() {
        let series = |values: &[f64]| -> Vec<(f64, f64)> {
            let numbered = values.iter().enumerate();
            numbered.map(|(at, value)| (at as f64, *value)).collect()
        };
        let rising = series(&[0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 0.0]);
        assert_eq!(growth(&rising), 40.0);
        assert_eq!(growth(&series(&[0.0, 9.0, 8.0, 9.0, 8.0, 0.0])), 0.0);
        assert_eq!(growth(&[]), 0.0);
    }
}
