//! What a message passes between the gateway that takes it, the gateways that deliver it and the
//! persister that stores it.
//!
//! Every backend keeps what this file promises and is held to it by one conformance suite
//! (`tests/it/broker_conformance.rs`); [`Guarantees`] names the two promises that depend on the
//! backend and on the delivery that was chosen.

pub mod handover;
pub mod shard;

mod inbox;
mod memory;
mod redis;
mod shown;
mod window;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;

pub use self::handover::Events;
pub use self::shown::Shown;
use crate::config::{BrokerSettings, BrokerUrl, Without};
use crate::message::{Draft, GatewayId, Message, MessageId, RoomName, Span, Stamp, UsedKey};
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};

/// How long an idempotency key that a sender gave is remembered.
pub const IDEMPOTENCY_WINDOW: Duration = Duration::from_secs(600);

/// How long a feed that has nothing to hand out waits before it says so.
const IDLE_ANSWER: Duration = Duration::from_secs(1);

/// Opens the broker that the settings name.
///
/// `earlier` is for a broker that forgets everything when it ends; others know it themselves.
///
/// # Errors
/// [`BrokerError::Misconfigured`] when it can never work so; [`BrokerError::Unavailable`] when the
/// backend has not answered within the connect deadline.
pub async fn open(
    settings: &BrokerSettings,
    metrics: &Metrics,
    earlier: Earlier,
) -> Result<Arc<dyn Broker>, BrokerError> {
    if settings.shards == 0 || settings.shards > MAX_SHARDS {
        return Err(BrokerError::Misconfigured(format!(
            "the number of shards must be from 1 to {MAX_SHARDS}, not {}",
            settings.shards
        )));
    }
    if settings.without != Without::NOTHING {
        tracing::warn!(switched_off = ?settings.without, "without these protections messages will be lost");
    }
    match &settings.url {
        BrokerUrl::Memory => Ok(memory::open(settings, metrics, earlier)),
        BrokerUrl::Redis(url) => redis::open(url, settings, metrics).await,
    }
}

/// What was accepted before a broker began, as far as a store has it.
#[derive(Clone, Debug, Default)]
pub struct Earlier {
    /// The greatest id: new ones are greater, even when the clock has been set back.
    pub newest: Option<MessageId>,
    /// The keys used within the last [`IDEMPOTENCY_WINDOW`], oldest first.
    pub keys: Vec<UsedKey>,
}

impl Earlier {
    /// Asks a store.
    ///
    /// # Errors
    /// [`StoreError`] when it does not answer within its deadline.
    pub async fn read(store: &dyn Store) -> Result<Self, StoreError> {
        let since = (SystemTime::now() - IDEMPOTENCY_WINDOW)
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let ms = since.as_millis() as u64;
        Ok(Self {
            newest: store.newest().await?,
            keys: store
                .keys_after(MessageId::new(Stamp { ms, seq: 0 }, 0))
                .await?,
        })
    }
}

/// Each shard is a key that every feed reads at once.
const MAX_SHARDS: u16 = 1024;

/// Accepts messages, carries them to the gateways, and holds them until they are stored.
pub trait Broker: Send + Sync + 'static {
    /// Accepts a message: gives it an id, holds it for the feed, and delivers it to every fan-out
    /// that has subscribed to its room.
    ///
    /// *Order*: drafts for one room are accepted in the order of the calls (not of the polls), and
    /// a room's ids only grow. *Once*: a broken connection is retried inside without doubling, and
    /// a draft whose `idempotency_key` its sender used in this room within [`IDEMPOTENCY_WINDOW`]
    /// is not accepted again but answered with the first one's id (at-least-once only).
    /// *Series*: once a draft of a series was not accepted, those that were published after it are
    /// not accepted either, but for some that were on their way to other shards.
    /// *Truth*: `Ok` is the backend's own answer. An error other than [`PublishError::Full`] and
    /// [`PublishError::Overloaded`] leaves open whether it was accepted; the same key asks again.
    ///
    /// *Ephemeral*: such a draft goes to the fan-outs that have subscribed and nowhere else: no feed,
    /// no [`Self::recent`], no `prev`, neither its own nor another's. Its id is unique,
    /// [tells itself](MessageId::is_ephemeral) and says nothing of the room's order. It keeps its
    /// place among the calls, but may pass a draft that has to be tried again. It is never published
    /// twice: where that is in doubt, and when the link breaks under it, it is lost. Its key is not remembered, a full journal does not concern
    /// it, and it stands in no series.
    ///
    /// The answer comes within the backend's publish deadline.
    fn publish(&self, draft: Draft) -> BoxFuture<'static, Result<Accepted, PublishError>>;

    /// Opens this gateway's live link. `gateway` names the channel of its stored notices.
    ///
    /// # Errors
    /// [`BrokerError`] when the link cannot be had within the connect deadline. Once open it heals
    /// itself without end and reports each interruption as [`Event::Gap`].
    fn open_fanout(&self, gateway: GatewayId) -> BoxFuture<'_, Result<Fanout, BrokerError>>;

    /// Opens a consumer's share of what is to be stored. `consumer` is unique to the process.
    ///
    /// # Errors
    /// [`BrokerError`] when the feed cannot be had within the connect deadline.
    fn open_feed(&self, consumer: &str) -> BoxFuture<'_, Result<Box<dyn Feed>, BrokerError>>;

    /// Reads the messages of a room that the broker still holds: those that no store may have yet,
    /// and the room's recent window. Oldest first, at most `limit`, cut as the span says.
    ///
    /// An accepted message that is missing here although it lies in the span is in the store by
    /// the time this returns, so that a caller who reads the broker first and the store second
    /// misses none (at-least-once only).
    ///
    /// # Errors
    /// [`BrokerError`] when the backend does not answer within its deadline.
    fn recent<'a>(
        &'a self,
        room: &'a RoomName,
        span: Span,
        limit: usize,
    ) -> BoxFuture<'a, Result<Recent, BrokerError>>;

    /// How long a room's recent window is kept after its last message. One that is accepted sooner
    /// names the one before it, unless the window was lost; one that names none and comes later
    /// proves nothing.
    fn window(&self) -> Duration;

    /// How many accepted messages are not stored yet.
    ///
    /// # Errors
    /// [`BrokerError`] when the backend does not answer within its deadline.
    fn backlog(&self) -> BoxFuture<'_, Result<u64, BrokerError>>;

    /// Asks the backend for a sign of life.
    ///
    /// # Errors
    /// [`BrokerError`] when the backend does not answer within its deadline.
    fn ping(&self) -> BoxFuture<'_, Result<(), BrokerError>>;

    /// What this broker, as it was opened, promises.
    fn guarantees(&self) -> Guarantees;
}

/// The promises that depend on the backend and on the chosen delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guarantees {
    /// An accepted message outlives this process. Where it does not, a receipt must wait for the
    /// store.
    pub durable: bool,
    /// At-least-once: accepted messages reach the store, ids follow the order of the room for
    /// everyone, `prev` is given, repeats are recognised. At-most-once keeps none of these.
    pub journaled: bool,
}

impl Guarantees {
    /// Whether a message may be shown to members only when the store has it: what the journal
    /// holds would die with this process, and a resend would then be seen twice.
    pub fn shows_stored_only(self) -> bool {
        self.journaled && !self.durable
    }
}

/// The broker's answer to a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The message's id: the first one's where the key was repeated.
    pub id: MessageId,
    /// Whether the key had been used: nothing new was accepted.
    pub repeated: bool,
    /// The message before it in its room; `None` where there is none, and where the answer does not
    /// say: for a repeat, for what is ephemeral, and at most once.
    pub prev: Option<MessageId>,
}

/// Why a publish has no id to show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The journal is at its bound: the store has been away for too long. Nothing was accepted.
    #[error("the journal is full: messages wait for the store")]
    Full,
    /// This process already has as much in flight as it may. Nothing was accepted.
    #[error("too much is in flight to the broker")]
    Overloaded,
    /// The broker did not answer before the deadline.
    #[error("Broker not available.")]
    Unavailable,
}

/// Why the broker could not do something else.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BrokerError {
    /// The URL or what the backend is set up as cannot work: a person has to change something.
    #[error("{0}")]
    Misconfigured(String),
    /// The backend did not answer as it should; it may later.
    #[error("{0}")]
    Unavailable(String),
}

/// What the broker holds of a room.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    /// Oldest first.
    pub messages: Vec<Arc<Message>>,
    /// Nothing that the span and limit name is missing from `messages`: the store need not be
    /// asked.
    pub complete: bool,
    /// Above everything that was accepted before the reading and that the broker and the store
    /// must have between them, and not above anything that may still be on its way to either. A
    /// store does not store in order, so what it has from here on may have holes: leave it out.
    /// `None` where the broker cannot say.
    pub horizon: Option<MessageId>,
}

/// A gateway's live link to the broker.
pub struct Fanout {
    /// Says which rooms to deliver.
    pub subscriber: Arc<dyn Subscriber>,
    /// What arrives.
    pub events: Events,
    /// Where the gateway notes what it shows by the answer to a publish, so that the copy which is
    /// still to come need not be read.
    pub shown: Shown,
}

/// Chooses the rooms that a fan-out delivers. Both calls may be repeated without harm.
pub trait Subscriber: Send + Sync + 'static {
    /// Subscribes to a room. When this returns `Ok`, every message accepted from now on arrives as
    /// an [`Event`], or a [`Event::Gap`] does, unless it is ephemeral: that may be lost. Where the broker [shows stored messages
    /// only](Guarantees::shows_stored_only), so does what was accepted before and is not stored
    /// yet; elsewhere it may.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker has not confirmed within its deadline. The room stays
    /// wanted: it is subscribed when the link is back, until `unsubscribe`.
    fn subscribe(&self, room: RoomName) -> BoxFuture<'_, Result<(), BrokerError>>;

    /// Drops a room. Messages that are under way may still arrive.
    fn unsubscribe(&self, room: &RoomName);
}

/// What a fan-out link brings.
#[derive(Clone, Debug)]
pub enum Event {
    /// A message of a subscribed room; a room's messages come in the order of their ids, but for
    /// the ephemeral ones between them.
    Message(Arc<Message>),
    /// Messages that this gateway had flagged are stored.
    Stored(Vec<MessageId>),
    /// Something may have been missed, in any room: the link was down, or the hand-over was full.
    /// What was accepted before this event and has not arrived by now must be read. No message that
    /// came over the new link arrives before it.
    Gap,
}

/// A consumer's share of the accepted messages that are to be stored; an ephemeral one is never
/// among them.
///
/// An entry that is handed out and not settled is handed out again, to this consumer or another:
/// at least once, never lost. Consumers share the work; the entries of one that died pass to the
/// others.
pub trait Feed: Send + Sync {
    /// The next entries, oldest first within a shard: returns as soon as `max` are there or too few
    /// are missing for another look at each shard, or at the latest `linger` after the first one, which
    /// need not wait if it comes after a pause; nothing for about a second is an empty answer. Entries that
    /// a dead peer left come first.
    ///
    /// # Errors
    /// [`BrokerError`] when the backend is away; the caller backs off and calls again.
    fn next(
        &mut self,
        max: usize,
        linger: Duration,
    ) -> BoxFuture<'_, Result<Vec<Entry>, BrokerError>>;

    /// What settles the entries, also while the next ones are awaited.
    fn settler(&self) -> Arc<dyn Settler>;
}

/// Ends what a feed's entries need.
pub trait Settler: Send + Sync {
    /// Takes entries out of the journal for good, and notifies the gateways that wait for those
    /// which were stored.
    ///
    /// # Errors
    /// [`BrokerError`] when the backend is away: entries may then be handed out again.
    fn settle(&self, settled: Vec<Settled>) -> BoxFuture<'_, Result<(), BrokerError>>;
}

/// One accepted message in the journal.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its id, from which the backend finds the entry again.
    pub id: MessageId,
    /// The message, or what the journal had in its place.
    pub content: Result<Arc<Message>, Undecodable>,
    /// The gateway where a receipt waits.
    pub notify: Option<GatewayId>,
}

/// A journal entry that is no message.
#[derive(Clone, Debug)]
pub struct Undecodable {
    /// What stood there, for the dead letters.
    pub raw: Vec<u8>,
    /// Why it could not be read.
    pub reason: String,
}

/// An entry that needs no further work.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The entry's id.
    pub id: MessageId,
    /// The gateway to notify that it is stored; `None` where none waits, or it went to the dead
    /// letters.
    pub notify: Option<GatewayId>,
}
