//! Which rooms a fan-out wants and which it has: what a connection was told is lost with it, so
//! the wish is kept here. Each shard's rooms are leased to the one link that goes to its home.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::broker::shard::shard_of;
use crate::message::RoomName;

/// The wished-for rooms, the subscribed ones, and who waits for a confirmation.
pub(super) struct Registry {
    state: Mutex<State>,
}

struct State {
    shards: Vec<Shard>,
    holders: HashMap<u64, Holder>,
    leases: u64,
}

#[derive(Default)]
struct Shard {
    wanted: HashMap<RoomName, Vec<oneshot::Sender<()>>>,
    subscribed: HashSet<RoomName>,
    /// Those in the holder's queue.
    queued: HashSet<RoomName>,
    holder: Option<u64>,
}

/// A lease's own part.
struct Holder {
    /// Rooms whose wish may differ from what the connection was told, oldest first.
    queue: VecDeque<Room>,
    changed: Arc<Notify>,
}

/// A room and its shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) shard: u16,
    pub(super) name: RoomName,
}

/// What a connection has to be told next.
#[derive(Default)]
pub(super) struct Change {
    pub(super) add: Vec<Room>,
    pub(super) remove: Vec<Room>,
}

/// The right to say what is confirmed in some shards, until it is dropped or another has it.
pub(super) struct Lease {
    registry: Arc<Registry>,
    shards: Vec<u16>,
    holder: u64,
    changed: Arc<Notify>,
}

impl Registry {
    /// A registry for this many shards.
    pub(super) fn new(shards: u16) -> Arc<Self> {
        let shards = (0..shards).map(|_| Shard::default()).collect();
        Arc::new(Self {
            state: Mutex::new(State {
                shards,
                holders: HashMap::new(),
                leases: 0,
            }),
        })
    }

    /// Wishes for a room; the answer comes when it is confirmed, and is none where it already is.
    pub(super) fn want(&self, name: RoomName) -> Option<oneshot::Receiver<()>> {
        let state = &mut *self.lock();
        let room = state.room(name);
        let shard = &mut state.shards[usize::from(room.shard)];
        let waiting = shard.wanted.entry(room.name.clone()).or_default();
        if shard.subscribed.contains(&room.name) {
            return None;
        }
        let (confirm, confirmed) = oneshot::channel();
        waiting.retain(|waiter| !waiter.is_closed());
        waiting.push(confirm);
        state.queue(room);
        Some(confirmed)
    }

    /// Wishes for a room no longer.
    pub(super) fn forget(&self, name: &RoomName) {
        let state = &mut *self.lock();
        let room = state.room(name.clone());
        let shard = &mut state.shards[usize::from(room.shard)];
        if shard.wanted.remove(name).is_some() {
            state.queue(room);
        }
    }

    /// Takes over some shards for a new connection, which knows nothing: every wanted room of
    /// theirs is to be confirmed again.
    pub(super) fn lease(self: &Arc<Self>, shards: Vec<u16>) -> Lease {
        let state = &mut *self.lock();
        state.leases += 1;
        let holder = state.leases;
        let changed = Arc::new(Notify::new());
        let mut queue = VecDeque::new();
        for number in &shards {
            let shard = &mut state.shards[usize::from(*number)];
            shard.holder = Some(holder);
            shard.subscribed.clear();
            shard.queued = shard.wanted.keys().cloned().collect();
            queue.extend(shard.queued.iter().map(|name| Room {
                shard: *number,
                name: name.clone(),
            }));
        }
        let held = Holder {
            queue,
            changed: Arc::clone(&changed),
        };
        state.holders.insert(holder, held);
        Lease {
            registry: Arc::clone(self),
            shards,
            holder,
            changed,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// The shards that it was given for.
    pub(super) fn shards(&self) -> &[u16] {
        &self.shards
    }

    /// Waits until there may be something to tell the connection.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// How many rooms the connection may have to be told of.
    pub(super) fn backlog(&self) -> usize {
        let state = self.registry.lock();
        state.holders[&self.holder].queue.len()
    }

    /// Takes up to `max` rooms, the oldest wish first, that the connection may have to be told of.
    pub(super) fn take(&self, max: usize) -> Change {
        let state = &mut *self.registry.lock();
        let holder = state
            .holders
            .get_mut(&self.holder)
            .expect("a holder stays as long as its lease");
        let mut change = Change::default();
        let most = max.min(holder.queue.len());
        for room in holder.queue.drain(..most) {
            let shard = &mut state.shards[usize::from(room.shard)];
            if shard.holder != Some(self.holder) {
                continue;
            }
            shard.queued.remove(&room.name);
            let wanted = shard.wanted.contains_key(&room.name);
            if wanted && !shard.subscribed.contains(&room.name) {
                change.add.push(room);
            } else if !wanted && shard.subscribed.remove(&room.name) {
                change.remove.push(room);
            }
        }
        change
    }

    /// The connection has confirmed these. Where another has the shard now, that says nothing.
    pub(super) fn confirm(&self, added: Vec<Room>) {
        let state = &mut *self.registry.lock();
        for room in added {
            let shard = &mut state.shards[usize::from(room.shard)];
            if shard.holder != Some(self.holder) {
                continue;
            }
            let waiting = shard.wanted.get_mut(&room.name).map(std::mem::take);
            for waiter in waiting.unwrap_or_default() {
                let _ = waiter.send(());
            }
            shard.subscribed.insert(room.name);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let state = &mut *self.registry.lock();
        state.holders.remove(&self.holder);
        for number in &self.shards {
            let shard = &mut state.shards[usize::from(*number)];
            if shard.holder == Some(self.holder) {
                shard.holder = None;
                shard.subscribed.clear();
                shard.queued.clear();
            }
        }
    }
}

impl State {
    fn room(&self, name: RoomName) -> Room {
        let shards = u16::try_from(self.shards.len()).expect("it was made of a u16");
        Room {
            shard: shard_of(&name, shards),
            name,
        }
    }

    /// While no one holds the shard nothing is queued: whoever takes it over starts from the wishes.
    fn queue(&mut self, room: Room) {
        let shard = &mut self.shards[usize::from(room.shard)];
        let holder = shard
            .holder
            .and_then(|holder| self.holders.get_mut(&holder));
        if let Some(holder) = holder
            && shard.queued.insert(room.name.clone())
        {
            holder.queue.push_back(room);
            holder.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).unwrap()
    }

    fn names(rooms: Vec<Room>) -> Vec<RoomName> {
        rooms.into_iter().map(|room| room.name).collect()
    }

    #[test]
    fn the_last_wish_wins_whatever_is_under_way() {
        let registry = Registry::new(1);
        let lease = registry.lease(vec![0]);
        let mut confirmed = registry.want(room("a")).unwrap();
        let first = lease.take(500);
        assert_eq!(names(first.add.clone()), [room("a")]);
        registry.forget(&room("a"));
        lease.confirm(first.add);
        assert!(confirmed.try_recv().is_err());
        let second = lease.take(500);
        assert!(second.add.is_empty());
        assert_eq!(names(second.remove), [room("a")]);
        assert!(registry.want(room("a")).is_some());
        assert_eq!(names(lease.take(500).add), [room("a")]);
        assert_eq!(lease.backlog(), 0);
    }

    #[test]
    fn a_new_connection_is_told_of_every_wanted_room_in_chunks() {
        let registry = Registry::new(1);
        let lease = registry.lease(vec![0]);
        let _waiting: Vec<_> = (0..7)
            .map(|n| registry.want(room(&n.to_string())))
            .collect();
        registry.forget(&room("3"));
        let told = lease.take(500);
        assert_eq!(told.add.len(), 6);
        lease.confirm(told.add);
        assert!(registry.want(room("1")).is_none());
        let next = registry.lease(vec![0]);
        assert_eq!(next.backlog(), 6);
        // What is wished for meanwhile does not come before what was interrupted.
        let _new = registry.want(room("new"));
        let chunks: Vec<usize> = (0..4).map(|_| next.take(3).add.len()).collect();
        assert_eq!(chunks, [3, 3, 1, 0]);
    }

    #[test]
    fn only_the_holder_of_a_shard_confirms() {
        let registry = Registry::new(1);
        let old = registry.lease(vec![0]);
        let mut confirmed = registry.want(room("a")).unwrap();
        let told = old.take(1);
        let new = registry.lease(vec![0]);
        old.confirm(told.add);
        assert!(confirmed.try_recv().is_err());
        drop(old);
        let told = new.take(1);
        new.confirm(told.add);
        assert!(confirmed.try_recv().is_ok());
        assert!(registry.want(room("a")).is_none());
        drop(new);
        assert!(registry.want(room("a")).is_some(), "nobody has it any more");
    }

    #[test]
    fn what_comes_and_goes_during_an_outage_leaves_nothing() {
        let registry = Registry::new(1);
        drop(registry.lease(vec![0]));
        for n in 0..10 {
            let _ = registry.want(room(&n.to_string()));
            registry.forget(&room(&n.to_string()));
        }
        assert_eq!(registry.lease(vec![0]).backlog(), 0);
        let state = registry.lock();
        assert!(state.shards[0].wanted.is_empty() && state.holders.is_empty());
    }
}
