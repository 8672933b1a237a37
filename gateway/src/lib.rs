//! Roomcast's gateway: clients on WebSocket, rooms on a broker, history from a store.
//!
//! The modules stand in the order in which a message passes them. A SEND goes
//! `server → handshake → connection → session → publish` to the broker; what the broker delivers
//! goes `relay → hub → room → outbox → connection` to the clients; the past comes from `past`, for
//! a SUBSCRIBE or over HTTP; `api` also takes messages from back ends.

pub mod config;

pub mod entrance;

pub mod front;

pub mod guard;

pub mod fetch;

pub mod auth;

pub mod access;

pub mod server;

mod accept;

pub mod place;

mod handshake;

mod origin;

mod pages;

mod answer;
mod tag;

pub mod transport;

pub mod websocket;

mod metered;

mod framing;

pub mod sockjs;

mod connection;

mod drain;

pub mod session;

mod destination;

mod publish;

mod receipts;

mod relay;

mod unstored;

mod hub;

mod room;

mod members;

mod shown;

mod whispers;

pub mod outbox;

pub mod past;

mod api;

mod body;

pub mod close;

use std::sync::Arc;
use std::time::Duration;

use shared::admin::{Latch, Readiness};
use shared::broker::{Broker, BrokerError, Guarantees};
use shared::config::{Protection, Without};
use shared::message::GatewayId;
use shared::metrics::Metrics;
use shared::store::Store;
use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Settings;
use crate::connection::{CLOSE_DEADLINE, Connection};
use crate::drain::Drain;
use crate::entrance::Entrance;
use crate::hub::Hub;
use crate::past::Past;
use crate::publish::Publisher;
use crate::receipts::Receipts;
use crate::server::{Pages, Server};
use crate::transport::{Peer, Serve, Transport};

/// How often the broker is asked for a sign of life.
const PING: Duration = Duration::from_secs(2);

/// What a gateway is made of.
pub struct Parts {
    /// What it calls itself in its log.
    pub name: &'static str,
    /// Where clients connect.
    pub listener: TcpListener,
    /// The flags, checked.
    pub settings: Settings,
    /// What clients pass first.
    pub entrance: Entrance,
    /// Carries messages.
    pub broker: Arc<dyn Broker>,
    /// Has what was said before.
    pub store: Arc<dyn Store>,
    /// Pages to serve beside the protocol.
    pub pages: Pages,
    /// Where everything is counted.
    pub metrics: Metrics,
    /// Told when the broker can be used.
    pub readiness: Readiness,
    /// Its condition from when operators can ask, for a gateway that is still opening its broker is not
    /// ready: met while clients are taken, and not when the gateway drains.
    pub serving: Latch,
    /// How long clients may take to leave after `stop`.
    pub drain_timeout: Duration,
    /// What is switched off.
    pub without: Without,
}

/// What the connections of one gateway share.
pub(crate) struct Gateway {
    pub(crate) settings: Arc<Settings>,
    pub(crate) entrance: Arc<Entrance>,
    pub(crate) guarantees: Guarantees,
    pub(crate) publisher: Publisher,
    pub(crate) hub: Arc<Hub>,
    pub(crate) past: Arc<Past>,
    pub(crate) metrics: Metrics,
    /// Says when each client is to be sent away, once what it sent is finished.
    pub(crate) drain: Drain,
    /// Cancelled when clients are to be sent away whatever is unfinished.
    pub(crate) out_of_time: CancellationToken,
}

/// Gives each client a session.
struct Clients(Arc<Gateway>);

impl Serve for Clients {
    fn serve<T: Transport>(
        &self,
        transport: T,
        peer: Peer,
    ) -> impl Future<Output = ()> + Send + 'static {
        Box::new(Connection::new(Arc::clone(&self.0), transport, peer)).run()
    }
}

/// Serves clients until `stop` is cancelled. Then it is no longer ready, accepts no connections,
/// finishes what clients have sent, and closes them with 1012, spread over `drain_spread`, all within
/// `drain_timeout`. It is no failure when they were not finished by then.
///
/// # Errors
/// [`BrokerError`] when the live link to the broker cannot be opened.
pub async fn run(parts: Parts, stop: CancellationToken) -> Result<(), BrokerError> {
    let Parts {
        name,
        listener,
        settings,
        entrance,
        broker,
        store,
        pages,
        metrics,
        readiness,
        serving,
        drain_timeout,
        without,
    } = parts;
    let id = GatewayId::random();
    let fanout = broker.open_fanout(id).await?;
    let guarantees = broker.guarantees();
    let past = Arc::new(Past::new(Arc::clone(&broker), Arc::clone(&store), &without));
    let hub = Hub::new(
        fanout.subscriber,
        Arc::clone(&past),
        guarantees.journaled,
        broker.window(),
        settings.max_outbox_bytes,
        without.clone(),
        Arc::clone(&metrics.gateway),
    );
    let hub = Arc::new(hub.noting(fanout.shown));
    let receipts = Arc::new(Receipts::new(
        settings.receipt_timeout,
        Arc::clone(&metrics.gateway),
    ));
    let publisher = Publisher {
        broker: Arc::clone(&broker),
        gateway: id,
        receipts: Arc::clone(&receipts),
        hub: Arc::clone(&hub),
        metrics: Arc::clone(&metrics.gateway),
    };
    let gateway = Arc::new(Gateway {
        settings: Arc::new(settings),
        entrance: Arc::new(entrance),
        guarantees,
        publisher,
        hub: Arc::clone(&hub),
        past,
        metrics,
        drain: Drain::new(stop.clone()),
        out_of_time: CancellationToken::new(),
    });

    // These serve the connections to their end, so they outlast `stop`.
    let background = CancellationToken::new();
    let _end = background.clone().drop_guard();
    tokio::spawn(relay::run(
        fanout.events,
        guarantees,
        hub,
        Arc::clone(&receipts),
        background.clone(),
    ));
    if !without.has(Protection::ReceiptCheck) {
        let stop = background.clone();
        tokio::spawn(async move { receipts.repair(store, stop).await });
    }
    tokio::spawn(watch(broker, readiness.latch("broker"), background.clone()));

    let guard = Arc::clone(&gateway.entrance.guard);
    let end = background.clone();
    tokio::spawn(async move { guard.watch(end).await });

    let tasks = TaskTracker::new();
    let server = Server::new(
        Arc::clone(&gateway.settings),
        Arc::clone(&gateway.entrance),
        gateway.metrics.clone(),
        Arc::clone(&gateway.past),
        Clients(Arc::clone(&gateway)),
        tasks.clone(),
        stop.clone(),
    )
    .showing(pages)
    .publishing(Arc::clone(&gateway));
    serving.set(true);
    if let Ok(address) = listener.local_addr() {
        let scheme = gateway.entrance.front.scheme();
        tracing::info!("{name} is ready at {scheme}://{address}/");
    }
    server.run(listener).await;
    serving.set(false);
    tasks.close();
    let patience = drain_timeout.saturating_sub(CLOSE_DEADLINE);
    let clients = usize::try_from(gateway.metrics.gateway.connections.get()).unwrap_or(0);
    let spread = if without.has(Protection::PacedDrain) {
        Duration::ZERO
    } else {
        // The last one needs time to leave, too.
        gateway.settings.drain_spread.min(patience / 2)
    };
    let paced = async {
        gateway.drain.pace(clients, spread).await;
        tasks.wait().await;
    };
    let left = async {
        tokio::select! {
            () = tasks.wait() => {}
            () = paced => {}
        }
    };
    if timeout(patience, left).await.is_err() {
        tracing::warn!(
            left = tasks.len(),
            "out of time: clients are sent away with work unfinished"
        );
        gateway.out_of_time.cancel();
        if timeout(CLOSE_DEADLINE, tasks.wait()).await.is_err() {
            tracing::warn!(
                left = tasks.len(),
                "clients are cut off at the drain timeout"
            );
        }
    }
    Ok(())
}

/// Keeps the latch open while the broker answers.
async fn watch(broker: Arc<dyn Broker>, latch: Latch, stop: CancellationToken) {
    let mut ticks = interval(PING);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_up = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let answer = broker.ping().await;
        let is_up = answer.is_ok();
        latch.set(is_up);
        match answer {
            Ok(()) if !was_up => tracing::info!("the broker answers"),
            Err(error) if was_up => tracing::error!(%error, "the broker does not answer"),
            _ => {}
        }
        was_up = is_up;
    }
}
