//! A supervised connection for subscriptions. The client library neither notices a frozen one nor
//! comes back from every broken one; this does both, for ever, and says when something may have
//! been missed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus::IntCounter;
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, Value, cmd};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{debug, info, warn};

use super::keys;
use super::registry::Registry;
use super::topology::Topology;
use crate::backoff::Backoff;
use crate::broker::BrokerError;
use crate::broker::shard::shard_of;
use crate::message::RoomName;

/// How often the link is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_secs(2);

/// How long any answer may take before the link counts as dead.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// The most channels in one command: more would hold up the server.
const CHUNK: usize = 500;

/// What a link is for.
pub(super) struct Link {
    pub(super) topology: Topology,
    /// The subscription that it has besides the registry's rooms.
    pub(super) own: Subscription,
    pub(super) registry: Arc<Registry>,
    pub(super) shards: u16,
    /// Takes what arrives; it must not block.
    pub(super) listener: Arc<dyn Listener>,
    pub(super) reconnects: IntCounter,
}

/// A subscription that a link always has.
pub(super) enum Subscription {
    Channel(String),
    Pattern(&'static str),
}

/// Takes what a link brings.
pub(super) trait Listener: Send + Sync + 'static {
    /// What was published on a channel.
    fn heard(&self, channel: &[u8], payload: Bytes);

    /// The link was down and is back: every subscription is confirmed again.
    fn interrupted(&self);
}

/// One connection with everything subscribed.
pub(super) struct Session {
    connection: MultiplexedConnection,
    lost: Arc<Notify>,
}

impl Link {
    /// Makes a connection and subscribes to everything.
    ///
    /// # Errors
    /// [`BrokerError`] when Redis does not confirm it all.
    pub(super) async fn connect(&self) -> Result<Session, BrokerError> {
        let lost = Arc::new(Notify::new());
        let listener = Arc::clone(&self.listener);
        let lost_notice = Arc::clone(&lost);
        let push = move |push: PushInfo| {
            receive(&*listener, &lost_notice, push);
            Ok::<(), redis::aio::SendError>(())
        };
        let made = self
            .topology
            .layout()
            .home(0)
            .subscriptions(ANSWER_TIMEOUT, push)
            .await;
        let mut connection = made.map_err(|error| self.topology.explain(&error))?;
        let own = match &self.own {
            Subscription::Channel(name) => connection.subscribe(name).await,
            Subscription::Pattern(pattern) => connection.psubscribe(*pattern).await,
        };
        own.map_err(|error| self.topology.explain(&error))?;
        self.registry.reset();
        let mut session = Session { connection, lost };
        self.settle(&mut session).await?;
        Ok(session)
    }

    /// Keeps the link up until `ended`.
    pub(super) async fn run(self, first: Session, ended: impl Future<Output = ()>) {
        let supervised = async {
            let mut session = first;
            loop {
                let error = self.serve(session).await;
                warn!(%error, "a link to Redis is lost");
                self.reconnects.inc();
                session = self.reconnect().await;
                info!("a link to Redis is back");
                self.listener.interrupted();
            }
        };
        tokio::select! {
            () = supervised => {}
            () = ended => {}
        }
    }

    async fn reconnect(&self) -> Session {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        loop {
            match self.connect().await {
                Ok(session) => return session,
                Err(error) => debug!(%error, "a link to Redis cannot be had"),
            }
            sleep(backoff.next()).await;
        }
    }

    /// Returns when the session is over, with the reason.
    async fn serve(&self, mut session: Session) -> BrokerError {
        let mut ping = interval(PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let lost = Arc::clone(&session.lost);
        loop {
            let done = tokio::select! {
                () = lost.notified() => {
                    return BrokerError::Unavailable("the connection is closed".into());
                }
                () = self.registry.changed() => self.settle(&mut session).await,
                _ = ping.tick() => self.ping(&mut session).await,
            };
            if let Err(error) = done {
                return error;
            }
        }
    }

    async fn ping(&self, session: &mut Session) -> Result<(), BrokerError> {
        let late = || BrokerError::Unavailable("Redis does not answer a ping".into());
        let answer = session.connection.send_packed_command(&cmd("PING")).await;
        match answer.and_then(Value::extract_error) {
            Ok(_) => Ok(()),
            Err(error) if error.is_timeout() => Err(late()),
            Err(error) => Err(self.topology.explain(&error)),
        }
    }

    /// Tells the connection all that it does not know yet.
    async fn settle(&self, session: &mut Session) -> Result<(), BrokerError> {
        let names = |rooms: &[RoomName]| -> Vec<String> {
            rooms
                .iter()
                .map(|room| keys::channel(shard_of(room, self.shards), room))
                .collect()
        };
        while !self.registry.is_settled() {
            let change = self.registry.take(CHUNK);
            if !change.add.is_empty() {
                let subscribed = session.connection.subscribe(names(&change.add)).await;
                subscribed.map_err(|error| self.topology.explain(&error))?;
                self.registry.confirm(change.add);
            }
            if !change.remove.is_empty() {
                let dropped = session.connection.unsubscribe(names(&change.remove)).await;
                dropped.map_err(|error| self.topology.explain(&error))?;
            }
        }
        Ok(())
    }
}

fn receive(listener: &dyn Listener, lost: &Notify, push: PushInfo) {
    let mut data = push.data.into_iter();
    match push.kind {
        PushKind::Disconnection => lost.notify_one(),
        PushKind::Message | PushKind::PMessage => {
            if push.kind == PushKind::PMessage {
                data.next();
            }
            if let (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) =
                (data.next(), data.next())
            {
                listener.heard(&channel, payload.into());
            }
        }
        _ => {}
    }
}
