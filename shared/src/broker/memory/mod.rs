//! The broker inside one process: what the standalone server runs on. It keeps every promise of
//! this module except that nothing outlives the process.

mod feed;
mod journal;
mod rooms;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tokio::sync::Notify;

use self::feed::{JournalFeed, LiveFeed};
use self::state::State;
use super::handover::{MAX_BYTES, handover};
use super::inbox::Inbox;
use super::{
    Accepted, Broker, BrokerError, Earlier, Fanout, Feed, Guarantees, PublishError, Recent, Shown,
    Subscriber,
};
use crate::config::{BrokerSettings, Delivery};
use crate::message::{Draft, GatewayId, RoomName, Span};
use crate::metrics::{BrokerMetrics, Metrics};

/// Opens a broker of its own: two calls share nothing.
pub(super) fn open(
    settings: &BrokerSettings,
    metrics: &Metrics,
    earlier: Earlier,
) -> Arc<dyn Broker> {
    Arc::new(MemoryBroker {
        shared: Arc::new(Shared {
            state: Mutex::new(State::new(settings.clone(), earlier)),
            arrived: Notify::new(),
        }),
        metrics: Arc::clone(&metrics.broker),
        delivery: settings.delivery,
        window: settings.recent_ttl,
    })
}

struct MemoryBroker {
    shared: Arc<Shared>,
    metrics: Arc<BrokerMetrics>,
    delivery: Delivery,
    window: Duration,
}

/// One lock over everything makes accepting a single step. No call holds it across an await.
struct Shared {
    state: Mutex<State>,
    /// Wakes the feeds that wait for a first entry.
    arrived: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker for MemoryBroker {
    fn publish(&self, draft: Draft) -> BoxFuture<'static, Result<Accepted, PublishError>> {
        let answer = self.shared.lock().accept(draft);
        self.shared.arrived.notify_waiters();
        ready(answer).boxed()
    }

    fn open_fanout(&self, gateway: GatewayId) -> BoxFuture<'_, Result<Fanout, BrokerError>> {
        let (handover, events) = handover(MAX_BYTES, Arc::clone(&self.metrics));
        let link = self.shared.lock().rooms.link(gateway, handover);
        let subscriber = Arc::new(MemorySubscriber {
            shared: Arc::clone(&self.shared),
            link,
        });
        // What is accepted is handed over before its answer is given: no copy comes later.
        let shown = Shown::new();
        ready(Ok(Fanout {
            subscriber,
            events,
            shown,
        }))
        .boxed()
    }

    fn open_feed(&self, _consumer: &str) -> BoxFuture<'_, Result<Box<dyn Feed>, BrokerError>> {
        let shared = Arc::clone(&self.shared);
        let feed: Box<dyn Feed> = match self.delivery {
            Delivery::AtLeastOnce => Box::new(JournalFeed::new(shared)),
            Delivery::AtMostOnce => {
                let inbox = Arc::new(Inbox::new(Arc::clone(&self.metrics)));
                shared.lock().inboxes.push(Arc::downgrade(&inbox));
                Box::new(LiveFeed { shared, inbox })
            }
        };
        ready(Ok(feed)).boxed()
    }

    fn recent<'a>(
        &'a self,
        room: &'a RoomName,
        span: Span,
        limit: usize,
    ) -> BoxFuture<'a, Result<Recent, BrokerError>> {
        ready(Ok(self.shared.lock().recent(room, span, limit))).boxed()
    }

    fn window(&self) -> Duration {
        self.window
    }

    fn backlog(&self) -> BoxFuture<'_, Result<u64, BrokerError>> {
        ready(Ok(self.shared.lock().journal.len() as u64)).boxed()
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        ready(Ok(())).boxed()
    }

    fn guarantees(&self) -> Guarantees {
        Guarantees {
            durable: false,
            journaled: self.delivery == Delivery::AtLeastOnce,
        }
    }
}

struct MemorySubscriber {
    shared: Arc<Shared>,
    link: u64,
}

impl Subscriber for MemorySubscriber {
    fn subscribe(&self, room: RoomName) -> BoxFuture<'_, Result<(), BrokerError>> {
        self.shared.lock().rooms.subscribe(self.link, room);
        ready(Ok(())).boxed()
    }

    fn unsubscribe(&self, room: &RoomName) {
        self.shared.lock().rooms.unsubscribe(self.link, room);
    }
}
