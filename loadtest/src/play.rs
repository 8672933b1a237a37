//! Plays a load to everybody who is connected, and watches it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::exit::Failure;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::config::ReceiptAfter;
use crate::field::{Ear, Field};
use crate::process::Watch;
use crate::progress::Progress;
use crate::report::Interval;
use crate::run::Run;
use crate::tally::Window;

/// From the start of a load to its first message: time for the sender to be ready.
pub(crate) const HEAD_START: Duration = Duration::from_millis(200);

/// How long to listen, when everything has come, for what comes again.
const AFTERMATH: Duration = Duration::from_secs(1);

/// How often it is looked whether everything has come.
const LOOK: Duration = Duration::from_millis(10);

/// How a load is played.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// How long to wait, once all is sent, for what is missing.
    pub settle: Duration,
    /// How long an interval of the series is.
    pub interval: Duration,
    /// What receipts are to wait for.
    pub receipt_after: Option<ReceiptAfter>,
    /// Whether it ends as soon as nobody doubts that the server cannot follow: so much is outstanding.
    pub hopeless: Option<u64>,
}

/// What was seen while a load was played.
#[derive(Debug)]
pub(crate) struct Played {
    /// How it went on.
    pub series: Vec<Interval>,
    /// Deliveries and receipts that were outstanding at the end of each interval.
    pub backlogs: Vec<u64>,
    /// The share of a core that each of the generator's threads had busy while messages were sent.
    pub busy: Vec<f64>,
}

/// Plays a load to its end: all is sent and all has come that is owed, or it was waited long enough.
/// CPU time is charged from the first message until then.
///
/// # Errors
/// [`Failure::Other`] where the system gives no thread.
pub(crate) async fn play(
    field: &Arc<Field>,
    run: &Arc<Run>,
    manner: Manner,
    watch: &mut Watch,
    progress: &Progress,
) -> Result<Played, Failure> {
    field.tell(Arc::clone(run) as Arc<dyn Ear>);
    watch.begin();
    let used_before = field.crew().used();
    let began = Instant::now();
    let pacer = crate::pacer::start(field, run, manner.receipt_after)
        .map_err(|error| Failure::Other(format!("a thread: {error}")))?;
    let mut played = Played {
        series: Vec::new(),
        backlogs: Vec::new(),
        busy: Vec::new(),
    };
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut from = run.start;
    let mut ended = None;
    loop {
        looks.tick().await;
        let now = Instant::now();
        let seconds = now.saturating_duration_since(from);
        if seconds >= manner.interval {
            let backlog = run.backlog();
            let interval = close(run, field, watch, from, seconds);
            progress.show(&line(&interval, backlog));
            played.series.push(interval);
            played.backlogs.push(backlog);
            from = now;
            if manner.hopeless.is_some_and(|most| backlog > most) {
                run.hush.cancel();
            }
        }
        if run.has_ended() && ended.is_none() {
            ended = Some(now);
            let elapsed = began.elapsed().as_secs_f64();
            let used = field.crew().used().into_iter().zip(&used_before);
            let busy = used.map(|(now, then)| now.saturating_sub(*then).as_secs_f64() / elapsed);
            played.busy = busy.collect();
        }
        if field.open_count() == 0 {
            // Nobody is left who could send.
            run.hush.cancel();
        }
        let is_over = ended.is_some_and(|ended| now > ended + manner.settle);
        let is_empty = ended.is_some() && field.open_count() == 0;
        if is_over || is_empty || run.is_settled() && ended.is_some() {
            break;
        }
    }
    watch.end();
    let seconds = from.elapsed();
    if seconds > manner.interval / 10 || played.series.is_empty() {
        let interval = close(run, field, watch, from, seconds);
        played.series.push(interval);
        played.backlogs.push(run.backlog());
    }
    let elapsed = (ended.unwrap_or_else(Instant::now) - began).as_secs_f64();
    let sender = pacer.join().unwrap_or_default();
    played.busy.push(sender.as_secs_f64() / elapsed);
    if run.is_settled() {
        sleep(AFTERMATH).await;
    }
    Ok(played)
}

fn close(
    run: &Run,
    field: &Field,
    watch: &mut Watch,
    from: Instant,
    seconds: Duration,
) -> Interval {
    let Window {
        sent,
        delivered,
        latencies,
        ..
    } = run.turn();
    let quantile = |of: &hdrhistogram::Histogram<u64>, quantile| {
        (!of.is_empty()).then(|| of.value_at_quantile(quantile))
    };
    Interval {
        from_seconds: from.saturating_duration_since(run.start).as_secs_f64(),
        seconds: seconds.as_secs_f64(),
        connections: field.open_count() as u64,
        sent,
        delivered,
        receive_p50_us: quantile(&latencies.receive, 0.5),
        receive_p99_us: quantile(&latencies.receive, 0.99),
        receive_max_us: quantile(&latencies.receive, 1.0),
        receipt_p99_us: quantile(&latencies.receipt, 0.99),
        lag_p99_us: quantile(&latencies.lag, 0.99),
        processes: watch.sample(),
    }
}

fn line(interval: &Interval, backlog: u64) -> String {
    let seconds = interval.seconds;
    let p99 = match interval.receive_p99_us {
        Some(p99) => format!("p99 {:.1} ms", p99 as f64 / 1000.0),
        None => "nothing received".to_owned(),
    };
    format!(
        "{:>6.0} s   {:.0} sent/s   {:.0} delivered/s   {p99}   {backlog} outstanding   {} connected",
        interval.from_seconds + seconds,
        interval.sent as f64 / seconds,
        interval.delivered as f64 / seconds,
        interval.connections,
    )
}
