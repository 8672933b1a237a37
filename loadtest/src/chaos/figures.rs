//! What Redis and MongoDB had to do.

use std::fmt;
use std::time::Duration;

use harness::{mongo, redis};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How long one count lasts.
const SECOND: Duration = Duration::from_secs(1);

/// Counts of a time, those of our own questions included.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    commands_peak: u64,
    queries_peak: u64,
    queries: u64,
}

impl Figures {
    /// Counts until it is told to stop.
    pub(crate) async fn gather(
        redis_url: String,
        mongo_url: String,
        stop: CancellationToken,
    ) -> Self {
        let mut figures = Self::default();
        let mut last = None;
        let mut ticks = interval(SECOND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return figures,
            }
            let counts = tokio::join!(redis::commands(&redis_url), mongo::queries(&mongo_url));
            let (Some(commands), Some(queries)) = counts else {
                last = None;
                continue;
            };
            if let Some((commands_before, queries_before)) = last {
                let commands = commands.saturating_sub(commands_before);
                let queries = queries.saturating_sub(queries_before);
                figures.commands_peak = figures.commands_peak.max(commands);
                figures.queries_peak = figures.queries_peak.max(queries);
                figures.queries += queries;
            }
            last = Some((commands, queries));
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            commands_peak,
            queries_peak,
            queries,
        } = self;
        write!(
            f,
            "Redis carried out {commands_peak} commands in its busiest second; MongoDB answered \
             {queries_peak} queries in its busiest second, {queries} in all"
        )
    }
}
