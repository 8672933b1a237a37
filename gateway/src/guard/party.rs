//! Those who have a user, or an address, in common, and what they take together.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use shared::message::RoomName;

use super::bucket::Bucket;
use super::turned::TurnedAway;
use crate::close::CloseReason;
use crate::config::Share;

/// What a limit is about: the values of the metric label `scope`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One connection.
    Connection,
    /// All connections of a user.
    User,
    /// All connections from an address.
    Address,
}

impl Scope {
    /// The value of the metric label `scope`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::User => "user",
            Self::Address => "address",
        }
    }
}

/// All who have one user, or one address, in common. It has no clock: times are passed in.
#[derive(Debug)]
pub struct Party {
    scope: Scope,
    share: Share,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connections: usize,
    connects: Option<Bucket>,
    frames: Option<Bucket>,
    octets: Option<Bucket>,
    subscriptions: usize,
    /// How many subscriptions each room has, where rooms are counted.
    rooms: HashMap<RoomName, usize>,
}

/// A connection that counts with its party until this is dropped.
#[derive(Debug)]
pub struct Seat(Arc<Party>);

/// A subscription that counts with its parties until this is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    parties: Vec<Arc<Party>>,
    pub(crate) room: RoomName,
}

impl Party {
    /// Nobody yet, with this share.
    pub fn new(scope: Scope, share: Share) -> Arc<Self> {
        let state = State {
            connects: share.connects.map(Bucket::new),
            frames: share.frames.map(Bucket::new),
            octets: share.octets.map(Bucket::new),
            ..State::default()
        };
        Arc::new(Self {
            scope,
            share,
            state: Mutex::new(state),
        })
    }

    /// What they have in common.
    pub(crate) fn scope(&self) -> Scope {
        self.scope
    }

    /// Whether frames, and whether octets, have a rate.
    pub(crate) fn has_rates(&self) -> (bool, bool) {
        (self.share.frames.is_some(), self.share.octets.is_some())
    }

    /// Counts one more connection.
    pub(super) fn sit(self: &Arc<Self>, now: Instant) -> Result<Seat, TurnedAway> {
        let mut state = self.state();
        // First the rate: who is told to stay away for being too many shall not come back at once.
        if let Some(until) = state
            .connects
            .as_mut()
            .and_then(|connects| connects.try_take(now, 1))
        {
            return Err(TurnedAway::Rate(until.duration_since(now)));
        }
        if self
            .share
            .connections
            .is_some_and(|most| state.connections >= most)
        {
            return Err(match self.scope {
                Scope::User => TurnedAway::User,
                Scope::Address | Scope::Connection => TurnedAway::Address,
            });
        }
        state.connections += 1;
        Ok(Seat(Arc::clone(self)))
    }

    /// Takes a frame; until when whoever sent it has to wait.
    pub(crate) fn take_frame(&self, now: Instant) -> Option<Instant> {
        self.state().frames.as_mut()?.take(now, 1)
    }

    /// Takes octets; until when whoever sent them has to wait.
    pub(crate) fn take_octets(&self, now: Instant, count: usize) -> Option<Instant> {
        self.state().octets.as_mut()?.take(now, count)
    }

    /// Takes a request, or refuses it: nothing may wait for it.
    pub(super) fn take_request(&self, now: Instant) -> Result<(), TurnedAway> {
        let mut state = self.state();
        let State { frames, octets, .. } = &mut *state;
        let lacks_octets = octets.as_mut().and_then(|octets| octets.try_take(now, 0));
        let wait = lacks_octets.or_else(|| frames.as_mut()?.try_take(now, 1));
        wait.map_or(Ok(()), |until| {
            Err(TurnedAway::Rate(until.duration_since(now)))
        })
    }

    /// Whether there is nothing to remember of it.
    fn is_idle(&self, now: Instant) -> bool {
        let state = self.state();
        let buckets = [&state.connects, &state.frames, &state.octets];
        state.connections == 0
            && state.subscriptions == 0
            && buckets.into_iter().flatten().all(|one| one.is_full(now))
    }

    /// Counts one more subscription, or says what there are enough of.
    fn subscribe(&self, room: &RoomName) -> Result<(), (CloseReason, String)> {
        let of = match self.scope {
            Scope::User => "user",
            Scope::Address => "address",
            Scope::Connection => "connection",
        };
        let mut state = self.state();
        if let Some(most) = self.share.subscriptions
            && state.subscriptions >= most
        {
            let text = format!("at most {most} per {of}");
            return Err((CloseReason::TooManySubscriptions, text));
        }
        if let Some(most) = self.share.rooms {
            if state.rooms.len() >= most && !state.rooms.contains_key(room) {
                let text = format!("at most {most} rooms per {of}");
                return Err((CloseReason::TooManyRooms, text));
            }
            *state.rooms.entry(room.clone()).or_default() += 1;
        }
        state.subscriptions += 1;
        Ok(())
    }

    fn unsubscribe(&self, room: &RoomName) {
        let mut state = self.state();
        state.subscriptions -= 1;
        if let Some(count) = state.rooms.get_mut(room) {
            *count -= 1;
            if *count == 0 {
                state.rooms.remove(room);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Counts a subscription to `room` with all of these, or with none.
    pub(crate) fn new(
        parties: &[Arc<Party>],
        room: &RoomName,
    ) -> Result<Self, (CloseReason, String)> {
        let mut claim = Self {
            parties: Vec::new(),
            room: room.clone(),
        };
        for party in parties {
            party.subscribe(room)?;
            claim.parties.push(Arc::clone(party));
        }
        Ok(claim)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        for party in &self.parties {
            party.unsubscribe(&self.room);
        }
    }
}

impl Seat {
    /// Whom it counts with.
    pub(crate) fn party(&self) -> &Arc<Party> {
        &self.0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.state().connections -= 1;
    }
}

/// All parties of one kind that there is anything to know of.
#[derive(Debug)]
pub(super) struct Parties<K> {
    scope: Scope,
    share: Share,
    known: Mutex<HashMap<K, Arc<Party>>>,
}

impl<K: Eq + Hash> Parties<K> {
    pub(super) fn new(scope: Scope, share: Share) -> Self {
        Self {
            scope,
            share,
            known: Mutex::default(),
        }
    }

    /// The party of this key; `None` where nothing limits it.
    pub(super) fn of(&self, key: K) -> Option<Arc<Party>> {
        if self.share.is_unlimited() {
            return None;
        }
        let mut known = self.known();
        let party = known
            .entry(key)
            .or_insert_with(|| Party::new(self.scope, self.share));
        Some(Arc::clone(party))
    }

    /// Forgets those of whom nobody is here and whose buckets are full: they are as if they had
    /// never been.
    pub(super) fn sweep(&self, now: Instant) {
        let mut known = self.known();
        // Nobody can come to hold one meanwhile: that takes the lock that is held here.
        known.retain(|_, party| Arc::strong_count(party) > 1 || !party.is_idle(now));
        if known.capacity() > 4 * known.len() + 1024 {
            known.shrink_to_fit();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known().len()
    }

    fn known(&self) -> MutexGuard<'_, HashMap<K, Arc<Party>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
