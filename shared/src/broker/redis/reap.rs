//! Forgetting the consumers of persisters that are long gone.

use std::time::Duration;

use redis::{Value, cmd};
use tracing::debug;

use super::commands::Commands;
use super::keys::{self, GROUP};

/// A consumer that was silent for this many times the takeover time, and holds nothing, is
/// forgotten.
const SILENCE: u32 = 10;

const REAP: &str = include_str!("reap.lua");

/// Forgets those of these shards' journals.
pub(super) async fn reap(commands: &Commands, shards: &[usize], takeover_after: Duration) {
    let silence = (takeover_after * SILENCE).as_millis() as u64;
    let reapers = shards.iter().map(|shard| {
        let shard = *shard as u16;
        let mut reap = cmd("EVAL");
        reap.arg(REAP).arg(1).arg(keys::journal(shard)).arg(GROUP);
        (shard, reap.arg(silence).take())
    });
    for answer in commands.spread(reapers.collect()).await {
        match answer.map(Value::extract_error) {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => debug!(%error, "silent consumers stay"),
            Err(error) => debug!(%error, "silent consumers stay"),
        }
    }
}
