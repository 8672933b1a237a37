//! One connection with everything subscribed, from its beginning to its loss.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, PushInfo, PushKind, RedisError, Value, cmd};
use tokio_util::sync::CancellationToken;

use super::connect::Connector;
use super::keys;
use super::registry::{Lease, Registry, Room};
use crate::broker::BrokerError;
use crate::message::GatewayId;

/// How long any answer may take before the connection counts as dead.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// The most channels in one command or pipeline: more would hold up the server.
const CHUNK: usize = 500;

/// What is subscribed to.
#[derive(Clone, Copy)]
pub(super) enum Scope {
    /// The registry's rooms and the gateway's notices, on channels that one server carries.
    Rooms(GatewayId),
    /// The same on sharded channels, each of which only its shard's home carries.
    ShardedRooms(GatewayId),
    /// Every room of every shard.
    AllRooms,
}

/// Takes what a link brings.
pub(super) trait Listener: Send + Sync + 'static {
    /// What was published on a channel. It must not block.
    fn heard(&self, channel: &[u8], payload: Bytes);

    /// Something may have been missed, and every subscription is confirmed again.
    fn interrupted(&self);
}

/// One connection with everything subscribed.
pub(super) struct Session {
    connection: MultiplexedConnection,
    server: Connector,
    scope: Scope,
    lease: Lease,
    receiver: Arc<Receiver>,
}

impl Session {
    /// Makes a connection, takes over the shards, and subscribes to all that they are wanted for.
    /// Until [`Self::begin`], nothing that is published in a room is handed over.
    ///
    /// # Errors
    /// [`BrokerError`] when the server does not confirm it all.
    pub(super) async fn open(
        server: &Connector,
        scope: Scope,
        registry: &Arc<Registry>,
        shards: Vec<u16>,
        listener: &Arc<dyn Listener>,
    ) -> Result<Self, BrokerError> {
        let receiver = Arc::new(Receiver {
            listener: Arc::clone(listener),
            begun: Mutex::new(false),
            leaving: Mutex::default(),
            lost: CancellationToken::new(),
        });
        let push = {
            let receiver = Arc::clone(&receiver);
            move |push: PushInfo| {
                receiver.receive(push);
                Ok::<(), redis::aio::SendError>(())
            }
        };
        let connection = server
            .subscriptions(ANSWER_TIMEOUT, push)
            .await
            .map_err(|error| server.explain(&error))?;
        let mut session = Self {
            connection,
            server: server.clone(),
            scope,
            lease: registry.lease(shards),
            receiver,
        };
        session.subscribe_own().await?;
        // Not until there is none: in a stampede there is always one more.
        let mut wanted = session.lease.backlog();
        while wanted > 0 {
            let next = wanted.min(CHUNK);
            session.tell(next).await?;
            wanted -= next;
        }
        Ok(session)
    }

    /// From now on everything is handed over; before it, that something may have been missed, if
    /// that is so. A message that went ahead of this would be taken for the next one.
    pub(super) fn begin(&self, interrupted: bool) {
        let mut begun = self.receiver.begun();
        if interrupted {
            self.receiver.listener.interrupted();
        }
        *begun = true;
    }

    /// Waits until there may be something to tell the server.
    pub(super) async fn changed(&self) {
        self.lease.changed().await;
    }

    /// Waits until the connection must be given up.
    pub(super) fn lost(&self) -> impl Future<Output = ()> + use<> {
        self.receiver.lost.clone().cancelled_owned()
    }

    /// Asks the server for a sign of life.
    ///
    /// # Errors
    /// [`BrokerError`] when there is none in time.
    pub(super) async fn ping(&mut self) -> Result<(), BrokerError> {
        let answer = self.connection.send_packed_command(&cmd("PING")).await;
        match answer.and_then(Value::extract_error) {
            Ok(_) => Ok(()),
            Err(error) if error.is_timeout() => {
                let server = self.server.address();
                let line = format!("Redis at {server} does not answer a ping");
                Err(BrokerError::Unavailable(line))
            }
            Err(error) => Err(self.server.explain(&error)),
        }
    }

    /// Tells the server all that it does not know yet.
    ///
    /// # Errors
    /// [`BrokerError`] when it does not confirm it all: the session is over.
    pub(super) async fn settle(&mut self) -> Result<(), BrokerError> {
        while self.lease.backlog() > 0 {
            self.tell(CHUNK).await?;
        }
        Ok(())
    }

    async fn subscribe_own(&mut self) -> Result<(), BrokerError> {
        let subscribed = match self.scope {
            Scope::Rooms(gateway) => {
                let notices = keys::notices(gateway, None);
                self.connection.subscribe(notices).await
            }
            Scope::ShardedRooms(gateway) => {
                let shards = self.lease.shards().iter();
                let notices = shards.map(|shard| keys::notices(gateway, Some(*shard)));
                self.each("SSUBSCRIBE", &notices.collect::<Vec<_>>()).await
            }
            Scope::AllRooms => self.connection.psubscribe(keys::ALL_ROOMS).await,
        };
        subscribed.map_err(|error| self.server.explain(&error))
    }

    async fn tell(&mut self, max: usize) -> Result<(), BrokerError> {
        let names = |rooms: &[Room]| -> Vec<String> {
            let channel = |room: &Room| keys::channel(room.shard, &room.name);
            rooms.iter().map(channel).collect()
        };
        let sharded = matches!(self.scope, Scope::ShardedRooms(_));
        let change = self.lease.take(max);
        if !change.add.is_empty() {
            let channels = names(&change.add);
            let subscribed = if sharded {
                self.each("SSUBSCRIBE", &channels).await
            } else {
                self.connection.subscribe(channels).await
            };
            subscribed.map_err(|error| self.server.explain(&error))?;
            // What the library took for one of the answers may have been no answer.
            if self.receiver.lost.is_cancelled() {
                return Err(BrokerError::Unavailable("the connection is lost".into()));
            }
            self.lease.confirm(change.add);
        }
        if !change.remove.is_empty() {
            let channels = names(&change.remove);
            let leaving = channels.iter().map(|channel| channel.clone().into_bytes());
            self.receiver.leaving().extend(leaving);
            let dropped = if sharded {
                self.each("SUNSUBSCRIBE", &channels).await
            } else {
                self.connection.unsubscribe(channels).await
            };
            dropped.map_err(|error| self.server.explain(&error))?;
        }
        Ok(())
    }

    /// Sends one command for each channel, together: the library cannot tell how many answers one
    /// for several sharded channels has, which is one when the slot is not here.
    async fn each(&mut self, command: &str, channels: &[String]) -> Result<(), RedisError> {
        let mut pipeline = Pipeline::with_capacity(channels.len());
        for channel in channels {
            pipeline.cmd(command).arg(channel);
        }
        let answers = self
            .connection
            .send_packed_commands(&pipeline, 0, channels.len())
            .await?;
        answers
            .into_iter()
            .try_for_each(|answer| answer.extract_error().map(drop))
    }
}

impl Drop for Session {
    /// Nothing that the connection still brings comes after what another one brings.
    fn drop(&mut self) {
        *self.receiver.begun() = false;
    }
}

/// What takes the server's pushes.
struct Receiver {
    listener: Arc<dyn Listener>,
    /// Whether what is published in rooms is handed over; locked while it is.
    begun: Mutex<bool>,
    /// The channels whose subscription was asked to end.
    leaving: Mutex<HashSet<Vec<u8>>>,
    lost: CancellationToken,
}

impl Receiver {
    fn receive(&self, push: PushInfo) {
        let mut data = push.data.into_iter();
        match push.kind {
            PushKind::Disconnection => self.lost.cancel(),
            PushKind::Unsubscribe | PushKind::SUnsubscribe => {
                // A server drops a channel unasked when its slot has gone to another one. The
                // library takes that for an answer, so that no later answer can be trusted.
                let Some(Value::BulkString(channel)) = data.next() else {
                    return;
                };
                if !self.leaving().remove(&channel) {
                    self.lost.cancel();
                }
            }
            PushKind::Message | PushKind::SMessage | PushKind::PMessage => {
                let pattern = push.kind == PushKind::PMessage;
                if pattern {
                    data.next();
                }
                let (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) =
                    (data.next(), data.next())
                else {
                    return;
                };
                let begun = self.begun();
                if *begun || pattern || keys::channel_shard(&channel).is_none() {
                    self.listener.heard(&channel, payload.into());
                }
            }
            _ => {}
        }
    }

    fn begun(&self) -> MutexGuard<'_, bool> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leaving(&self) -> MutexGuard<'_, HashSet<Vec<u8>>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
