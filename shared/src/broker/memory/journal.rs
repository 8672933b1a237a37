//! The accepted messages that are not stored yet, and who works on which.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::broker::Entry;
use crate::broker::handover::weight;
use crate::message::{GatewayId, Message, MessageId};

/// The most octets of messages that the journal holds.
const MAX_BYTES: usize = 256 << 20;

/// Bounded by entries and by octets.
pub(super) struct Journal {
    max: usize,
    takeover_after: Duration,
    bytes: usize,
    held: BTreeMap<MessageId, Held>,
    /// Those that nobody works on.
    ready: BTreeSet<MessageId>,
    checked: Instant,
    consumers: u64,
}

struct Held {
    message: Arc<Message>,
    notify: Option<GatewayId>,
    /// Who works on it, and since when.
    taken: Option<(u64, Instant)>,
}

impl Journal {
    pub(super) fn new(max: usize, takeover_after: Duration) -> Self {
        Self {
            max,
            takeover_after,
            bytes: 0,
            held: BTreeMap::new(),
            ready: BTreeSet::new(),
            checked: Instant::now(),
            consumers: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.held.len() >= self.max || self.bytes >= MAX_BYTES
    }

    pub(super) fn append(&mut self, message: Arc<Message>, notify: Option<GatewayId>) {
        self.bytes += weight(&message);
        self.ready.insert(message.id);
        self.held.insert(
            message.id,
            Held {
                message,
                notify,
                taken: None,
            },
        );
    }

    /// Names a new consumer.
    pub(super) fn consumer(&mut self) -> u64 {
        self.consumers += 1;
        self.consumers
    }

    /// Hands the oldest entries that nobody works on to a consumer, at most `max`.
    pub(super) fn take(&mut self, consumer: u64, max: usize) -> Vec<Entry> {
        let now = Instant::now();
        if now.duration_since(self.checked) >= self.takeover_after / 2 {
            self.checked = now;
            let silent = self.takeover_after;
            self.release(|_, since| now.duration_since(since) >= silent);
        }
        let mut entries = Vec::new();
        while entries.len() < max {
            let Some(id) = self.ready.pop_first() else {
                break;
            };
            let held = self.held.get_mut(&id).expect("what is ready is held");
            held.taken = Some((consumer, now));
            let content = Ok(Arc::clone(&held.message));
            entries.push(Entry {
                id,
                content,
                notify: held.notify,
            });
        }
        entries
    }

    /// Passes what a consumer had to the others.
    pub(super) fn abandon(&mut self, consumer: u64) {
        self.release(|owner, _| owner == consumer);
    }

    pub(super) fn remove(&mut self, id: MessageId) -> Option<Arc<Message>> {
        let held = self.held.remove(&id)?;
        self.ready.remove(&id);
        self.bytes -= weight(&held.message);
        Some(held.message)
    }

    fn release(&mut self, which: impl Fn(u64, Instant) -> bool) {
        for (id, held) in &mut self.held {
            if held.taken.is_some_and(|(owner, since)| which(owner, since)) {
                held.taken = None;
                self.ready.insert(*id);
            }
        }
    }
}
