//! Which rooms a fan-out wants and which it has: what a connection was told is lost with it, so
//! the wish is kept here.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::message::RoomName;

/// The wished-for rooms, the subscribed ones, and who waits for a confirmation.
#[derive(Default)]
pub(super) struct Registry {
    rooms: Mutex<Rooms>,
    changed: Notify,
}

#[derive(Default)]
struct Rooms {
    wanted: HashMap<RoomName, Vec<oneshot::Sender<()>>>,
    subscribed: HashSet<RoomName>,
    /// Those whose wish may differ from what the connection was told.
    unsettled: HashSet<RoomName>,
}

/// What a connection has to be told next.
#[derive(Default)]
pub(super) struct Change {
    pub(super) add: Vec<RoomName>,
    pub(super) remove: Vec<RoomName>,
}

impl Registry {
    /// Wishes for a room; the answer comes when it is confirmed, and is none where it already is.
    pub(super) fn want(&self, room: RoomName) -> Option<oneshot::Receiver<()>> {
        let mut rooms = self.lock();
        let subscribed = rooms.subscribed.contains(&room);
        let waiting = rooms.wanted.entry(room.clone()).or_default();
        if subscribed {
            return None;
        }
        let (confirm, confirmed) = oneshot::channel();
        waiting.retain(|waiter| !waiter.is_closed());
        waiting.push(confirm);
        rooms.unsettled.insert(room);
        self.changed.notify_one();
        Some(confirmed)
    }

    /// Wishes for a room no longer.
    pub(super) fn forget(&self, room: &RoomName) {
        let mut rooms = self.lock();
        if rooms.wanted.remove(room).is_some() {
            rooms.unsettled.insert(room.clone());
            self.changed.notify_one();
        }
    }

    /// Waits until there may be something to tell the connection.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// A new connection knows nothing.
    pub(super) fn reset(&self) {
        let rooms = &mut *self.lock();
        rooms.subscribed.clear();
        rooms.unsettled = rooms.wanted.keys().cloned().collect();
    }

    /// Takes up to `max` rooms that the connection has to be told of; nothing when it knows all.
    pub(super) fn take(&self, max: usize) -> Change {
        let rooms = &mut *self.lock();
        let next: Vec<RoomName> = rooms.unsettled.iter().take(max).cloned().collect();
        let mut change = Change::default();
        for room in next {
            rooms.unsettled.remove(&room);
            let wanted = rooms.wanted.contains_key(&room);
            if wanted && !rooms.subscribed.contains(&room) {
                change.add.push(room);
            } else if !wanted && rooms.subscribed.remove(&room) {
                change.remove.push(room);
            }
        }
        change
    }

    /// Whether the connection knows all.
    pub(super) fn is_settled(&self) -> bool {
        self.lock().unsettled.is_empty()
    }

    /// The connection has confirmed these.
    pub(super) fn confirm(&self, added: Vec<RoomName>) {
        let rooms = &mut *self.lock();
        for room in added {
            for waiter in rooms
                .wanted
                .get_mut(&room)
                .map(std::mem::take)
                .unwrap_or_default()
            {
                let _ = waiter.send(());
            }
            rooms.subscribed.insert(room);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).unwrap()
    }

    #[test]
    fn the_last_wish_wins_whatever_is_under_way() {
        let registry = Registry::default();
        let mut confirmed = registry.want(room("a")).unwrap();
        let first = registry.take(500);
        assert_eq!(first.add, [room("a")]);
        registry.forget(&room("a"));
        registry.confirm(first.add);
        assert!(confirmed.try_recv().is_err());
        let second = registry.take(500);
        assert_eq!((second.add, second.remove), (vec![], vec![room("a")]));
        assert!(registry.want(room("a")).is_some());
        assert_eq!(registry.take(500).add, [room("a")]);
        assert!(registry.is_settled());
    }

    #[test]
    fn a_new_connection_is_told_of_every_wanted_room_in_chunks() {
        let registry = Registry::default();
        let _waiting: Vec<_> = (0..7)
            .map(|n| registry.want(room(&n.to_string())))
            .collect();
        registry.forget(&room("3"));
        let told = registry.take(500);
        assert_eq!(told.add.len(), 6);
        registry.confirm(told.add);
        assert!(registry.want(room("1")).is_none());
        registry.reset();
        let chunks: Vec<usize> = (0..3).map(|_| registry.take(4).add.len()).collect();
        assert_eq!(chunks, [4, 2, 0]);
    }
}
