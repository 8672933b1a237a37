//! Whether what was read from a primary outlives it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use redis::{Value, cmd};

use super::acceptance::millis;
use super::commands::Commands;
use super::topology::{Layout, Topology};
use crate::broker::BrokerError;

/// How long replicas may take to have what was read.
const WAIT: Duration = Duration::from_secs(1);

/// How long it may take to ask who is the primary where they have not.
const CONFIRMED: Duration = Duration::from_secs(3);

/// Those of the shards of which `commands` has read what lasts, since `layout` was known.
///
/// What a primary has that loses its place before a replica has it was never accepted, and is sent
/// again; stored, it would be there twice. When the replicas have not got it in time, it counts if
/// the server is the primary still: what has only one copy must be stored all the more.
pub(super) async fn shards(
    topology: &Topology,
    layout: &Layout,
    commands: &Commands,
    replicas: u8,
    shards: &BTreeSet<u16>,
) -> BTreeSet<u16> {
    let home = |shard: u16| layout.home(shard).address();
    let servers: BTreeMap<_, u16> = shards.iter().map(|shard| (home(*shard), *shard)).collect();
    // A blocked read counts as done when it came: WAIT covers what was done by the command before
    // it.
    let wait = cmd("WAIT").arg(replicas).arg(millis(WAIT)).take();
    let waits = servers
        .values()
        .flat_map(|shard| [cmd("PING"), wait.clone()].map(|command| (*shard, command)));
    let before = commands.connections();
    let answers = commands.spread(waits.collect()).await;
    let enough = |answer: &Result<Value, BrokerError>| match answer {
        Ok(Value::Int(count)) => *count >= replicas.into(),
        Ok(Value::SimpleString(_)) => true,
        _ => false,
    };
    // WAIT knows only what its own connection has done.
    let replicated = commands.connections() == before && answers.iter().all(enough);
    let known = replicated || topology.confirm(CONFIRMED).await;
    let now = topology.layout();
    let stays = |shard: &u16| known && now.home(*shard).address() == home(*shard);
    shards.iter().copied().filter(stays).collect()
}
