//! Publishing: drafts become commands in the order of the calls, and each goes down its room's
//! lane.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, future};
use prometheus::IntCounter;
use redis::{Cmd, Script, cmd};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::lane::{ACCEPT, Lane, Request};
use super::topology::Topology;
use super::{keys, payload};
use crate::broker::shard::shard_of;
use crate::broker::{Accepted, IDEMPOTENCY_WINDOW, PublishError};
use crate::config::{BrokerSettings, Delivery};
use crate::message::{Draft, MessageId, Series, Stamp};

/// What a request weighs in a queue beside the message, in octets.
const OVERHEAD: usize = 1024;

/// Publishes to one room take one lane, so they keep their order; a few lanes suffice for one
/// server to be busy.
const LANES: usize = 4;

/// The script counts in floating point, which is exact up to here.
const EXACT: u64 = 1 << 53;

/// Turns drafts into accepted messages.
pub(super) struct Publisher {
    lanes: Vec<Lane>,
    settings: BrokerSettings,
    script: String,
    /// Tells this process's tokens and ids from all others'.
    process: u64,
    count: AtomicU64,
}

impl Publisher {
    pub(super) fn start(
        topology: &Topology,
        settings: &BrokerSettings,
        reconnects: &IntCounter,
    ) -> Self {
        let lane = |_| Lane::start(topology, settings.publish_timeout, reconnects);
        Self {
            lanes: (0..LANES).map(lane).collect(),
            settings: settings.clone(),
            script: Script::new(ACCEPT).get_hash().to_string(),
            process: fastrand::u64(..),
            count: AtomicU64::new(0),
        }
    }

    /// Queues a draft now; its answer comes within the publish deadline.
    pub(super) fn publish(
        &self,
        draft: Draft,
    ) -> BoxFuture<'static, Result<Accepted, PublishError>> {
        // What is ephemeral is not sent again by its sender, so that nothing has to wait for it.
        let series = if draft.ephemeral {
            Series::default()
        } else {
            draft.series.clone()
        };
        if series.has_failed() {
            return future::ready(Err(PublishError::Unavailable)).boxed();
        }
        let shard = shard_of(&draft.room, self.settings.shards);
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let ephemeral = draft.ephemeral;
        let journaled = self.settings.delivery == Delivery::AtLeastOnce && !ephemeral;
        let notify = draft.notify.filter(|_| !journaled && !ephemeral);
        let payload = payload::encode(&draft, notify);
        let size = OVERHEAD + payload.len();
        let token = format!("{:x}-{count:x}", self.process);
        let (command, id) = if journaled {
            (self.accept(&draft, &payload, shard, &token), None)
        } else {
            let stamp = self.own_stamp(count);
            let id = if ephemeral {
                MessageId::ephemeral(stamp, shard)
            } else {
                MessageId::new(stamp, shard)
            };
            let published = payload::published(id.stamp(), &payload);
            let channel = keys::channel(shard, &draft.room);
            (cmd("PUBLISH").arg(channel).arg(published).take(), Some(id))
        };
        let deadline = Instant::now() + self.settings.publish_timeout;
        let (answer, answered) = oneshot::channel();
        let room = draft.room;
        let request = Request {
            room,
            shard,
            command,
            token,
            size,
            id,
            ephemeral,
            deadline,
            series: series.clone(),
            answer,
        };
        if !self.lanes[usize::from(shard) % LANES].offer(request) {
            series.fail();
            return future::ready(Err(PublishError::Overloaded)).boxed();
        }
        async move {
            match timeout_at(deadline, answered).await {
                Ok(Ok(answer)) => answer,
                _ => Err(PublishError::Unavailable),
            }
        }
        .boxed()
    }

    fn accept(&self, draft: &Draft, payload: &[u8], shard: u16, token: &str) -> Cmd {
        let least = draft.newer_than.map_or(Stamp { ms: 0, seq: 0 }, |id| {
            let Stamp { ms, seq } = id.stamp();
            if seq + 1 < EXACT {
                Stamp { ms, seq: seq + 1 }
            } else {
                Stamp { ms: ms + 1, seq: 0 }
            }
        });
        let (idempotency, kept) = match &draft.idempotency_key {
            Some(key) => (
                keys::idempotency(shard, &draft.room, &draft.sender, key),
                IDEMPOTENCY_WINDOW,
            ),
            None => (
                keys::token(shard, &draft.room, token),
                2 * self.settings.publish_timeout,
            ),
        };
        let share = self.settings.journal_max / usize::from(self.settings.shards);
        cmd("EVALSHA")
            .arg(&self.script)
            .arg(3)
            .arg(keys::journal(shard))
            .arg(keys::recent(shard, &draft.room))
            .arg(idempotency)
            .arg(keys::channel(shard, &draft.room))
            .arg(draft.room.as_str())
            .arg(payload)
            .arg(
                draft
                    .notify
                    .map(|gateway| gateway.to_string())
                    .unwrap_or_default(),
            )
            .arg(least.ms)
            .arg(least.seq)
            .arg(share.max(1))
            .arg(self.settings.recent_max.max(1))
            .arg(millis(self.settings.recent_ttl))
            .arg(millis(kept))
            .arg(token)
            .take()
    }

    /// A stamp by this process's own clock: unique, and in order only as far as the clocks agree.
    fn own_stamp(&self, count: u64) -> Stamp {
        let since_1970 = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let seq = (count & 0xf_ffff) << 32 | self.process & 0xffff_ffff;
        Stamp {
            ms: millis(since_1970),
            seq,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .max(1)
}
