//! Publishing: drafts become requests in the order of the calls, and each goes down its room's
//! lane.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, future};
use prometheus::IntCounter;
use redis::cmd;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use super::acceptance::{Acceptance, Terms, millis};
use super::lane::{Content, Lane, Request};
use super::topology::Topology;
use super::unanswered::Unanswered;
use super::{keys, payload};
use crate::broker::shard::shard_of;
use crate::broker::{Accepted, PublishError};
use crate::config::{BrokerSettings, Delivery};
use crate::message::{Draft, MessageId, Series, Stamp};

/// What a request weighs in a queue beside the message, in octets.
const OVERHEAD: usize = 1024;

/// Publishes to one room take one lane, so they keep their order; a few lanes suffice for one
/// server to be busy.
const LANES: usize = 4;

/// The most octets of requests that wait or are in flight, in all lanes together.
const MAX_BYTES: usize = 64 << 20;

/// The least share of them that one lane has.
const MIN_SHARE: usize = 1 << 20;

/// Turns drafts into accepted messages.
pub(super) struct Publisher {
    lanes: Vec<Lane>,
    /// What all of them may hold together: with many, more than their shares add up.
    bytes: Arc<Semaphore>,
    settings: BrokerSettings,
    terms: Arc<Terms>,
    /// Tells this process's tokens and ids from all others'.
    process: u64,
    count: AtomicU64,
    unanswered: Unanswered,
}

impl Publisher {
    pub(super) fn start(
        topology: &Topology,
        settings: &BrokerSettings,
        reconnects: &IntCounter,
        unanswered: Unanswered,
    ) -> Self {
        let terms = Arc::new(Terms::new(settings, topology.is_cluster()));
        // All shards of a lane have one home: on a cluster each moves by itself.
        let lanes = if topology.is_cluster() {
            settings.shards
        } else {
            settings.shards.min(LANES as u16)
        };
        let share = (MAX_BYTES / usize::from(lanes).max(LANES)).max(MIN_SHARE);
        let lane = |shard| {
            Lane::start(
                topology,
                shard,
                settings.publish_timeout,
                share,
                &terms,
                reconnects,
            )
        };
        Self {
            lanes: (0..lanes).map(lane).collect(),
            bytes: Arc::new(Semaphore::new(MAX_BYTES)),
            settings: settings.clone(),
            terms: Arc::clone(&terms),
            process: fastrand::u64(..),
            count: AtomicU64::new(0),
            unanswered,
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
        let (content, size) = if self.settings.delivery == Delivery::AtLeastOnce && !draft.ephemeral
        {
            let token = format!("{:x}-{count:x}", self.process);
            let acceptance = Acceptance::new(&draft, shard, token, &self.terms);
            let size = acceptance.size();
            (Content::Message(Box::new(acceptance)), size)
        } else {
            self.plain(&draft, shard, count)
        };
        let size = OVERHEAD + size;
        let most = u32::try_from(size).unwrap_or(u32::MAX);
        let Ok(share) = Arc::clone(&self.bytes).try_acquire_many_owned(most) else {
            series.fail();
            return future::ready(Err(PublishError::Overloaded)).boxed();
        };
        let deadline = Instant::now() + self.settings.publish_timeout;
        let (answer, answered) = oneshot::channel();
        let request = Request {
            room: draft.room,
            shard,
            content,
            size,
            _share: share,
            ephemeral: draft.ephemeral,
            deadline,
            series: series.clone(),
            answer,
        };
        if !self.lanes[usize::from(shard) % self.lanes.len()].offer(request) {
            series.fail();
            return future::ready(Err(PublishError::Overloaded)).boxed();
        }
        let waiting = self.unanswered.wait();
        async move {
            let answer = timeout_at(deadline, answered).await;
            drop(waiting);
            match answer {
                Ok(Ok(answer)) => answer,
                _ => Err(PublishError::Unavailable),
            }
        }
        .boxed()
    }

    /// What is published and nothing else; its id is made here.
    fn plain(&self, draft: &Draft, shard: u16, count: u64) -> (Content, usize) {
        let stamp = self.own_stamp(count);
        let (id, notify) = if draft.ephemeral {
            (MessageId::ephemeral(stamp, shard), None)
        } else {
            (MessageId::new(stamp, shard), draft.notify)
        };
        let payload = payload::encode(draft, notify);
        let command = cmd(self.terms.publish)
            .arg(keys::channel(shard, &draft.room))
            .arg(payload::published(id.stamp(), &payload))
            .take();
        (Content::Plain { command, id }, payload.len())
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
