//! One lane of publishes: its rooms' order is kept on whichever server has them, and over every
//! connection that breaks.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounter;
use redis::{Cmd, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::acceptance::{Acceptance, Terms};
use super::announce::announce;
use super::outcome::{self, Outcome};
use super::packed::Packed;
use super::topology::Topology;
use super::track::{Sent, Track};
use crate::backoff::Backoff;
use crate::broker::{Accepted, PublishError};
use crate::message::{MessageId, RoomName, Series, Stamp};

/// The most requests that wait for their turn.
const MAX_WAITING: usize = 16_384;

/// The most requests that are sent together: more would make the first wait for the last.
const BATCH: usize = 256;

/// The octets after which no further request is sent together with those before.
const BATCH_BYTES: usize = 512 << 10;

/// One draft on its way.
pub(super) struct Request {
    pub(super) room: RoomName,
    pub(super) shard: u16,
    pub(super) content: Content,
    /// What it weighs in a queue, in octets.
    pub(super) size: usize,
    /// Of what all lanes may hold.
    pub(super) _share: OwnedSemaphorePermit,
    /// It has no place in the room's order.
    pub(super) ephemeral: bool,
    /// Beyond it, nobody waits, and the token may be forgotten: it is not sent again.
    pub(super) deadline: Instant,
    pub(super) series: Series,
    pub(super) answer: oneshot::Sender<Result<Accepted, PublishError>>,
}

/// What is sent.
pub(super) enum Content {
    Message(Box<Acceptance>),
    /// This process made the id. Sent twice, it would be heard twice.
    Plain {
        command: Cmd,
        id: MessageId,
    },
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
    /// Starts a lane, which ends when it is dropped and empty. `shard` is any of its shards: they
    /// all have one home. It holds at most `bytes`.
    pub(super) fn start(
        topology: &Topology,
        shard: u16,
        timeout: Duration,
        bytes: usize,
        terms: &Arc<Terms>,
        reconnects: &IntCounter,
    ) -> Self {
        let (requests, queue) = mpsc::channel(MAX_WAITING);
        let driver = Driver {
            // Half of the time that a publish has: the other half is for another attempt.
            track: Track::new(topology, shard, timeout / 2, Arc::clone(terms)),
            topology: topology.clone(),
            terms: Arc::clone(terms),
            reconnects: reconnects.clone(),
            queue,
            batch: VecDeque::new(),
            next: None,
            backoff: Backoff::new(Duration::from_millis(20), Duration::from_millis(500)),
            waits: None,
        };
        tokio::spawn(driver.run());
        Self {
            requests,
            bytes: Arc::new(Semaphore::new(bytes)),
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
    track: Track,
    topology: Topology,
    terms: Arc<Terms>,
    reconnects: IntCounter,
    queue: mpsc::Receiver<Queued>,
    batch: VecDeque<Queued>,
    /// What may only be sent after the batch.
    next: Option<Queued>,
    backoff: Backoff,
    /// What the log was told that publishing waits for.
    waits: Option<Waits>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    Connection,
    Replicas,
}

impl Driver {
    async fn run(mut self) {
        loop {
            if self.batch.is_empty() {
                let first = match self.next.take() {
                    Some(next) => Some(next),
                    None => self.queue.recv().await,
                };
                let Some(first) = first else {
                    return;
                };
                self.batch.push_back(first);
            }
            self.gather();
            self.drop_hopeless();
            if self.batch.is_empty() {
                continue;
            }
            if let Err(error) = self.track.connect().await {
                if self.waits.replace(Waits::Connection) != Some(Waits::Connection) {
                    warn!(%error, "publishing waits for Redis");
                }
                self.topology.suspect();
                self.pause().await;
                continue;
            }
            // A connection may have taken long to come.
            self.drop_hopeless();
            if self.batch.is_empty() {
                continue;
            }
            let commands = self.commands();
            let journaled = |queued: &Queued| matches!(queued.request.content, Content::Message(_));
            let journaled = self.batch.iter().any(journaled);
            let Sent {
                answers,
                replicated,
                failure,
            } = self.track.send(commands, journaled).await;
            if let Some(reason) = failure {
                warn!(%reason, "a connection for publishing is given up");
                self.reconnects.inc();
                self.topology.suspect();
            }
            match answers {
                Some(answers) => self.resolve(answers, replicated).await,
                None => self.try_again(),
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

    /// Adds what waits to the batch, up to its bounds. Where messages are shown only when replicas
    /// have them, what is ephemeral is not sent together with one, or would overtake it.
    fn gather(&mut self) {
        let mut bytes: usize = self.batch.iter().map(|queued| queued.request.size).sum();
        while self.batch.len() < BATCH && bytes < BATCH_BYTES {
            let Some(queued) = self.next.take().or_else(|| self.queue.try_recv().ok()) else {
                break;
            };
            let last = self.batch.back().map(|last| last.request.ephemeral);
            if self.terms.replicas > 0 && last.is_some_and(|last| last != queued.request.ephemeral)
            {
                self.next = Some(queued);
                break;
            }
            bytes += queued.request.size;
            self.batch.push_back(queued);
        }
    }

    /// What is sent together. Each message of a series names the one before it: where that one is
    /// refused, those that were sent behind it are too, though the journal has room again.
    fn commands(&self) -> Packed {
        let until = self.track.latest();
        let octets = self.batch.iter().map(|queued| queued.request.size).sum();
        let mut commands = Packed::with_capacity(octets);
        let mut before = HashMap::with_capacity(self.batch.len());
        for Queued { request, .. } in &self.batch {
            match &request.content {
                Content::Plain { command, .. } => commands.add(command),
                Content::Message(acceptance) => {
                    let place = (request.series.identity(), request.shard);
                    let after = before.insert(place, acceptance.key());
                    acceptance.pack(&self.terms, after, until, &mut commands);
                }
            }
        }
        commands
    }

    /// After an attempt whose answers were lost: what this process gave an id has no token, and
    /// nobody can say whether it was heard.
    fn try_again(&mut self) {
        self.batch.retain_mut(|Queued { request, .. }| {
            match &mut request.content {
                Content::Message(acceptance) if !self.terms.knows_itself => acceptance.forget(),
                Content::Message(_) => {}
                Content::Plain { .. } => {
                    request.series.fail();
                    return false;
                }
            }
            true
        });
    }

    /// Hands out the answers in order; what is to be sent again stays in the batch.
    async fn resolve(&mut self, answers: Vec<Value>, replicated: bool) {
        let mut outcomes: Vec<Outcome> = (self.batch.iter_mut())
            .zip(answers)
            .map(|(queued, answer)| outcome::read(&mut queued.request, answer))
            .collect();
        self.give_up_overtaken(&mut outcomes);
        let replicated = replicated && (self.terms.replicas == 0 || self.announce(&outcomes).await);
        let (mut reconnect, mut moved, mut alone) = (false, false, false);
        for outcome in outcomes {
            let Some(mut queued) = self.batch.pop_front() else {
                break;
            };
            let request = &mut queued.request;
            match (outcome, &mut request.content) {
                // Its id is kept: whoever has read it must not read another.
                (Outcome::Answered(Ok(_)), Content::Message(_)) if !replicated => {
                    alone = true;
                    self.batch.push_back(queued);
                }
                (Outcome::Answered(answer), _) => {
                    if answer.is_err() {
                        request.series.fail();
                    }
                    drop(queued.request.answer.send(answer));
                }
                (Outcome::Again(again), content) => {
                    reconnect |= again.reconnect;
                    moved |= again.moved;
                    if let Content::Message(acceptance) = content
                        && !self.terms.knows_itself
                    {
                        acceptance.forget();
                    }
                    self.batch.push_back(queued);
                }
            }
        }
        if moved {
            self.topology.suspect();
        }
        if reconnect {
            self.track.leave();
        }
        if alone && self.waits.replace(Waits::Replicas) != Some(Waits::Replicas) {
            warn!(
                wanted = self.track.replicas(),
                "publishing waits for replicas of Redis: too few have what was sent"
            );
        }
        if self.batch.is_empty() {
            self.backoff.reset();
            if self.waits.take().is_some() {
                info!("publishing goes on");
            }
        } else {
            self.pause().await;
        }
    }

    /// Shows what was accepted, now that replicas have it. Whoever is answered may read it.
    async fn announce(&mut self, outcomes: &[Outcome]) -> bool {
        let mut accepted = BTreeMap::<u16, Stamp>::new();
        for (queued, outcome) in self.batch.iter().zip(outcomes) {
            if let Outcome::Answered(Ok(Accepted { id, .. })) = outcome
                && let Content::Message(_) = queued.request.content
            {
                let last = accepted.entry(queued.request.shard).or_insert(id.stamp());
                *last = id.stamp().max(*last);
            }
        }
        if accepted.is_empty() {
            return true;
        }
        let mut commands = Packed::default();
        for (shard, last) in accepted {
            commands.add(&announce(self.terms.publish, shard, last));
        }
        let sent = self.track.send(commands, false).await;
        if let Some(reason) = sent.failure {
            debug!(%reason, "what was accepted cannot be shown yet");
            self.topology.suspect();
            return false;
        }
        let mut answers = sent.answers.into_iter().flatten();
        answers.all(|answer| matches!(answer, Value::Int(_)))
    }

    /// A second attempt must not bring a message behind what its sender published later.
    fn give_up_overtaken(&self, outcomes: &mut [Outcome]) {
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
            if matches!(outcomes[index], Outcome::Again(_)) && overtaken() {
                outcomes[index] = Outcome::Answered(Err(PublishError::Unavailable));
            }
        }
    }

    /// Waits before the next attempt, unless the shard has another home now.
    async fn pause(&mut self) {
        let pause = sleep(self.backoff.next());
        tokio::select! {
            () = pause => {}
            () = self.track.moved() => {}
        }
    }
}
