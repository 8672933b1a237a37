//! Moves accepted messages from the broker's journal to the store: takes a batch from the feed,
//! stores it, and only then takes it out of the journal.
//!
//! Any number of persisters share the work. One that dies leaves its batch in the journal, from
//! which the others take it; what they then store twice counts as stored once.

mod batch;
pub mod config;
mod worker;

use std::panic;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::time::Duration;

use shared::admin::Latch;
use shared::broker::{Broker, BrokerError};
use shared::metrics::Metrics;
use shared::store::Store;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

pub use self::config::Settings;
use self::worker::Worker;

/// How many batches are stored at the same time: the store need not wait for us between two, and we
/// not for it.
const AT_ONCE: usize = 2;

/// How often the backlog is measured, and how long that may take.
const BACKLOG_EVERY: Duration = Duration::from_secs(1);
const BACKLOG_TIMEOUT: Duration = Duration::from_secs(5);

/// Stores what the broker has accepted, until `stop` is cancelled. While the store or the broker
/// is away no more than the next four batches are taken from the journal, `ready` is unmet, and this
/// goes on trying.
///
/// When told to stop it finishes the batches that it has. What a broker inside this process still
/// holds would be lost with it, so that is stored too: cancel `stop` when nothing publishes any
/// more. Both end after [`Settings::drain_timeout`] at the latest.
///
/// # Errors
/// [`BrokerError`] when the feed cannot be opened.
pub async fn run(
    broker: Arc<dyn Broker>,
    store: Arc<dyn Store>,
    settings: Settings,
    metrics: Metrics,
    ready: Latch,
    stop: CancellationToken,
) -> Result<(), BrokerError> {
    let consumer = format!("persister-{}", Uuid::new_v4());
    let feed = broker.open_feed(&consumer).await?;
    let guarantees = broker.guarantees();
    let durable = guarantees.durable;
    let drain_timeout = settings.drain_timeout;
    let worker = Worker {
        store,
        settings,
        metrics: Arc::clone(&metrics.persister),
        ready,
        stop: stop.clone(),
        to_the_end: !durable,
        // A durable broker knows what is not stored yet, so that no reading shows a hole. Of another
        // the store is all that is seen.
        at_once: if durable && guarantees.journaled {
            AT_ONCE
        } else {
            1
        },
        failing: AtomicU8::new(0),
    };
    // A task of its own: the one that waits here may belong to a thread that others must wake.
    let mut working = AbortOnDropHandle::new(tokio::spawn(worker.run(feed)));
    let out_of_time = async {
        stop.cancelled().await;
        sleep(drain_timeout).await;
    };
    tokio::select! {
        ended = &mut working => match ended {
            Ok(()) => tracing::info!("everything that was taken from the journal is stored"),
            Err(error) => {
                if let Ok(panic) = error.try_into_panic() {
                    panic::resume_unwind(panic);
                }
            }
        },
        () = out_of_time => {
            if durable {
                tracing::warn!("out of time: what is not stored stays in the journal");
            } else if guarantees.journaled
                && matches!(timeout(BACKLOG_TIMEOUT, broker.backlog()).await, Ok(Ok(0)))
            {
                tracing::info!("everything that was accepted is stored");
            } else {
                tracing::error!("out of time: accepted messages that are not stored are lost");
            }
        }
        () = measure(&*broker, &metrics) => {}
    }
    Ok(())
}

/// Keeps the backlog's metric up to date, without an end. A backlog that this process does not
/// store, because it was told to listen only, is somebody's mistake.
async fn measure(broker: &dyn Broker, metrics: &Metrics) {
    let stores_journal = broker.guarantees().journaled;
    let mut said = false;
    let mut ticks = interval(BACKLOG_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match timeout(BACKLOG_TIMEOUT, broker.backlog()).await {
            Ok(Ok(backlog)) => {
                metrics
                    .persister
                    .backlog
                    .set(i64::try_from(backlog).unwrap_or(i64::MAX));
                if backlog > 0 && !stores_journal && !said {
                    said = true;
                    tracing::warn!(
                        backlog,
                        "messages wait in the journal, which a persister with --delivery \
                         at-most-once does not store: start one with at-least-once too, and see \
                         that gateways and persisters have the same"
                    );
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, "the backlog cannot be measured"),
            Err(_) => tracing::debug!("the backlog cannot be measured in time"),
        }
    }
}
