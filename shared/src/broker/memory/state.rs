//! What accepting a message does, in one step under the broker's lock.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::journal::Journal;
use super::rooms::Rooms;
use crate::broker::inbox::Inbox;
use crate::broker::shard::shard_of;
use crate::broker::window::above;
use crate::broker::{Accepted, Earlier, Entry, IDEMPOTENCY_WINDOW, PublishError, Recent};
use crate::config::{BrokerSettings, Delivery};
use crate::message::{
    Draft, GatewayId, IdempotencyKey, Message, MessageId, RoomName, Span, Stamp, UsedKey, UserName,
};

/// The most idempotency keys that are remembered at a time.
const MAX_KEYS: usize = 1_000_000;

/// Everything that the broker holds.
pub(super) struct State {
    settings: BrokerSettings,
    /// The newest stamp of each shard; ids only grow in it.
    newest: Vec<Stamp>,
    keys: HashMap<Arc<Used>, MessageId>,
    /// The keys in the order in which they are forgotten.
    forgetting: VecDeque<(Instant, Arc<Used>)>,
    pub(super) rooms: Rooms,
    pub(super) journal: Journal,
    /// The feeds of at-most-once delivery.
    pub(super) inboxes: Vec<Weak<Inbox>>,
}

#[derive(PartialEq, Eq, Hash)]
struct Used {
    room: RoomName,
    sender: UserName,
    key: IdempotencyKey,
}

impl State {
    pub(super) fn new(settings: BrokerSettings, earlier: Earlier) -> Self {
        let floor = (earlier.newest).map_or(Stamp { ms: 0, seq: 0 }, MessageId::stamp);
        let mut state = Self {
            newest: vec![floor; settings.shards.into()],
            keys: HashMap::new(),
            forgetting: VecDeque::new(),
            rooms: Rooms::new(settings.recent_max, settings.recent_ttl),
            journal: Journal::new(settings.journal_max, settings.takeover_after),
            inboxes: Vec::new(),
            settings,
        };
        let now = Instant::now();
        for UsedKey {
            id,
            room,
            sender,
            key,
        } in earlier.keys
        {
            let age = id.created_at().elapsed().unwrap_or_default();
            if let Some(left) = IDEMPOTENCY_WINDOW.checked_sub(age) {
                state.remember(Arc::new(Used { room, sender, key }), id, now + left);
            }
        }
        state
    }

    /// Accepts a draft as [`crate::broker::Broker::publish`] says.
    pub(super) fn accept(&mut self, draft: Draft) -> Result<Accepted, PublishError> {
        if draft.ephemeral {
            return Ok(self.show(draft));
        }
        if draft.series.has_failed() {
            return Err(PublishError::Unavailable);
        }
        let series = draft.series.clone();
        self.accept_next(draft).inspect_err(|_| series.fail())
    }

    /// Hands a draft to those who listen, and keeps nothing of it but that its id is used.
    fn show(&mut self, draft: Draft) -> Accepted {
        let id = self.next_id(&draft.room, None);
        let id = MessageId::ephemeral(id.stamp(), id.shard());
        let message = message(id, None, draft);
        self.rooms.deliver(&message, false, Instant::now());
        Accepted {
            id,
            repeated: false,
            prev: None,
        }
    }

    fn accept_next(&mut self, draft: Draft) -> Result<Accepted, PublishError> {
        let now = Instant::now();
        let journaled = self.settings.delivery == Delivery::AtLeastOnce;
        self.forget(now);
        let used = draft
            .idempotency_key
            .clone()
            .filter(|_| journaled)
            .map(|key| {
                Arc::new(Used {
                    room: draft.room.clone(),
                    sender: draft.sender.clone(),
                    key,
                })
            });
        if let Some(used) = &used {
            if let Some(&id) = self.keys.get(used) {
                return Ok(Accepted {
                    id,
                    repeated: true,
                    prev: None,
                });
            }
            if self.keys.len() >= MAX_KEYS {
                return Err(PublishError::Overloaded);
            }
        }
        if journaled && self.journal.is_full() {
            return Err(PublishError::Full);
        }

        let notify = draft.notify;
        let id = self.next_id(&draft.room, draft.newer_than);
        let prev = self.rooms.newest(&draft.room);
        let message = message(id, prev, draft);
        self.rooms.deliver(&message, journaled, now);
        if journaled {
            self.journal.append(Arc::clone(&message), notify);
        } else {
            self.offer(&message, notify);
        }
        if let Some(used) = used {
            self.remember(used, id, now + IDEMPOTENCY_WINDOW);
        }
        Ok(Accepted {
            id,
            repeated: false,
            prev,
        })
    }

    /// Reads a room as [`crate::broker::Broker::recent`] says.
    pub(super) fn recent(&mut self, room: &RoomName, span: Span, limit: usize) -> Recent {
        let shard = shard_of(room, self.settings.shards);
        let journaled = self.settings.delivery == Delivery::AtLeastOnce;
        let horizon = journaled.then(|| above(self.newest[usize::from(shard)]));
        Recent {
            horizon,
            ..self.rooms.recent(room, span, limit)
        }
    }

    /// Takes settled entries out of the journal, and notifies the gateways.
    pub(super) fn settle(&mut self, ids: impl Iterator<Item = (MessageId, Option<GatewayId>)>) {
        let mut notices: HashMap<GatewayId, Vec<MessageId>> = HashMap::new();
        for (id, notify) in ids {
            if let Some(message) = self.journal.remove(id) {
                self.rooms.settle(&message);
            }
            if let Some(gateway) = notify {
                notices.entry(gateway).or_default().push(id);
            }
        }
        for (gateway, ids) in notices {
            self.rooms.notify(gateway, ids);
        }
    }

    /// The least id that is greater than every one that must come before it, and not before now.
    fn next_id(&mut self, room: &RoomName, newer_than: Option<MessageId>) -> MessageId {
        let shard = shard_of(room, self.settings.shards);
        let newest = &mut self.newest[usize::from(shard)];
        let before = newer_than.map_or(*newest, |id| id.stamp().max(*newest));
        let since_1970 = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now = Stamp {
            ms: since_1970.as_millis() as u64,
            seq: 0,
        };
        *newest = now.max(Stamp {
            ms: before.ms,
            seq: before.seq + 1,
        });
        MessageId::new(*newest, shard)
    }

    fn remember(&mut self, used: Arc<Used>, id: MessageId, until: Instant) {
        self.forgetting.push_back((until, Arc::clone(&used)));
        self.keys.insert(used, id);
    }

    fn forget(&mut self, now: Instant) {
        while self.forgetting.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, used)) = self.forgetting.pop_front() {
                self.keys.remove(&used);
            }
        }
    }

    fn offer(&mut self, message: &Arc<Message>, notify: Option<GatewayId>) {
        self.inboxes.retain(|inbox| {
            let Some(inbox) = inbox.upgrade() else {
                return false;
            };
            inbox.offer(Entry {
                id: message.id,
                content: Ok(Arc::clone(message)),
                notify,
            });
            true
        });
    }
}

fn message(id: MessageId, prev: Option<MessageId>, draft: Draft) -> Arc<Message> {
    Arc::new(Message {
        id,
        prev,
        room: draft.room,
        sender: draft.sender,
        content_type: draft.content_type,
        headers: draft.headers,
        body: draft.body,
        idempotency_key: draft.idempotency_key,
        ephemeral: draft.ephemeral,
    })
}
