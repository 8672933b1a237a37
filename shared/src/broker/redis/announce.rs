//! Showing what was accepted, where an answer waits for replicas: only once they have it.
//!
//! A primary can be lost with what its replicas had not got. Had gateways shown that, its sender,
//! who has no answer, would send it again, and members would see two messages. So the script that
//! accepts does not publish; whoever first knows that replicas have an entry does it for all up to
//! it: the lane that it came by, or a persister before it is stored, should the lane's process have
//! died. Replicas have everything that was written before what they have, so none is too early.

use std::collections::BTreeSet;

use redis::{Cmd, Value, cmd};

use super::commands::Commands;
use super::entries::StreamEntry;
use super::keys;
use crate::message::Stamp;

/// Short enough to be sent along each time.
const ANNOUNCE: &str = include_str!("announce.lua");

/// Publishes everything of a shard's journal up to `last` that has not been.
pub(super) fn announce(publish: &str, shard: u16, last: Stamp) -> Cmd {
    cmd("EVAL")
        .arg(ANNOUNCE)
        .arg(2)
        .arg(keys::journal(shard))
        .arg(keys::announced(shard))
        .arg(publish)
        .arg(keys::channels(shard))
        .arg(format!("{}-{}", last.ms, last.seq))
        .take()
}

/// Publishes what a persister has read, shard by shard. What cannot be is taken out, and its shards
/// are returned.
pub(super) async fn read(
    commands: &Commands,
    sharded: bool,
    read: &mut Vec<(usize, Vec<StreamEntry>)>,
) -> BTreeSet<usize> {
    let publish = keys::publish(sharded);
    let announcements = read.iter().filter_map(|(shard, entries)| {
        let last = entries.iter().rev().find_map(|entry| entry.stamp)?;
        let shard = *shard as u16;
        Some((shard, announce(publish, shard, last)))
    });
    let announcements: Vec<_> = announcements.collect();
    let shards: Vec<u16> = announcements.iter().map(|(shard, _)| *shard).collect();
    let answers = commands.spread(announcements).await;
    let hidden = shards
        .into_iter()
        .zip(answers)
        .filter(|(_, answer)| !matches!(answer, Ok(Value::Int(_))))
        .map(|(shard, _)| usize::from(shard))
        .collect::<BTreeSet<_>>();
    read.retain(|(shard, _)| !hidden.contains(shard));
    hidden
}
