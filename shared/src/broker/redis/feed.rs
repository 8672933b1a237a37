//! A persister's share of the journals, through a consumer group.

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use prometheus::IntCounter;
use redis::{Cmd, Pipeline, Value, cmd, pipe};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::commands::Commands;
use super::entries::{self, StreamEntry};
use super::keys::{self, GROUP};
use super::settle;
use super::topology::Topology;
use crate::broker::{BrokerError, Entry, Feed, IDLE_ANSWER, Settled};
use crate::config::BrokerSettings;

/// How long a blocking read may take altogether, a second attempt included; each one waits for
/// [`IDLE_ANSWER`] at most, so a link that is silent for half of this is dead.
const READ_TIMEOUT: Duration = Duration::from_secs(8);

/// A consumer that was silent for this many times the takeover time, and holds nothing, is
/// forgotten.
const SILENCE: u32 = 10;

const MAKE_GROUP: &str = include_str!("group.lua");

const REAP: &str = include_str!("reap.lua");

/// Reads the journals of all shards.
pub(super) struct JournalFeed {
    topology: Topology,
    consumer: String,
    /// The journals' keys, by shard.
    journals: Vec<String>,
    takeover_after: Duration,
    /// Blocking reads have a connection of their own: they hold up what comes behind them.
    reader: Commands,
    writer: Commands,
    /// Read and not yet handed out.
    waiting: VecDeque<Entry>,
    /// What must be looked through before anything new is read.
    sweeps: VecDeque<Sweep>,
    swept: Option<Instant>,
    /// A read was begun and its answer has not come, or has come to a second attempt: this consumer
    /// may own entries unseen.
    in_doubt: bool,
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
        let feed = Self {
            topology: topology.clone(),
            consumer: consumer.to_string(),
            journals: (0..settings.shards).map(keys::journal).collect(),
            takeover_after: settings.takeover_after,
            reader: commands(READ_TIMEOUT),
            writer: commands(settings.publish_timeout),
            waiting: VecDeque::new(),
            sweeps: VecDeque::new(),
            swept: None,
            in_doubt: false,
        };
        topology
            .insist(settings.connect_timeout, || feed.make_groups().boxed())
            .await?;
        Ok(feed)
    }

    /// Makes the groups that do not exist. They begin at the journal's first entry, so nothing
    /// that was accepted before the first persister came is missed.
    async fn make_groups(&self) -> Result<(), BrokerError> {
        let mut commands = Pipeline::with_capacity(self.journals.len());
        for journal in &self.journals {
            commands
                .cmd("EVAL")
                .arg(MAKE_GROUP)
                .arg(1)
                .arg(journal)
                .arg(GROUP);
        }
        for answer in self.writer.run(&commands).await? {
            match answer.extract_error() {
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
        let all: Vec<usize> = (0..self.journals.len()).collect();
        let mut next = all.clone();
        if self.waiting.is_empty() {
            next = self.read(&all, max, Some(IDLE_ANSWER)).await?;
            if self.waiting.is_empty() {
                return Ok(());
            }
        }
        let until = Instant::now() + linger;
        while self.waiting.len() < max {
            if next.is_empty() {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                sleep(left.min((linger / 4).max(Duration::from_millis(1)))).await;
                next.clone_from(&all);
            }
            // Each shard gives at least one, and what is taken beyond `max` would be left to a
            // takeover if this consumer ended now.
            next.truncate(max - self.waiting.len());
            next = self.read(&next, max - self.waiting.len(), None).await?;
        }
        Ok(())
    }

    /// Reads what no consumer has had, at most an equal share of `max` from each of these shards.
    /// Returns those that had at least their share, and so perhaps more.
    async fn read(
        &mut self,
        shards: &[usize],
        max: usize,
        block: Option<Duration>,
    ) -> Result<Vec<usize>, BrokerError> {
        let share = (max / shards.len()).max(1);
        let mut command = self.read_group(share);
        if let Some(block) = block {
            command.arg("BLOCK").arg(block.as_millis() as u64);
        }
        let journals: Vec<&String> = shards.iter().map(|shard| &self.journals[*shard]).collect();
        command
            .arg("STREAMS")
            .arg(journals)
            .arg(vec![">"; shards.len()]);
        let answer = self.ask(command).await?;
        let mut more = Vec::new();
        for (shard, entries) in entries::read(answer, &self.journals) {
            if entries.len() >= share {
                more.push(shard);
            }
            self.hand_over(shard, entries);
        }
        Ok(more)
    }

    /// Looks through the next part of what was handed out before.
    async fn sweep(&mut self, max: usize) -> Result<(), BrokerError> {
        let Some(Sweep {
            shard,
            cursor,
            whose,
        }) = self.sweeps.front()
        else {
            return Ok(());
        };
        let (shard, whose) = (*shard, *whose);
        let journal = &self.journals[shard];
        let command = match whose {
            Whose::Own => {
                let mut command = self.read_group(max);
                command.arg("STREAMS").arg(journal).arg(cursor).take()
            }
            Whose::Silent => {
                let mut command = cmd("XAUTOCLAIM");
                command.arg(journal).arg(GROUP).arg(&self.consumer);
                command.arg(self.takeover_after.as_millis() as u64);
                command.arg(cursor).arg("COUNT").arg(max).take()
            }
        };
        let answer = self.ask(command).await?;
        let (next, entries) = match whose {
            Whose::Own => {
                let mut read = entries::read(answer, &self.journals);
                let entries = read.pop().map(|(_, entries)| entries).unwrap_or_default();
                let last = entries.last().and_then(|entry| entry.stamp);
                (
                    last.map(|last| format!("{}-{}", last.ms, last.seq)),
                    entries,
                )
            }
            Whose::Silent => claimed(answer),
        };
        if !entries.is_empty() && matches!(whose, Whose::Silent) {
            info!(
                entries = entries.len(),
                shard, "took over from a silent persister"
            );
        }
        self.hand_over(shard, entries);
        match (next, self.sweeps.front_mut()) {
            (Some(next), Some(sweep)) => sweep.cursor = next,
            _ => drop(self.sweeps.pop_front()),
        }
        Ok(())
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
        let entries = entries
            .into_iter()
            .filter_map(|entry| entry.into_entry(shard as u16));
        self.waiting.extend(entries);
    }

    async fn plan_sweeps(&mut self) {
        let shards = 0..self.journals.len();
        let start = |whose| {
            move |shard| Sweep {
                shard,
                cursor: "0-0".into(),
                whose,
            }
        };
        if mem::take(&mut self.in_doubt) {
            self.sweeps.extend(shards.clone().map(start(Whose::Own)));
        }
        let due = |swept: Instant| swept.elapsed() >= self.takeover_after / 2;
        if self.sweeps.is_empty() && self.swept.is_none_or(due) {
            self.sweeps.extend(shards.map(start(Whose::Silent)));
            self.swept = Some(Instant::now());
            self.reap().await;
        }
    }

    async fn ask(&mut self, command: Cmd) -> Result<Value, BrokerError> {
        let in_doubt = mem::replace(&mut self.in_doubt, true);
        // The first connection of all has lost nothing.
        let before = self.reader.connections().await.max(1);
        let answer = self.reader.run(pipe().add_command(command)).await?;
        self.in_doubt = in_doubt || self.reader.connections().await > before;
        let answer = answer.into_iter().next().unwrap_or(Value::Nil);
        match answer.extract_error() {
            Ok(answer) => Ok(answer),
            Err(error) if error.code() == Some("NOGROUP") => {
                warn!("Redis has lost the journals or their groups: the groups are made again");
                self.make_groups().await?;
                Ok(Value::Nil)
            }
            Err(error) => Err(self.topology.explain(&error)),
        }
    }

    /// Forgets the consumers of persisters that are long gone.
    async fn reap(&self) {
        let mut commands = Pipeline::with_capacity(self.journals.len());
        let silence = (self.takeover_after * SILENCE).as_millis() as u64;
        for journal in &self.journals {
            commands
                .cmd("EVAL")
                .arg(REAP)
                .arg(1)
                .arg(journal)
                .arg(GROUP)
                .arg(silence);
        }
        match self.writer.run(&commands).await {
            Ok(answers) => {
                for error in answers
                    .into_iter()
                    .filter_map(|answer| answer.extract_error().err())
                {
                    debug!(%error, "silent consumers stay");
                }
            }
            Err(error) => debug!(%error, "silent consumers stay"),
        }
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

    fn settle(&mut self, settled: Vec<Settled>) -> BoxFuture<'_, Result<(), BrokerError>> {
        async move { settle::journaled(&self.topology, &self.writer, settled).await }.boxed()
    }
}

/// Takes apart what XAUTOCLAIM answers: where to go on, if anywhere, and what was claimed.
fn claimed(answer: Value) -> (Option<String>, Vec<StreamEntry>) {
    let Value::Array(parts) = answer else {
        return (None, Vec::new());
    };
    let mut parts = parts.into_iter();
    let next = match parts.next() {
        Some(Value::BulkString(next)) if next != b"0-0" => String::from_utf8(next).ok(),
        _ => None,
    };
    (next, parts.next().map(entries::range).unwrap_or_default())
}
