//! Removes messages that are older than the retention.

use std::time::{Duration, SystemTime};

use tokio::time::MissedTickBehavior;

use super::statements;
use super::writer::WeakWriter;
use crate::message::{MessageId, Stamp};

/// The most messages that one transaction removes, so that inserts get their turn in between.
const ROWS: usize = 500;

/// Removes what is too old for as long as the store is open, each within a minute of its time.
pub(super) async fn run(writer: WeakWriter, age: Duration) {
    let every = (age / 10).clamp(Duration::from_secs(1), Duration::from_secs(60));
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let cutoff = now.saturating_sub(age).as_millis();
        let ms = u64::try_from(cutoff).expect("milliseconds since 1970 fit");
        let before = MessageId::new(Stamp { ms, seq: 0 }, 0);
        loop {
            let Some(writer) = writer.upgrade() else {
                return;
            };
            match writer
                .run(move |t| statements::remove_before(t, before, ROWS))
                .await
            {
                Ok(ROWS) => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "old messages could not be removed; will try again");
                    break;
                }
            }
        }
    }
}
