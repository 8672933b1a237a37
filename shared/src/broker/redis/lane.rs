//! One lane of publishes: a connection of its own on which order is kept, also when it breaks.

use std::collections::VecDeque;
use std::iter;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounter;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisError, RedisResult, Value, cmd, pipe};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use super::payload;
use super::topology::Topology;
use crate::backoff::Backoff;
use crate::broker::{Accepted, PublishError};
use crate::message::{MessageId, RoomName, Series};

/// The script that accepts a message; each connection loads it.
pub(super) const ACCEPT: &str = include_str!("accept.lua");

/// The most requests that wait for their turn.
const MAX_WAITING: usize = 16_384;

/// The most octets of requests that wait or are in flight.
const MAX_BYTES: usize = 16 << 20;

/// The most requests that are sent together: more would make the first wait for the last.
const BATCH: usize = 256;

/// The octets after which no further request is sent together with those before.
const BATCH_BYTES: usize = 512 << 10;

/// One draft on its way.
pub(super) struct Request {
    pub(super) room: RoomName,
    pub(super) shard: u16,
    pub(super) command: Cmd,
    /// By which it knows its own earlier attempt from someone else's use of the same key.
    pub(super) token: String,
    /// What the command weighs in a queue, in octets.
    pub(super) size: usize,
    /// The id where this process made it. Such a command is not the script, and sent twice it
    /// would be heard twice.
    pub(super) id: Option<MessageId>,
    /// It has no place in the room's order.
    pub(super) ephemeral: bool,
    /// Beyond it, nobody waits, and the token may be forgotten: it is not sent again.
    pub(super) deadline: Instant,
    pub(super) series: Series,
    pub(super) answer: oneshot::Sender<Result<Accepted, PublishError>>,
}

/// The end of a lane into which requests are put.
pub(super) struct Lane {
    requests: mpsc::Sender<Queued>,
    bytes: Arc<Semaphore>,
}

struct Queued {
    request: Request,
    _share: OwnedSemaphorePermit,
}

impl Lane {
    /// Starts a lane, which ends when it is dropped and empty.
    pub(super) fn start(topology: &Topology, timeout: Duration, reconnects: &IntCounter) -> Self {
        let (requests, queue) = mpsc::channel(MAX_WAITING);
        let driver = Driver {
            topology: topology.clone(),
            // Half of the time that a publish has: the other half is for another attempt.
            timeout: timeout / 2,
            reconnects: reconnects.clone(),
            queue,
            batch: VecDeque::new(),
            link: None,
            broken: None,
            backoff: Backoff::new(Duration::from_millis(20), Duration::from_millis(500)),
            waits: false,
        };
        tokio::spawn(driver.run());
        Self {
            requests,
            bytes: Arc::new(Semaphore::new(MAX_BYTES)),
        }
    }

    /// Queues a request, unless there is too much.
    pub(super) fn offer(&self, request: Request) -> bool {
        let size = u32::try_from(request.size).unwrap_or(u32::MAX);
        let Ok(share) = Arc::clone(&self.bytes).try_acquire_many_owned(size) else {
            return false;
        };
        self.requests
            .try_send(Queued {
                request,
                _share: share,
            })
            .is_ok()
    }
}

/// Sends one batch at a time and awaits its answers: while it is under way the next one gathers,
/// and after a failure there is exactly one whose fate is open.
struct Driver {
    topology: Topology,
    timeout: Duration,
    reconnects: IntCounter,
    queue: mpsc::Receiver<Queued>,
    batch: VecDeque<Queued>,
    link: Option<Link>,
    /// The name of the connection on which the batch may still be under way.
    broken: Option<Name>,
    backoff: Backoff,
    /// The log has been told that there is no connection.
    waits: bool,
}

struct Link {
    connection: MultiplexedConnection,
    name: Option<Name>,
}

/// What Redis calls a connection.
struct Name {
    id: String,
    address: String,
}

/// What became of a request.
enum Outcome {
    Answered(Result<Accepted, PublishError>),
    /// It was not accepted, but another attempt may be.
    Again {
        reconnect: bool,
    },
}

impl Driver {
    async fn run(mut self) {
        loop {
            if self.batch.is_empty() {
                let Some(first) = self.queue.recv().await else {
                    return;
                };
                self.batch.push_back(first);
            }
            self.gather();
            self.drop_hopeless();
            if self.batch.is_empty() {
                continue;
            }
            let mut link = match self.link.take() {
                Some(link) => link,
                None => match self.connect().await {
                    Ok(link) => link,
                    Err(error) => {
                        if !mem::replace(&mut self.waits, true) {
                            warn!(%error, "publishing waits for Redis");
                        }
                        sleep(self.backoff.next()).await;
                        continue;
                    }
                },
            };
            let mut commands = Pipeline::with_capacity(self.batch.len());
            for queued in &self.batch {
                commands.add_command(queued.request.command.clone());
            }
            match link
                .connection
                .send_packed_commands(&commands, 0, commands.len())
                .await
            {
                Ok(answers) => self.resolve(link, answers).await,
                Err(error) => {
                    warn!(%error, "a connection for publishing is given up");
                    self.broken = link.name;
                    self.reconnects.inc();
                    // What this process gave an id has no token: nobody can say if it was heard.
                    self.batch.retain(|Queued { request, .. }| {
                        if request.id.is_some() {
                            request.series.fail();
                        }
                        request.id.is_none()
                    });
                }
            }
        }
    }

    /// Drops what nobody waits for any more, and what follows in its series.
    fn drop_hopeless(&mut self) {
        let now = Instant::now();
        self.batch.retain(|Queued { request, .. }| {
            if request.deadline <= now {
                request.series.fail();
            }
            !request.series.has_failed()
        });
    }

    /// Adds what waits to the batch, up to its bounds.
    fn gather(&mut self) {
        let mut bytes: usize = self.batch.iter().map(|queued| queued.request.size).sum();
        while self.batch.len() < BATCH && bytes < BATCH_BYTES {
            let Ok(queued) = self.queue.try_recv() else {
                break;
            };
            bytes += queued.request.size;
            self.batch.push_back(queued);
        }
    }

    async fn connect(&mut self) -> RedisResult<Link> {
        let mut connection = self
            .topology
            .layout()
            .home(0)
            .commands(self.timeout)
            .await?;
        let mut preparation = pipe();
        if let Some(Name { id, address }) = &self.broken {
            // What the old connection still holds would be accepted after what is sent from now
            // on, and in doubt be overtaken. A user who may not do this does without.
            preparation.add_command(
                cmd("CLIENT")
                    .arg("KILL")
                    .arg("ID")
                    .arg(id)
                    .arg("ADDR")
                    .arg(address)
                    .take(),
            );
        }
        preparation
            .add_command(cmd("CLIENT").arg("INFO").take())
            .add_command(cmd("SCRIPT").arg("LOAD").arg(ACCEPT).take());
        let mut answers = connection
            .send_packed_commands(&preparation, 0, preparation.len())
            .await?;
        answers.pop().unwrap_or(Value::Nil).extract_error()?;
        let name = answers.pop().and_then(|info| Name::parse(&info));
        self.broken = None;
        if mem::take(&mut self.waits) {
            info!("publishing goes on");
        }
        Ok(Link { connection, name })
    }

    /// Hands out the answers in order; what is to be sent again stays in the batch.
    async fn resolve(&mut self, link: Link, answers: Vec<Value>) {
        let missing = iter::repeat_with(|| Value::Nil);
        let mut outcomes: Vec<Outcome> =
            (self.batch.iter().zip(answers.into_iter().chain(missing)))
                .map(|(queued, answer)| outcome(&queued.request, answer))
                .collect();
        for index in 0..outcomes.len() {
            let Request {
                room, ephemeral, ..
            } = &self.batch[index].request;
            let overtaken = || {
                (index + 1..outcomes.len()).any(|later| {
                    let request = &self.batch[later].request;
                    // A server that takes no writes still publishes: what is ephemeral goes
                    // through, and must not cost those before it their second attempt.
                    matches!(outcomes[later], Outcome::Answered(Ok(_)))
                        && request.room == *room
                        && (*ephemeral || !request.ephemeral)
                })
            };
            // A second attempt must not bring it behind what its sender published later.
            if matches!(outcomes[index], Outcome::Again { .. }) && overtaken() {
                outcomes[index] = Outcome::Answered(Err(PublishError::Unavailable));
            }
        }
        let mut reconnect = false;
        for outcome in outcomes {
            let Some(queued) = self.batch.pop_front() else {
                break;
            };
            match outcome {
                Outcome::Answered(answer) => {
                    if answer.is_err() {
                        queued.request.series.fail();
                    }
                    drop(queued.request.answer.send(answer));
                }
                Outcome::Again { reconnect: wanted } => {
                    reconnect |= wanted;
                    self.batch.push_back(queued);
                }
            }
        }
        if !reconnect {
            self.link = Some(link);
        }
        if self.batch.is_empty() {
            self.backoff.reset();
        } else {
            sleep(self.backoff.next()).await;
        }
    }
}

impl Name {
    fn parse(info: &Value) -> Option<Self> {
        let Value::BulkString(info) = info else {
            return None;
        };
        let info = std::str::from_utf8(info).ok()?;
        let field = |name: &str| {
            let mut fields = info.split_ascii_whitespace();
            fields.find_map(|field| Some(field.strip_prefix(name)?.to_string()))
        };
        Some(Self {
            id: field("id=")?,
            address: field("addr=")?,
        })
    }
}

fn outcome(request: &Request, answer: Value) -> Outcome {
    let answer = match answer.extract_error() {
        Ok(answer) => answer,
        Err(error) => return refused(&error),
    };
    if let (Some(id), Value::Int(_)) = (request.id, &answer) {
        return Outcome::Answered(Ok(Accepted {
            id,
            repeated: false,
        }));
    }
    let accepted = match &answer {
        Value::Array(parts) => match parts.as_slice() {
            [Value::Int(2)] => return Outcome::Answered(Err(PublishError::Full)),
            [Value::Int(0), Value::BulkString(id)] => {
                payload::stamp(id).map(|stamp| (stamp, false))
            }
            [
                Value::Int(1),
                Value::BulkString(id),
                Value::BulkString(token),
            ] => payload::stamp(id).map(|stamp| (stamp, *token != request.token.as_bytes())),
            _ => None,
        },
        _ => None,
    };
    Outcome::Answered(match accepted {
        Some((stamp, repeated)) => Ok(Accepted {
            id: MessageId::new(stamp, request.shard),
            repeated,
        }),
        None => {
            error!(?answer, "Redis answers a publish with something else");
            Err(PublishError::Unavailable)
        }
    })
}

fn refused(error: &RedisError) -> Outcome {
    match error.code() {
        Some("OOM") => Outcome::Answered(Err(PublishError::Full)),
        // A new connection loads the script, or leads to the server that may write.
        Some("NOSCRIPT" | "READONLY" | "UNBLOCKED") => Outcome::Again { reconnect: true },
        Some(
            "LOADING" | "CLUSTERDOWN" | "MASTERDOWN" | "TRYAGAIN" | "BUSY" | "NOREPLICAS"
            | "MISCONF",
        ) => Outcome::Again { reconnect: false },
        _ => {
            error!(%error, "Redis refuses to publish");
            Outcome::Answered(Err(PublishError::Unavailable))
        }
    }
}
