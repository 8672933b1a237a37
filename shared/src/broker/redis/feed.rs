//! A persister's share of the journals, through a consumer group.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use std::{mem, slice};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use prometheus::IntCounter;
use redis::{Cmd, Value, cmd};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use super::announce;
use super::commands::Commands;
use super::entries::{self, StreamEntry};
use super::keys::{self, GROUP};
use super::lasting;
use super::reap;
use super::settle::Journaled;
use super::topology::{Layout, Topology};
use crate::broker::{BrokerError, Entry, Feed, IDLE_ANSWER, Settler};
use crate::config::{BrokerSettings, Protection};

/// How long a blocking read may take altogether, a second attempt included; each one waits for
/// [`IDLE_ANSWER`] at most, so a link that is silent for half of this is dead.
const READ_TIMEOUT: Duration = Duration::from_secs(8);

/// The same where the servers of a cluster are read side by side and nothing blocks.
const LOOK_TIMEOUT: Duration = Duration::from_secs(4);

/// How often the servers of a cluster are read while there is nothing, at the most, and the pause
/// for each shard: with many, an idle persister must not keep the servers busy.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const LOOK_PAUSE: Duration = Duration::from_micros(300);

/// How long a shard whose server did not answer is left alone, so that the others are read.
const REST: Duration = Duration::from_millis(500);

/// For how long what gathers is not looked at: each read is a write to Redis's log, and is synced.
const UNREAD: Duration = Duration::from_millis(20);

const MAKE_GROUP: &str = include_str!("group.lua");

/// Reads the journals of all shards.
pub(super) struct JournalFeed {
    topology: Topology,
    consumer: String,
    /// The journals' keys, by shard.
    journals: Vec<String>,
    takeover_after: Duration,
    /// Off only to show what it is worth.
    takes_over: bool,
    /// No command can name the journals of two servers, and a blocking one would hold up those of
    /// the same server behind it.
    by_shard: bool,
    /// How many replicas must have what is handed out, and since when they are short.
    replicas: u8,
    short: Option<Instant>,
    /// Blocking reads have a connection of their own: they hold up what comes behind them.
    reader: Commands,
    writer: Arc<Commands>,
    /// Read and not yet handed out.
    waiting: VecDeque<Entry>,
    /// When the journals were read to their ends for what was handed out last. What comes right
    /// behind waits for others; what comes after a pause goes at once.
    emptied: Option<Instant>,
    /// What must be looked through before anything new is read.
    sweeps: Vec<Sweep>,
    swept: Option<Instant>,
    /// Shards of which a read was begun and its answer has not come, or has come to a second
    /// attempt: this consumer may own entries unseen.
    in_doubt: BTreeSet<usize>,
    /// Shards that are left alone, and until when.
    resting: BTreeMap<usize, Instant>,
}

/// A walk through entries of one shard that were handed out before.
struct Sweep {
    shard: usize,
    cursor: String,
    whose: Whose,
}

#[derive(Clone, Copy)]
enum Whose {
    /// This consumer's, whose delivery may have been lost on a broken connection.
    Own,
    /// Anyone's who has been silent for too long.
    Silent,
}

impl JournalFeed {
    /// # Errors
    /// [`BrokerError`] when the groups cannot be made within the connect deadline.
    pub(super) async fn open(
        topology: &Topology,
        settings: &BrokerSettings,
        reconnects: &IntCounter,
        consumer: &str,
    ) -> Result<Self, BrokerError> {
        let commands = |timeout| Commands::new(topology.clone(), timeout, reconnects.clone());
        let by_shard = topology.is_cluster();
        let feed = Self {
            topology: topology.clone(),
            consumer: consumer.into(),
            journals: (0..settings.shards).map(keys::journal).collect(),
            takeover_after: settings.takeover_after,
            takes_over: !settings.without.has(Protection::Takeover),
            by_shard,
            replicas: settings.wanted_replicas(),
            short: None,
            reader: if by_shard {
                commands(LOOK_TIMEOUT).once()
            } else {
                commands(READ_TIMEOUT)
            },
            writer: Arc::new(commands(settings.publish_timeout)),
            waiting: VecDeque::new(),
            emptied: None,
            sweeps: Vec::new(),
            swept: None,
            in_doubt: BTreeSet::new(),
            resting: BTreeMap::new(),
        };
        topology
            .insist(settings.connect_timeout, || {
                feed.make_groups(0..settings.shards).boxed()
            })
            .await?;
        Ok(feed)
    }

    /// Makes the groups that do not exist. They begin at the journal's first entry, so nothing
    /// that was accepted before the first persister came is missed.
    async fn make_groups(
        &self,
        shards: impl Iterator<Item = u16> + Send,
    ) -> Result<(), BrokerError> {
        let groups = shards.map(|shard| {
            let mut make = cmd("EVAL");
            make.arg(MAKE_GROUP).arg(1).arg(keys::journal(shard));
            (shard, make.arg(GROUP).take())
        });
        for answer in self.writer.spread(groups.collect()).await {
            match answer?.extract_error() {
                Err(error) if error.code() != Some("BUSYGROUP") => {
                    return Err(self.topology.explain(&error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn fill(&mut self, max: usize, linger: Duration) -> Result<(), BrokerError> {
        self.plan_sweeps().await;
        while self.waiting.len() < max && !self.sweeps.is_empty() {
            self.sweep(max - self.waiting.len()).await?;
        }
        let mut next = self.awake();
        let until = self
            .emptied
            .take()
            .map_or_else(Instant::now, |emptied| emptied + linger);
        let look = (linger / 4).max(UNREAD);
        if self.waiting.is_empty() {
            sleep_until(until.min(Instant::now() + look)).await;
            next = self.await_first(max).await?;
            if self.waiting.is_empty() {
                return Ok(());
            }
        }
        while self.waiting.len() < max {
            if next.is_empty() {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                sleep(left.min(look)).await;
                next = self.awake();
            }
            // A read for the last few would cost Redis as much as one for hundreds.
            if max - self.waiting.len() < next.len() && self.waiting.len() > max / 2 {
                break;
            }
            // Each shard gives at least one, and what is taken beyond `max` would be left to a
            // takeover if this consumer ended now.
            next.truncate(max - self.waiting.len());
            next = self.read(&next, max - self.waiting.len(), None).await?;
        }
        self.emptied = next.is_empty().then(Instant::now);
        Ok(())
    }

    /// Waits for what no consumer has had, [`IDLE_ANSWER`] at most.
    async fn await_first(&mut self, max: usize) -> Result<Vec<usize>, BrokerError> {
        let until = Instant::now() + IDLE_ANSWER;
        let pause = LOOK_EVERY.max(LOOK_PAUSE * self.journals.len() as u32);
        loop {
            let block = (!self.by_shard).then_some(IDLE_ANSWER);
            let more = self.read(&self.awake(), max, block).await?;
            if !self.waiting.is_empty() || Instant::now() + pause >= until {
                return Ok(more);
            }
            sleep(pause).await;
        }
    }

    /// The shards that are not left alone now.
    fn awake(&self) -> Vec<usize> {
        let now = Instant::now();
        let rests = |shard: &usize| self.resting.get(shard).is_some_and(|until| *until > now);
        (0..self.journals.len())
            .filter(|shard| !rests(shard))
            .collect()
    }

    /// Reads what no consumer has had, at most an equal share of `max` from each of these shards.
    /// Returns those that had at least their share, and so perhaps more.
    async fn read(
        &mut self,
        shards: &[usize],
        max: usize,
        block: Option<Duration>,
    ) -> Result<Vec<usize>, BrokerError> {
        let share = (max / shards.len().max(1)).max(1);
        let together = if self.by_shard {
            1
        } else {
            shards.len().max(1)
        };
        let commands = shards.chunks(together).map(|shards| {
            let mut command = self.read_group(share);
            if let Some(block) = block {
                command.arg("BLOCK").arg(block.as_millis() as u64);
            }
            let journals: Vec<&String> =
                shards.iter().map(|shard| &self.journals[*shard]).collect();
            command.arg("STREAMS").arg(journals);
            command.arg(vec![">"; shards.len()]);
            (shards, command)
        });
        let commands = commands.collect();
        let layout = self.topology.layout();
        let answers = self.ask(commands).await?;
        let read = (answers.into_iter().flatten())
            .flat_map(|answer| entries::read(answer, &self.journals));
        let read: Vec<_> = read.collect();
        let mut more = Vec::new();
        for (shard, entries) in self.lasting(&layout, read).await? {
            if entries.len() >= share {
                more.push(shard);
            }
            self.hand_over(shard, entries);
        }
        Ok(more)
    }

    /// Looks through the next part of what was handed out before, in all shards at once.
    async fn sweep(&mut self, max: usize) -> Result<(), BrokerError> {
        let sweeps = mem::take(&mut self.sweeps);
        let share = (max / sweeps.len().max(1)).max(1);
        let command = |sweep: &Sweep| {
            let journal = &self.journals[sweep.shard];
            match sweep.whose {
                Whose::Own => {
                    let mut command = self.read_group(share);
                    let command = command.arg("STREAMS").arg(journal);
                    command.arg(&sweep.cursor).take()
                }
                Whose::Silent => {
                    let mut command = cmd("XAUTOCLAIM");
                    command.arg(journal).arg(GROUP).arg(&self.consumer);
                    command.arg(self.takeover_after.as_millis() as u64);
                    command.arg(&sweep.cursor).arg("COUNT").arg(share).take()
                }
            }
        };
        let commands = (sweeps.iter())
            .map(|sweep| (slice::from_ref(&sweep.shard), command(sweep)))
            .collect();
        let layout = self.topology.layout();
        let answers = match self.ask(commands).await {
            Ok(answers) => answers,
            // They are in doubt now, and looked through when the server is back; the others go on.
            Err(BrokerError::Unavailable(_)) if self.by_shard => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::with_capacity(sweeps.len());
        let mut unfinished = Vec::new();
        for (mut sweep, answer) in sweeps.into_iter().zip(answers) {
            let Some(answer) = answer else {
                continue;
            };
            let (next, entries) = match sweep.whose {
                Whose::Own => {
                    let mut read = entries::read(answer, &self.journals);
                    let entries = read.pop().map(|(_, entries)| entries).unwrap_or_default();
                    let last = entries.last().and_then(|entry| entry.stamp);
                    let next = last.map(|last| format!("{}-{}", last.ms, last.seq));
                    (next, entries)
                }
                Whose::Silent => entries::claimed(answer),
            };
            let shard = sweep.shard;
            if !entries.is_empty() && matches!(sweep.whose, Whose::Silent) {
                let entries = entries.len();
                info!(entries, shard, "took over from a silent persister");
            }
            found.push((shard, entries));
            if let Some(cursor) = next {
                sweep.cursor = cursor;
                unfinished.push(sweep);
            }
        }
        self.sweeps = unfinished;
        for (shard, entries) in self.lasting(&layout, found).await? {
            self.hand_over(shard, entries);
        }
        Ok(())
    }

    /// Keeps of what was read what [lasts](lasting::shards); the rest is in doubt.
    async fn lasting(
        &mut self,
        layout: &Layout,
        mut read: Vec<(usize, Vec<StreamEntry>)>,
    ) -> Result<Vec<(usize, Vec<StreamEntry>)>, BrokerError> {
        read.retain(|(_, entries)| !entries.is_empty());
        let shards: BTreeSet<u16> = read.iter().map(|(shard, _)| *shard as u16).collect();
        if self.replicas == 0 || shards.is_empty() {
            return Ok(read);
        }
        let last = lasting::shards(
            &self.topology,
            layout,
            &self.reader,
            self.replicas,
            &shards,
            &mut self.short,
        )
        .await;
        let gone = shards.difference(&last).map(|shard| usize::from(*shard));
        self.in_doubt.extend(gone);
        if last.is_empty() {
            return Err(BrokerError::Unavailable(
                "what was read from Redis may not last: it is read again".into(),
            ));
        }
        read.retain(|(shard, _)| last.contains(&(*shard as u16)));
        // Stored unseen, nobody would find it, should the gateway that had it accepted have died.
        let hidden = announce::read(&self.reader, self.by_shard, &mut read).await;
        self.in_doubt.extend(hidden);
        if read.is_empty() {
            return Err(BrokerError::Unavailable(
                "what was read from Redis cannot be shown: it is read again".into(),
            ));
        }
        Ok(read)
    }

    /// The start of a read as this consumer, of at most so many entries from each stream.
    fn read_group(&self, count: usize) -> Cmd {
        cmd("XREADGROUP")
            .arg("GROUP")
            .arg(GROUP)
            .arg(&self.consumer)
            .arg("COUNT")
            .arg(count)
            .take()
    }

    fn hand_over(&mut self, shard: usize, entries: Vec<StreamEntry>) {
        let entries = entries.into_iter();
        self.waiting
            .extend(entries.filter_map(|entry| entry.into_entry(shard as u16)));
    }

    async fn plan_sweeps(&mut self) {
        if !self.takes_over {
            return;
        }
        let start = |whose| {
            move |shard| Sweep {
                shard,
                cursor: "0-0".into(),
                whose,
            }
        };
        let awake = self.awake();
        let in_doubt = mem::take(&mut self.in_doubt).into_iter();
        let (doubtful, later): (BTreeSet<_>, _) =
            in_doubt.partition(|shard| awake.binary_search(shard).is_ok());
        self.in_doubt = later;
        self.sweeps
            .extend(doubtful.into_iter().map(start(Whose::Own)));
        let due = |swept: Instant| swept.elapsed() >= self.takeover_after / 2;
        if self.sweeps.is_empty() && self.swept.is_none_or(due) {
            reap::reap(&self.reader, &awake, self.takeover_after).await;
            self.sweeps
                .extend(awake.into_iter().map(start(Whose::Silent)));
            self.swept = Some(Instant::now());
        }
    }

    /// Sends commands, each with the shards that it reads, and returns the answers, in this order,
    /// of those that have one.
    ///
    /// # Errors
    /// [`BrokerError`] when none has.
    async fn ask(
        &mut self,
        commands: Vec<(&[usize], Cmd)>,
    ) -> Result<Vec<Option<Value>>, BrokerError> {
        let (shards, commands): (Vec<_>, Vec<_>) = commands
            .into_iter()
            .map(|(shards, command)| (shards, (shards[0] as u16, command)))
            .unzip();
        let asked: BTreeSet<usize> = shards.iter().copied().flatten().copied().collect();
        let doubtful: BTreeSet<usize> = self.in_doubt.intersection(&asked).copied().collect();
        self.in_doubt.extend(&asked);
        // The first connection of all has lost nothing.
        let before = self.reader.connections().max(1);
        let answers = self.reader.spread(commands).await;
        let doubted = self.reader.connections() > before;
        let mut values = Vec::with_capacity(answers.len());
        let mut failure = BrokerError::Unavailable("no server of Redis answers".into());
        for (shards, answer) in shards.into_iter().zip(answers) {
            // Only the whole can be an error: a look at all that is in it costs as much as reading it.
            let answer = answer.and_then(|answer| match answer {
                Value::ServerError(error) if error.code() != "NOGROUP" => {
                    Err(self.topology.explain(&error.into()))
                }
                answer => Ok(answer),
            });
            match answer {
                Ok(Value::ServerError(_)) => {
                    warn!("Redis has lost the journals or their groups: the groups are made again");
                    let numbers = shards.iter().map(|shard| *shard as u16);
                    if let Err(error) = self.make_groups(numbers).await {
                        // What the others have answered is not thrown away for it.
                        failure = error;
                        values.push(None);
                        continue;
                    }
                    values.push(Some(Value::Nil));
                }
                Ok(value) => values.push(Some(value)),
                Err(error) => {
                    failure = error;
                    if self.by_shard {
                        let until = Instant::now() + REST;
                        self.resting
                            .extend(shards.iter().map(|shard| (*shard, until)));
                    }
                    values.push(None);
                    continue;
                }
            }
            for shard in shards {
                self.resting.remove(shard);
                if !doubted && !doubtful.contains(shard) {
                    self.in_doubt.remove(shard);
                }
            }
        }
        if values.iter().all(Option::is_none) {
            return Err(failure);
        }
        Ok(values)
    }
}

impl Feed for JournalFeed {
    fn next(
        &mut self,
        max: usize,
        linger: Duration,
    ) -> BoxFuture<'_, Result<Vec<Entry>, BrokerError>> {
        async move {
            let read = self.fill(max, linger).await;
            if self.waiting.is_empty() {
                read?;
            }
            let count = max.min(self.waiting.len());
            Ok(self.waiting.drain(..count).collect())
        }
        .boxed()
    }

    fn settler(&self) -> Arc<dyn Settler> {
        Arc::new(Journaled {
            topology: self.topology.clone(),
            commands: Arc::clone(&self.writer),
        })
    }
}
