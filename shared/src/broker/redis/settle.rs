//! Taking stored messages out of the journals, and telling the gateways that wait for them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::{Cmd, cmd};

use super::commands::Commands;
use super::keys::{self, GROUP};
use super::topology::Topology;
use crate::broker::{BrokerError, Settled, Settler};
use crate::message::{GatewayId, MessageId};

/// The most ids in one notice.
const NOTICE: usize = 500;

/// Deletes and acknowledges the entries, and publishes notices.
///
/// There is no transaction around it: a Redis whose memory is full takes nothing in one, and would
/// stay full. Deleted first, an entry that this process cannot acknowledge any more is dropped by
/// the one that takes over; the other way round nobody would find it again.
pub(super) struct Journaled {
    pub(super) topology: Topology,
    pub(super) commands: Arc<Commands>,
}

/// Publishes notices only: where there is no journal, nothing is to be taken out.
pub(super) struct Unjournaled {
    pub(super) topology: Topology,
    pub(super) commands: Commands,
}

impl Settler for Journaled {
    fn settle(&self, settled: Vec<Settled>) -> BoxFuture<'_, Result<(), BrokerError>> {
        let mut shards: BTreeMap<u16, Vec<String>> = BTreeMap::new();
        for Settled { id, .. } in &settled {
            let stamp = id.stamp();
            shards
                .entry(id.shard())
                .or_default()
                .push(format!("{}-{}", stamp.ms, stamp.seq));
        }
        let mut all = Vec::with_capacity(2 * shards.len());
        for (shard, ids) in shards {
            let journal = keys::journal(shard);
            all.push((shard, cmd("XDEL").arg(&journal).arg(&ids).take()));
            all.push((shard, cmd("XACK").arg(&journal).arg(GROUP).arg(&ids).take()));
        }
        all.extend(notices(&settled, self.topology.is_cluster()));
        run(&self.topology, &self.commands, all).boxed()
    }
}

impl Settler for Unjournaled {
    fn settle(&self, settled: Vec<Settled>) -> BoxFuture<'_, Result<(), BrokerError>> {
        run(&self.topology, &self.commands, notices(&settled, false)).boxed()
    }
}

/// What tells the gateways, by the shard whose server publishes it; any does where channels are not
/// sharded.
fn notices(settled: &[Settled], sharded: bool) -> Vec<(u16, Cmd)> {
    let mut notices: HashMap<(GatewayId, Option<u16>), Vec<MessageId>> = HashMap::new();
    for Settled { id, notify } in settled {
        if let Some(gateway) = notify {
            let shard = sharded.then(|| id.shard());
            notices.entry((*gateway, shard)).or_default().push(*id);
        }
    }
    let mut commands = Vec::with_capacity(notices.len());
    for ((gateway, shard), ids) in notices {
        for ids in ids.chunks(NOTICE) {
            let text: Vec<String> = ids.iter().map(ToString::to_string).collect();
            let mut publish = cmd(keys::publish(sharded));
            publish
                .arg(keys::notices(gateway, shard))
                .arg(text.join(" "));
            commands.push((shard.unwrap_or_default(), publish));
        }
    }
    commands
}

async fn run(
    topology: &Topology,
    commands: &Commands,
    all: Vec<(u16, Cmd)>,
) -> Result<(), BrokerError> {
    for answer in commands.spread(all).await {
        answer?
            .extract_error()
            .map_err(|error| topology.explain(&error))?;
    }
    Ok(())
}
