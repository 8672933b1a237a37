//! One connection with everything subscribed, from its beginning to its loss.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use redis::{RedisError, RedisResult, cmd};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::connect::Connector;
use super::keys;
use super::packed::Packed;
use super::registry::{Lease, Registry, Room};
use super::resp::{self, Told};
use super::wire::Wire;
use crate::broker::BrokerError;
use crate::message::GatewayId;

/// How often a server is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_secs(2);

/// How long any answer may take before the connection counts as dead.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// The most channels that are told together: more would hold up the server.
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
    fn heard(&self, channel: &[u8], payload: &[u8]);

    /// Something may have been missed, and every subscription is confirmed again.
    fn interrupted(&self);

    /// Whether what has come may be needless once others have had their turn.
    fn hesitates(&self) -> bool;
}

/// One connection with everything subscribed.
pub(super) struct Session {
    ear: Ear,
    server: Connector,
    scope: Scope,
    lease: Lease,
}

/// A connection on which something is heard.
struct Ear {
    wire: Wire,
    listener: Arc<dyn Listener>,
    /// Whether what is published in rooms is handed over.
    begun: bool,
}

/// What a server says to what it was told, with the channel.
#[derive(PartialEq)]
enum Answer {
    Subscribed(String),
    Left(String),
    Pong,
}

impl Session {
    /// Makes a connection, takes over the shards, and subscribes to all that they are wanted for.
    /// Until [`Self::begin`], nothing that is published in one of the registry's rooms is handed over.
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
        let wire = server
            .wire()
            .await
            .map_err(|error| server.explain(&error))?;
        let mut session = Self {
            ear: Ear {
                wire,
                listener: Arc::clone(listener),
                // Who hears every room is not told of gaps: nothing has to come before what is heard.
                begun: matches!(scope, Scope::AllRooms),
            },
            server: server.clone(),
            scope,
            lease: registry.lease(shards),
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
    pub(super) fn begin(&mut self, interrupted: bool) {
        if interrupted {
            self.ear.listener.interrupted();
        }
        self.ear.begun = true;
    }

    /// Hands over what is heard and tells the server what changes, until the connection must be given
    /// up: returns why. A server that is not `probed` may be silent for ever.
    pub(super) async fn serve(mut self, probed: bool) -> BrokerError {
        let mut ping = interval(PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                error = self.ear.listen() => Err(self.server.explain(&error)),
                () = self.lease.changed() => self.settle().await,
                _ = ping.tick(), if probed => self.ping().await,
            };
            if let Err(error) = done {
                return error;
            }
        }
    }

    async fn ping(&mut self) -> Result<(), BrokerError> {
        let mut ping = Packed::default();
        ping.add(&cmd("PING"));
        self.ask(&ping, [Answer::Pong]).await
    }

    /// Tells the server all that it does not know yet.
    async fn settle(&mut self) -> Result<(), BrokerError> {
        while self.lease.backlog() > 0 {
            self.tell(CHUNK).await?;
        }
        Ok(())
    }

    async fn subscribe_own(&mut self) -> Result<(), BrokerError> {
        let (command, channels) = match self.scope {
            Scope::Rooms(gateway) => ("SUBSCRIBE", vec![keys::notices(gateway, None)]),
            Scope::ShardedRooms(gateway) => {
                let shards = self.lease.shards().iter();
                let notices = shards.map(|shard| keys::notices(gateway, Some(*shard)));
                ("SSUBSCRIBE", notices.collect())
            }
            Scope::AllRooms => ("PSUBSCRIBE", vec![keys::ALL_ROOMS.to_string()]),
        };
        self.change(command, channels, Answer::Subscribed).await
    }

    async fn tell(&mut self, max: usize) -> Result<(), BrokerError> {
        let names = |rooms: &[Room]| -> Vec<String> {
            let channel = |room: &Room| keys::channel(room.shard, &room.name);
            rooms.iter().map(channel).collect()
        };
        let (subscribe, unsubscribe) = match self.scope {
            Scope::ShardedRooms(_) => ("SSUBSCRIBE", "SUNSUBSCRIBE"),
            _ => ("SUBSCRIBE", "UNSUBSCRIBE"),
        };
        let change = self.lease.take(max);
        if !change.add.is_empty() {
            let channels = names(&change.add);
            self.change(subscribe, channels, Answer::Subscribed).await?;
            self.lease.confirm(change.add);
        }
        if !change.remove.is_empty() {
            let channels = names(&change.remove);
            self.change(unsubscribe, channels, Answer::Left).await?;
        }
        Ok(())
    }

    /// Sends one command for all channels, or one for each: sharded channels of several slots cannot
    /// stand in one.
    async fn change(
        &mut self,
        command: &str,
        channels: Vec<String>,
        answer: fn(String) -> Answer,
    ) -> Result<(), BrokerError> {
        let mut commands = Packed::default();
        match self.scope {
            Scope::ShardedRooms(_) => {
                for channel in &channels {
                    commands.add(cmd(command).arg(channel));
                }
            }
            _ => commands.add(cmd(command).arg(&channels)),
        }
        self.ask(&commands, channels.into_iter().map(answer)).await
    }

    /// Sends commands, and hands over what is heard until all of their answers are there.
    async fn ask(
        &mut self,
        commands: &Packed,
        answers: impl IntoIterator<Item = Answer>,
    ) -> Result<(), BrokerError> {
        let answered = async {
            self.ear.wire.send(commands).await?;
            for answer in answers {
                if self.ear.answer().await? != answer {
                    return Err(unasked());
                }
            }
            Ok(())
        };
        match timeout(ANSWER_TIMEOUT, answered).await {
            Ok(answered) => answered.map_err(|error| self.server.explain(&error)),
            Err(_) => {
                let server = self.server.address();
                let line = format!("Redis at {server} does not answer a subscriber in time");
                Err(BrokerError::Unavailable(line))
            }
        }
    }
}

impl Ear {
    /// Hands over what is heard, while nothing was asked. Safe to cancel.
    async fn listen(&mut self) -> RedisError {
        match self.answer().await {
            // A server drops a channel unasked when its slot has gone to another one.
            Ok(_) => unasked(),
            Err(error) => error,
        }
    }

    /// The next answer; what is published comes in between. Safe to cancel.
    async fn answer(&mut self) -> RedisResult<Answer> {
        loop {
            while let Some((told, length)) = resp::told(self.wire.incoming())? {
                let text = |channel| String::from_utf8_lossy(channel).into_owned();
                let answer = match told {
                    Told::Message { channel, payload } => {
                        if self.begun || keys::channel_shard(channel).is_none() {
                            self.listener.heard(channel, payload);
                        }
                        None
                    }
                    Told::Subscribed(channel) => Some(Answer::Subscribed(text(channel))),
                    Told::Left(channel) => Some(Answer::Left(text(channel))),
                    Told::Pong => Some(Answer::Pong),
                };
                self.wire.incoming().advance(length);
                if let Some(answer) = answer {
                    return Ok(answer);
                }
            }
            self.wire.receive().await?;
            if self.listener.hesitates() {
                tokio::task::yield_now().await;
            }
        }
    }
}

fn unasked() -> RedisError {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the server says what it was not asked for",
    )
    .into()
}
