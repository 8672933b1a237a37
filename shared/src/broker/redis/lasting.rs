//! Whether what was read from a primary outlives it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use redis::{Value, cmd};
use tokio::time::Instant;

use super::acceptance::millis;
use super::commands::Commands;
use super::topology::{Layout, Topology};
use crate::broker::BrokerError;

/// How long replicas may take to have what was read: longer than Sentinels take to learn that the
/// one that they promote has become a primary.
const WAIT: Duration = Duration::from_millis(1500);

/// How long replicas may be short before what has only one copy is stored all the same: longer than a
/// failover takes, in which the Sentinels name the old primary to the end.
const SHORT: Duration = Duration::from_secs(15);

/// How long it may take to ask who is the primary where they have not.
const CONFIRMED: Duration = Duration::from_secs(3);

/// Those of the shards of which `commands` has read what lasts, since `layout` was known.
///
/// What a primary has that loses its place before a replica has it was never accepted, and is sent
/// again; stored, it would be there twice. All replicas that are up must have it, as for a publish:
/// `replicas` at least. When they have been short for long, which `short` remembers, it counts if the
/// server is the primary still: what has only one copy must be stored all the more.
pub(super) async fn shards(
    topology: &Topology,
    layout: &Layout,
    commands: &Commands,
    replicas: u8,
    shards: &BTreeSet<u16>,
    short: &mut Option<Instant>,
) -> BTreeSet<u16> {
    let home = |shard: u16| layout.home(shard).address();
    let servers: BTreeMap<_, u16> = shards.iter().map(|shard| (home(*shard), *shard)).collect();
    let before = commands.connections();
    // A blocked read counts as done when it came: WAIT covers what was done by the command before
    // it.
    let roles = servers.values().map(|shard| (*shard, cmd("ROLE")));
    let roles = commands.spread(roles.collect()).await;
    let up = topology.layout();
    let wanted = servers.values().zip(roles).map(|(shard, role)| {
        let following = role.map(|role| up.following(&role)).unwrap_or_default();
        (*shard, up.replicas(*shard, &following).max(replicas.into()))
    });
    let wanted: Vec<(u16, usize)> = wanted.collect();
    let waits = wanted.iter().map(|(shard, count)| {
        let wait = cmd("WAIT").arg(*count).arg(millis(WAIT)).take();
        (*shard, wait)
    });
    let answers = commands.spread(waits.collect()).await;
    let enough = |((_, wanted), answer): (&(u16, usize), &Result<Value, BrokerError>)| {
        let Ok(Value::Int(count)) = answer else {
            return false;
        };
        usize::try_from(*count).is_ok_and(|count| count >= *wanted)
    };
    // WAIT knows only what its own connection has done.
    let unbroken = commands.connections() == before;
    let replicated: BTreeSet<_> = (wanted.iter().zip(&answers))
        .filter(|pair| unbroken && enough(*pair))
        .map(|((shard, _), _)| home(*shard))
        .collect();
    let confirmed = if replicated.len() == servers.len() {
        *short = None;
        false
    } else {
        let since = *short.get_or_insert_with(Instant::now);
        since.elapsed() > SHORT && topology.confirm(CONFIRMED).await
    };
    let now = topology.layout();
    let stays = |shard: &u16| {
        let known = confirmed || replicated.contains(home(*shard));
        known && now.home(*shard).address() == home(*shard)
    };
    shards.iter().copied().filter(stays).collect()
}
