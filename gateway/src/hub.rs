//! Which connections want which room, and the repair of what a room has missed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OnceCell, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};

use shared::backoff::Backoff;
use shared::broker::handover::weight;
use shared::broker::{BrokerError, Subscriber};
use shared::message::{Message, MessageId, RoomName, Span};
use shared::metrics::GatewayMetrics;

use crate::close::CloseReason;
use crate::past::{Past, PastPage};
use crate::room::{Member, Room};
use crate::session::output::Address;

/// How many rooms are repaired at a time, so that a broker that has just come back is not run
/// over.
const REPAIRS: usize = 16;

/// How many messages one reading of a repair fetches.
const PAGE: usize = 100;

/// How many octets a repair delivers before it lets the members read: at once, a long gap would
/// overflow the outbox of every one of them.
const STRIDE: usize = 64 << 10;

/// How long it lets them.
const BREATH: Duration = Duration::from_millis(1);

/// How long a repair may fail before the room's members are cut off, to come back with `after`.
const REPAIR_DEADLINE: Duration = Duration::from_secs(30);

/// The rooms of one gateway.
pub(crate) struct Hub {
    rooms: Mutex<HashMap<RoomName, Arc<Seat>>>,
    subscriber: Arc<dyn Subscriber>,
    past: Arc<Past>,
    journaled: bool,
    max_held_bytes: usize,
    repairs: Semaphore,
    metrics: Arc<GatewayMetrics>,
}

/// A room, and whether the broker has confirmed it.
struct Seat {
    name: RoomName,
    room: Mutex<Room>,
    joined: OnceCell<()>,
}

/// A member's place in a room; dropping it leaves.
pub(crate) struct Membership {
    hub: Arc<Hub>,
    seat: Arc<Seat>,
    address: Address,
    member: Member,
}

impl Hub {
    /// A hub without rooms. `journaled` is what the broker guarantees, and `max_outbox_bytes` is
    /// what members can take at once.
    pub(crate) fn new(
        subscriber: Arc<dyn Subscriber>,
        past: Arc<Past>,
        journaled: bool,
        max_outbox_bytes: usize,
        metrics: Arc<GatewayMetrics>,
    ) -> Self {
        Self {
            rooms: Mutex::default(),
            subscriber,
            past,
            journaled,
            // All of it is released at once.
            max_held_bytes: max_outbox_bytes / 2,
            repairs: Semaphore::new(REPAIRS),
            metrics,
        }
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
                room: Mutex::new(Room::new(self.journaled, self.max_held_bytes)),
                joined: OnceCell::new(),
            })
        });
        seat.room().join(&address, member.clone());
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

    /// Fetches what a room has missed and delivers it before anything newer; where that cannot be
    /// done in time, the members are cut off rather than left believing.
    async fn repair(self: Arc<Self>, seat: Arc<Seat>) {
        let mut deadline = Instant::now() + REPAIR_DEADLINE;
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let (mut has_missed, mut unread) = (false, 0);
        loop {
            let Some(newest) = seat.room().newest() else {
                break;
            };
            // A turn lasts for one reading, so that a room which cannot be read blocks no other.
            let page = match timeout_at(deadline, self.repairs.acquire()).await {
                Ok(Ok(_turn)) => self.past.read(&seat.name, Span::After(newest), PAGE).await,
                _ => break,
            };
            match page {
                Ok(PastPage {
                    messages,
                    complete: true,
                }) => {
                    has_missed |= !messages.is_empty();
                    deadline = Instant::now() + REPAIR_DEADLINE;
                    for message in &messages {
                        seat.room().deliver(message);
                        unread += weight(message);
                        if unread > STRIDE {
                            unread = 0;
                            sleep(BREATH).await;
                        }
                    }
                    if messages.len() < PAGE && seat.room().end_repair() {
                        if has_missed {
                            self.metrics.gaps_repaired.inc();
                        }
                        return;
                    }
                }
                Ok(_) | Err(_) if Instant::now() < deadline => sleep(backoff.next()).await,
                Ok(_) | Err(_) => break,
            }
        }
        tracing::warn!("a room's members are cut off: what it missed cannot be read");
        self.metrics.gaps_unrepaired.inc();
        // Who comes now begins anew, instead of waiting for what those before have missed.
        let mut rooms = self.rooms();
        self.vacate(&mut rooms, &seat);
        seat.room().cut(CloseReason::GapUnrepaired);
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
            let newest = match self.past.read(&seat.name, Span::Newest, 1).await {
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
        room.leave(&self.address, &self.member);
        if room.is_empty() {
            self.hub.vacate(&mut rooms, &self.seat);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use shared::broker::{self, Broker, Settled};
    use shared::config::{BrokerSettings, BrokerUrl, Delivery, Retention, StoreSettings, StoreUrl};
    use shared::message::{Draft, GatewayId, Series, UserName};
    use shared::metrics::Metrics;
    use shared::stomp::Version;
    use shared::store;

    use super::*;
    use crate::outbox::{Outbox, outbox};
    use crate::session::output::Slot;

    const SECOND: Duration = Duration::from_secs(1);

    fn room() -> RoomName {
        RoomName::parse("r").unwrap()
    }

    async fn publish(broker: &Arc<dyn Broker>) {
        let draft = Draft {
            room: room(),
            sender: UserName::parse("kim").unwrap(),
            content_type: None,
            headers: Vec::new(),
            body: Bytes::from_static(b"hi"),
            idempotency_key: None,
            newer_than: None,
            notify: None,
            series: Series::default(),
            ephemeral: false,
        };
        broker.publish(draft).await.unwrap();
    }

    /// Takes everything out of the journal, and returns it.
    async fn settle(broker: &Arc<dyn Broker>) -> Vec<Arc<Message>> {
        let mut feed = broker.open_feed("test").await.unwrap();
        let entries = feed.next(100, Duration::ZERO).await.unwrap();
        let settled = entries.iter().map(|entry| Settled {
            id: entry.id,
            notify: None,
        });
        feed.settle(settled.collect()).await.unwrap();
        entries
            .into_iter()
            .map(|entry| entry.content.unwrap())
            .collect()
    }

    fn enter(hub: &Arc<Hub>, outbox: &Outbox) -> Membership {
        let address = Address {
            version: Version::V1_2,
            subscription: Some("s".into()),
            destination: "/topic/rooms/r".into(),
            acknowledged: false,
            text_only: false,
        };
        let member = Member {
            outbox: outbox.clone(),
            slot: Slot(0),
        };
        hub.join(room(), address, member)
    }

    #[tokio::test]
    async fn members_are_told_of_a_gap_that_cannot_be_read_and_who_comes_after_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("messages.db");
        let broker = BrokerSettings {
            url: BrokerUrl::Memory,
            delivery: Delivery::AtLeastOnce,
            shards: 1,
            journal_max: 100,
            recent_max: 1,
            recent_ttl: 1000 * SECOND,
            publish_timeout: SECOND,
            connect_timeout: SECOND,
            takeover_after: SECOND,
            replicas: None,
            without: shared::config::Without::NOTHING,
        };
        let store = StoreSettings {
            url: StoreUrl::Sqlite(file.clone()),
            connect_timeout: 60 * SECOND,
            operation_timeout: 60 * SECOND,
            retention: Retention::Unchanged,
        };
        let metrics = Metrics::new();
        let broker = broker::open(&broker, &metrics, broker::Earlier::default())
            .await
            .unwrap();
        let store = store::open(&store).await.unwrap();
        let fanout = broker.open_fanout(GatewayId::random()).await.unwrap();
        let past = Arc::new(Past::new(Arc::clone(&broker), Arc::clone(&store)));
        let gateway = Arc::clone(&metrics.gateway);
        let hub = Arc::new(Hub::new(fanout.subscriber, past, true, 1 << 20, gateway));

        publish(&broker).await;
        let (first, _deliveries) = outbox(1 << 20, Arc::clone(&metrics.gateway));
        let membership = enter(&hub, &first);
        membership.confirmed().await.unwrap();
        for _ in 0..3 {
            publish(&broker).await;
        }
        store.insert(&settle(&broker).await).await.unwrap();
        // To the gateway the store has failed: what it reads is not there.
        let breaker = rusqlite::Connection::open(&file).unwrap();
        breaker
            .execute("ALTER TABLE messages RENAME TO elsewhere", ())
            .unwrap();
        let missed_from = hub.newest(&room());
        // From here on the deadline passes as soon as everything waits.
        tokio::time::pause();
        hub.repair_all();
        assert_eq!(first.until_cut().await, CloseReason::GapUnrepaired);
        assert_eq!(metrics.gateway.gaps_unrepaired.get(), 1);

        breaker
            .execute("ALTER TABLE elsewhere RENAME TO messages", ())
            .unwrap();
        let (second, _deliveries) = outbox(1 << 20, Arc::clone(&metrics.gateway));
        let newcomer = enter(&hub, &second);
        newcomer.confirmed().await.unwrap();
        drop(membership);
        assert_eq!(metrics.gateway.rooms.get(), 1);
        assert!(hub.newest(&room()) > missed_from);
    }
}
