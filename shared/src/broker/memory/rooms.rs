//! What is known of each room: its recent window, what of it is not stored yet, and who listens.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::broker::handover::{Handover, weight};
use crate::broker::window::is_proven;
use crate::broker::{Event, Recent};
use crate::message::{GatewayId, Message, MessageId, RoomName, Span};

/// The most octets of messages in all recent windows together: beyond it, the window that has
/// been still for longest is forgotten early.
const MAX_BYTES: usize = 256 << 20;

/// The rooms in which something is held or someone listens.
pub(super) struct Rooms {
    window_max: usize,
    window_ttl: Duration,
    window_bytes: usize,
    rooms: HashMap<RoomName, Room>,
    /// Rooms with a window by the time of its expiry, once each; a room whose window was renewed
    /// since goes to the back when its turn comes.
    expiring: VecDeque<(Instant, RoomName)>,
    links: BTreeMap<u64, Link>,
    linked: u64,
}

struct Room {
    window: VecDeque<Arc<Message>>,
    expires: Instant,
    unsettled: BTreeMap<MessageId, Arc<Message>>,
    listeners: Vec<u64>,
}

struct Link {
    gateway: GatewayId,
    handover: Handover,
}

impl Rooms {
    pub(super) fn new(window_max: usize, window_ttl: Duration) -> Self {
        Self {
            window_max: window_max.max(1),
            window_ttl,
            window_bytes: 0,
            rooms: HashMap::new(),
            expiring: VecDeque::new(),
            links: BTreeMap::new(),
            linked: 0,
        }
    }

    /// The newest message of a room, unless its window has expired.
    pub(super) fn newest(&mut self, room: &RoomName) -> Option<MessageId> {
        self.expire();
        self.rooms
            .get(room)?
            .window
            .back()
            .map(|message| message.id)
    }

    /// Adds an accepted message to its room, and hands it to those who listen.
    pub(super) fn deliver(&mut self, message: &Arc<Message>, journaled: bool, now: Instant) {
        if journaled {
            self.keep(message, now);
        }
        let Some(room) = self.rooms.get(&message.room) else {
            return;
        };
        for link in room
            .listeners
            .iter()
            .filter_map(|link| self.links.get(link))
        {
            link.handover.offer(Event::Message(Arc::clone(message)));
        }
    }

    /// A message has left the journal.
    pub(super) fn settle(&mut self, message: &Message) {
        if let Some(room) = self.rooms.get_mut(&message.room) {
            room.unsettled.remove(&message.id);
        }
        self.tidy(&message.room);
    }

    /// Tells a gateway what is stored.
    pub(super) fn notify(&self, gateway: GatewayId, ids: Vec<MessageId>) {
        for link in self.links.values().filter(|link| link.gateway == gateway) {
            link.handover.offer(Event::Stored(ids.clone()));
        }
    }

    /// Adds a gateway's link, and removes those that were let go of.
    pub(super) fn link(&mut self, gateway: GatewayId, handover: Handover) -> u64 {
        let links = &mut self.links;
        links.retain(|_, link| !link.handover.is_closed());
        self.rooms.retain(|_, room| {
            room.listeners.retain(|link| links.contains_key(link));
            !room.is_empty()
        });
        self.linked += 1;
        links.insert(self.linked, Link { gateway, handover });
        self.linked
    }

    /// Adds a listener. It gets what is not stored yet too: that is shown when it is stored, and
    /// whoever reads the store before that would see it neither there nor live.
    pub(super) fn subscribe(&mut self, link: u64, room: RoomName) {
        let room = self.rooms.entry(room).or_insert_with(Room::new);
        if room.listeners.contains(&link) {
            return;
        }
        room.listeners.push(link);
        if let Some(Link { handover, .. }) = self.links.get(&link) {
            for message in room.unsettled.values() {
                handover.offer(Event::Message(Arc::clone(message)));
            }
        }
    }

    pub(super) fn unsubscribe(&mut self, link: u64, room: &RoomName) {
        if let Some(entry) = self.rooms.get_mut(room) {
            entry.listeners.retain(|listener| *listener != link);
        }
        self.tidy(room);
    }

    /// Reads a room as [`crate::broker::Broker::recent`] says.
    pub(super) fn recent(&mut self, room: &RoomName, span: Span, limit: usize) -> Recent {
        self.expire();
        let Some(room) = self.rooms.get(room) else {
            return Recent::default();
        };
        let mut messages: Vec<_> = room
            .window
            .iter()
            .filter(|message| span.contains(message.id))
            .cloned()
            .collect();
        span.cut(&mut messages, limit);
        let newest = room.window.back().map(|message| message.id);
        if is_proven(span, limit, &messages, newest) {
            return Recent {
                messages,
                complete: true,
                horizon: None,
            };
        }
        let held = room.window.iter().chain(room.unsettled.values());
        let union: BTreeMap<MessageId, &Arc<Message>> = held
            .filter(|message| span.contains(message.id))
            .map(|message| (message.id, message))
            .collect();
        let mut messages: Vec<_> = union.into_values().cloned().collect();
        span.cut(&mut messages, limit);
        Recent {
            messages,
            complete: false,
            horizon: None,
        }
    }

    fn keep(&mut self, message: &Arc<Message>, now: Instant) {
        let room = self
            .rooms
            .entry(message.room.clone())
            .or_insert_with(Room::new);
        room.expires = now + self.window_ttl;
        if room.window.is_empty() {
            self.expiring
                .push_back((room.expires, message.room.clone()));
        }
        room.window.push_back(Arc::clone(message));
        room.unsettled.insert(message.id, Arc::clone(message));
        self.window_bytes += weight(message);
        while room.window.len() > self.window_max {
            self.window_bytes -= room.window.pop_front().map_or(0, |oldest| weight(&oldest));
        }
        self.expire();
    }

    fn expire(&mut self) {
        let now = Instant::now();
        while let Some((at, _)) = self.expiring.front() {
            let crowded = self.window_bytes > MAX_BYTES;
            if *at > now && !crowded {
                break;
            }
            let Some((_, name)) = self.expiring.pop_front() else {
                break;
            };
            let Some(room) = self.rooms.get_mut(&name) else {
                continue;
            };
            if room.expires > now && !crowded {
                self.expiring.push_back((room.expires, name));
                continue;
            }
            self.window_bytes -= room.window.drain(..).map(|m| weight(&m)).sum::<usize>();
            self.tidy(&name);
        }
    }

    fn tidy(&mut self, name: &RoomName) {
        if self.rooms.get(name).is_some_and(Room::is_empty) {
            self.rooms.remove(name);
        }
    }
}

impl Room {
    fn new() -> Self {
        Self {
            window: VecDeque::new(),
            expires: Instant::now(),
            unsettled: BTreeMap::new(),
            listeners: Vec::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.window.is_empty() && self.unsettled.is_empty() && self.listeners.is_empty()
    }
}
