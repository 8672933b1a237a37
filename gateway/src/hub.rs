//! Which connections want which room, and the repair of what a room has missed.

mod repair;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OnceCell, Semaphore};
use tokio::time::Instant;

use shared::broker::{BrokerError, Shown, Subscriber};
use shared::config::{Protection, Without};
use shared::message::{Message, MessageId, RoomName, Span};
use shared::metrics::GatewayMetrics;

use crate::members::Member;
use crate::past::Past;
use crate::room::Room;
use crate::session::output::Address;

/// How many rooms are repaired at a time, so that a broker that has just come back is not run
/// over.
const REPAIRS: usize = 16;

/// The rooms of one gateway.
pub(crate) struct Hub {
    rooms: Mutex<HashMap<RoomName, Arc<Seat>>>,
    subscriber: Arc<dyn Subscriber>,
    /// Where what is shown before its copy comes over the live link is noted.
    shown: Option<Shown>,
    past: Arc<Past>,
    journaled: bool,
    window: Duration,
    max_held_bytes: usize,
    repairs: Semaphore,
    /// When a reading for a repair last succeeded.
    progress: Mutex<Instant>,
    without: Without,
    metrics: Arc<GatewayMetrics>,
}

/// A room, and whether the broker has confirmed it.
struct Seat {
    name: RoomName,
    room: Mutex<Room>,
    joined: OnceCell<()>,
}

/// An ephemeral message on its way to a room that has members here. Dropping it says that nobody waits for
/// its answer any more.
pub(crate) struct Whisper {
    seat: Arc<Seat>,
    accepted: Option<MessageId>,
}

impl Whisper {
    /// The broker has answered: the id, where it was accepted.
    pub(crate) fn answered(mut self, id: Option<MessageId>) {
        self.accepted = id;
    }
}

impl Drop for Whisper {
    fn drop(&mut self) {
        self.seat.room().whispers.answered(self.accepted);
    }
}

/// A member's place in a room; dropping it leaves.
pub(crate) struct Membership {
    hub: Arc<Hub>,
    seat: Arc<Seat>,
    address: Address,
    member: Member,
}

impl Hub {
    /// A hub without rooms. `journaled` is what the broker guarantees, `window` how long its
    /// [windows](shared::broker::Broker::window) are kept, and `max_outbox_bytes` what members can
    /// take at once.
    pub(crate) fn new(
        subscriber: Arc<dyn Subscriber>,
        past: Arc<Past>,
        journaled: bool,
        window: Duration,
        max_outbox_bytes: usize,
        without: Without,
        metrics: Arc<GatewayMetrics>,
    ) -> Self {
        Self {
            rooms: Mutex::default(),
            subscriber,
            shown: None,
            past,
            journaled,
            window,
            // All of it is released at once.
            max_held_bytes: max_outbox_bytes / 2,
            repairs: Semaphore::new(REPAIRS),
            progress: Mutex::new(Instant::now()),
            without,
            metrics,
        }
    }

    /// The same hub, which notes there what it shows by the answers to publishes.
    pub(crate) fn noting(mut self, shown: Shown) -> Self {
        self.shown = Some(shown);
        self
    }

    /// Enters a room: what arrives from now on is pushed to the member's outbox. Nothing is sure
    /// to arrive until [`Membership::confirmed`].
    pub(crate) fn join(
        self: &Arc<Self>,
        name: RoomName,
        address: Address,
        member: Member,
    ) -> Membership {
        let mut rooms = self.rooms();
        let seat = rooms.entry(name).or_insert_with_key(|name| {
            self.metrics.rooms.inc();
            Arc::new(Seat {
                name: name.clone(),
                room: Mutex::new(Room::new(
                    self.journaled,
                    !self.without.has(Protection::PrevCheck),
                    self.window,
                    self.max_held_bytes,
                )),
                joined: OnceCell::new(),
            })
        });
        seat.room().members.join(&address, member.clone());
        Membership {
            hub: Arc::clone(self),
            seat: Arc::clone(seat),
            address,
            member,
        }
    }

    /// Delivers a message to the members of its room.
    pub(crate) fn dispatch(self: &Arc<Self>, message: &Arc<Message>) {
        let Some(seat) = self.rooms().get(&message.room).cloned() else {
            return;
        };
        let whole = seat.room().arrive(message);
        if !whole {
            tokio::spawn(Arc::clone(self).repair(seat));
        }
    }

    /// Shows a message by the answer to its publish, where it is the next one in its room.
    pub(crate) fn answered(&self, message: &Message) {
        let Some(seat) = self.rooms().get(&message.room).cloned() else {
            return;
        };
        let is_shown = seat.room().answered(message);
        if let (true, Some(shown)) = (is_shown, &self.shown) {
            shown.note(message.id);
        }
    }

    /// An ephemeral message is published in a room; the answer is for the room that it gives.
    pub(crate) fn whisper(&self, name: &RoomName) -> Option<Whisper> {
        let seat = self.rooms().get(name).cloned()?;
        seat.room().whispers.publish();
        Some(Whisper {
            seat,
            accepted: None,
        })
    }

    /// Repairs every room: something may have been missed in any of them.
    pub(crate) fn repair_all(self: &Arc<Self>) {
        // Without a journal what was missed is lost; that is the price of at-most-once.
        if !self.journaled {
            return;
        }
        let seats: Vec<_> = self.rooms().values().cloned().collect();
        for seat in seats {
            let begun = seat.room().begin_repair();
            if begun {
                tokio::spawn(Arc::clone(self).repair(seat));
            }
        }
    }

    /// The newest message that this gateway knows of a room.
    pub(crate) fn newest(&self, name: &RoomName) -> Option<MessageId> {
        let seat = self.rooms().get(name).cloned()?;
        seat.room().newest()
    }

    /// Closes a room, unless it has been opened anew since. The caller holds `rooms` throughout, so
    /// that the broker sees a room's subscribe and unsubscribe in the order in which its seats come
    /// and go.
    fn vacate(&self, rooms: &mut HashMap<RoomName, Arc<Seat>>, seat: &Arc<Seat>) {
        match rooms.get(&seat.name) {
            Some(current) if !Arc::ptr_eq(current, seat) => return,
            Some(_) => {
                rooms.remove(&seat.name);
                self.metrics.rooms.dec();
            }
            None => {}
        }
        self.subscriber.unsubscribe(&seat.name);
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<RoomName, Arc<Seat>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Membership {
    /// Resolves once the broker has confirmed the room: every message accepted from then on is
    /// pushed to the outbox, or the gap is repaired, or the outbox is cut. The future does not
    /// hold the membership.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker does not confirm in time.
    pub(crate) fn confirmed(&self) -> impl Future<Output = Result<(), BrokerError>> + Send + use<> {
        let hub = Arc::clone(&self.hub);
        let seat = Arc::clone(&self.seat);
        async move {
            if !seat.joined.initialized() {
                // Each asks for itself: in line, the deadlines of all before would add up.
                hub.subscriber.subscribe(seat.name.clone()).await?;
                seat.joined.get_or_init(|| hub.measure(&seat)).await;
            }
            Ok(())
        }
    }
}

impl Hub {
    /// Finds out from where a later gap in the room is measured. Where that cannot be read, a gap
    /// cuts the members off.
    async fn measure(&self, seat: &Seat) {
        if !self.journaled {
            return;
        }
        loop {
            let newest = match self.past.attach(&seat.name, Span::Newest, 1).await {
                Ok(page) if page.complete => {
                    let newest = page.messages.last();
                    Some(newest.map_or(MessageId::MIN, |newest| newest.id))
                }
                _ => None,
            };
            if seat.room().confirm(newest) {
                return;
            }
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut rooms = self.hub.rooms();
        let mut room = self.seat.room();
        room.members.leave(&self.address, &self.member);
        if room.members.is_empty() {
            self.hub.vacate(&mut rooms, &self.seat);
        }
    }
}
