//! Taking stored messages out of the journals, and telling the gateways that wait for them.

use std::collections::{BTreeMap, HashMap};

use redis::Pipeline;

use super::commands::Commands;
use super::keys::{self, GROUP};
use super::topology::Topology;
use crate::broker::{BrokerError, Settled};
use crate::message::{GatewayId, MessageId};

/// The most ids in one notice.
const NOTICE: usize = 500;

/// Deletes and acknowledges the entries, and publishes notices.
///
/// There is no transaction around it: a Redis whose memory is full takes nothing in one, and would
/// stay full. Deleted first, an entry that this process cannot acknowledge any more is dropped by
/// the one that takes over; the other way round nobody would find it again.
///
/// # Errors
/// [`BrokerError`] when Redis has not confirmed it all; repeating it does no harm.
pub(super) async fn journaled(
    topology: &Topology,
    commands: &Commands,
    settled: Vec<Settled>,
) -> Result<(), BrokerError> {
    let mut pipeline = Pipeline::new();
    let mut shards: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for Settled { id, .. } in &settled {
        let stamp = id.stamp();
        shards
            .entry(id.shard())
            .or_default()
            .push(format!("{}-{}", stamp.ms, stamp.seq));
    }
    for (shard, ids) in shards {
        let journal = keys::journal(shard);
        pipeline.cmd("XDEL").arg(&journal).arg(&ids);
        pipeline.cmd("XACK").arg(&journal).arg(GROUP).arg(&ids);
    }
    run(topology, commands, pipeline, &settled).await
}

/// Publishes notices only: where there is no journal, nothing is to be taken out.
///
/// # Errors
/// [`BrokerError`] when Redis has not confirmed it all.
pub(super) async fn unjournaled(
    topology: &Topology,
    commands: &Commands,
    settled: Vec<Settled>,
) -> Result<(), BrokerError> {
    run(topology, commands, Pipeline::new(), &settled).await
}

async fn run(
    topology: &Topology,
    commands: &Commands,
    mut pipeline: Pipeline,
    settled: &[Settled],
) -> Result<(), BrokerError> {
    let mut notices: HashMap<GatewayId, Vec<MessageId>> = HashMap::new();
    for Settled { id, notify } in settled {
        if let Some(gateway) = notify {
            notices.entry(*gateway).or_default().push(*id);
        }
    }
    for (gateway, ids) in notices {
        for ids in ids.chunks(NOTICE) {
            let text: Vec<String> = ids.iter().map(ToString::to_string).collect();
            pipeline
                .cmd("PUBLISH")
                .arg(keys::notices(gateway, None))
                .arg(text.join(" "));
        }
    }
    if pipeline.is_empty() {
        return Ok(());
    }
    for answer in commands.run(&pipeline).await? {
        answer
            .extract_error()
            .map_err(|error| topology.explain(&error))?;
    }
    Ok(())
}
