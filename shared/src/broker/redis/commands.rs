//! A shared connection to each server for commands, made again when it breaks.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use prometheus::IntCounter;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisError, Value};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

use super::connect::{Address, Connector};
use super::topology::{Layout, Topology};
use crate::backoff::Backoff;
use crate::broker::BrokerError;

/// Runs commands that may be repeated without harm, on the servers that have their shards.
pub(super) struct Commands {
    topology: Topology,
    timeout: Duration,
    reconnects: IntCounter,
    /// By the server's address.
    links: Mutex<HashMap<Address, Arc<Link>>>,
    made: AtomicU64,
    /// One failure is enough.
    once: bool,
}

/// The connection to one server.
#[derive(Default)]
struct Link(tokio::sync::Mutex<State>);

#[derive(Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    /// Counts the connections, so that only the one that failed is given up.
    made: u64,
}

impl Commands {
    /// Connects at the first command. Every [`Self::run`] and [`Self::spread`] ends within `timeout`.
    pub(super) fn new(topology: Topology, timeout: Duration, reconnects: IntCounter) -> Self {
        Self {
            topology,
            timeout,
            reconnects,
            links: Mutex::default(),
            made: AtomicU64::new(0),
            once: false,
        }
    }

    /// Has it report a failure at once, for who has others to serve meanwhile.
    pub(super) fn once(self) -> Self {
        Self { once: true, ..self }
    }

    /// Sends commands for one shard together and returns their answers; one that the server refuses
    /// has its error as its value. When the server does not have the shard, or may not write, all
    /// are sent again to the one that does.
    ///
    /// # Errors
    /// [`BrokerError`] when the shard's server has not answered, after a second attempt if time
    /// allows, and after all that it does allow where another server may take its place.
    pub(super) async fn run(
        &self,
        shard: u16,
        pipeline: &Pipeline,
    ) -> Result<Vec<Value>, BrokerError> {
        let mut trial = Trial::new(self);
        loop {
            let layout = self.topology.layout();
            let attempt = self.attempt(layout.home(shard), shard, pipeline);
            let error = match timeout_at(trial.deadline, attempt).await {
                Ok(Ok(values)) => match values.iter().find_map(misplaced) {
                    None => return Ok(values),
                    Some(error) => {
                        trial.elsewhere = true;
                        layout.home(shard).explain(&error)
                    }
                },
                Ok(Err(error)) => error,
                Err(_) => late(),
            };
            if !trial.goes_on_after(&error).await {
                return Err(error);
            }
        }
    }

    /// Sends each command to the server that has its shard, those for one server together and all
    /// servers at once. Returns the answers in the order of the commands, each as if it had been
    /// [run](Self::run) by itself.
    pub(super) async fn spread(
        &self,
        commands: Vec<(u16, Cmd)>,
    ) -> Vec<Result<Value, BrokerError>> {
        let mut trial = Trial::new(self);
        let mut answers: Vec<Result<Value, BrokerError>> =
            commands.iter().map(|_| Err(late())).collect();
        let mut left: Vec<_> = commands.into_iter().enumerate().collect();
        loop {
            let layout = self.topology.layout();
            let mut servers = BTreeMap::<Address, Vec<(usize, (u16, Cmd))>>::new();
            for (index, (shard, command)) in left.drain(..) {
                let server = servers
                    .entry(layout.home(shard).address().clone())
                    .or_default();
                server.push((index, (shard, command)));
            }
            let attempts = servers.into_values().map(|part| {
                let (layout, deadline) = (&layout, trial.deadline);
                async move {
                    let mut pipeline = Pipeline::with_capacity(part.len());
                    for (_, (_, command)) in &part {
                        pipeline.add_command(command.clone());
                    }
                    let shard = part.first().map_or(0, |(_, (shard, _))| *shard);
                    let attempt = self.attempt(layout.home(shard), shard, &pipeline);
                    let answered = timeout_at(deadline, attempt).await;
                    (part, answered.unwrap_or_else(|_| Err(late())))
                }
            });
            let mut last = None;
            for (part, answered) in join_all(attempts).await {
                let (values, error) = match answered {
                    Ok(values) => (values, None),
                    Err(error) => (Vec::new(), Some(error)),
                };
                let mut values = values.into_iter();
                for (index, (shard, command)) in part {
                    let error = match (values.next(), &error) {
                        (Some(value), _) => match misplaced(&value) {
                            None => {
                                answers[index] = Ok(value);
                                continue;
                            }
                            Some(error) => {
                                trial.elsewhere = true;
                                layout.home(shard).explain(&error)
                            }
                        },
                        (None, Some(error)) => error.clone(),
                        (None, None) => late(),
                    };
                    answers[index] = Err(error.clone());
                    last = Some(error);
                    left.push((index, (shard, command)));
                }
            }
            match last {
                Some(error) if trial.goes_on_after(&error).await => {}
                _ => return answers,
            }
        }
    }

    /// How many connections were made so far. When it is greater after a [`Self::run`] than before,
    /// a server may have carried out the commands twice, and answered into a broken connection
    /// the first time.
    pub(super) fn connections(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    async fn attempt(
        &self,
        server: &Connector,
        shard: u16,
        pipeline: &Pipeline,
    ) -> Result<Vec<Value>, BrokerError> {
        let address = server.address();
        let link = self.link(address);
        let mut number = 0;
        let answered = {
            let asked = async {
                // Half of the time, so that a frozen connection is noticed while someone still waits.
                let (mut connection, made) = link.connection(self, server).await?;
                number = made;
                connection
                    .send_packed_commands(pipeline, 0, pipeline.len())
                    .await
                    .map_err(|error| server.explain(&error))
            };
            let mut layouts = self.topology.watch();
            let left = layouts.wait_for(|layout| layout.home(shard).address() != address);
            tokio::select! {
                // What an old primary answers at the moment when the live links leave it is stale.
                biased;
                _ = left => Err(BrokerError::Unavailable(
                    format!("Redis at {address} does not have the shard any more")
                )),
                answered = asked => answered,
            }
        };
        match &answered {
            // A name may lead to the server that may write, when it is looked up again.
            Ok(values) if values.iter().any(may_not_write) => link.give_up(number).await,
            Ok(_) => {}
            Err(error) => {
                warn!(%error, "a connection for commands is given up");
                link.give_up(number).await;
            }
        }
        answered
    }

    fn link(&self, address: &Address) -> Arc<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if !links.contains_key(address) {
            let layout = self.topology.layout();
            let known: Vec<_> = layout.servers().map(|(home, _)| home.address()).collect();
            links.retain(|address, _| known.contains(&address));
        }
        Arc::clone(links.entry(address.clone()).or_default())
    }
}

impl Link {
    async fn connection(
        &self,
        commands: &Commands,
        server: &Connector,
    ) -> Result<(MultiplexedConnection, u64), BrokerError> {
        let mut state = self.0.lock().await;
        if let Some(connection) = &state.connection {
            return Ok((connection.clone(), state.made));
        }
        let made = server.commands(commands.timeout / 2).await;
        let connection = made.map_err(|error| server.explain(&error))?;
        if state.made > 0 {
            commands.reconnects.inc();
        }
        state.made += 1;
        state.connection = Some(connection.clone());
        commands.made.fetch_add(1, Ordering::Relaxed);
        Ok((connection, state.made))
    }

    async fn give_up(&self, number: u64) {
        let mut state = self.0.lock().await;
        if state.made == number {
            state.connection = None;
        }
    }
}

/// The attempts at one thing.
struct Trial {
    topology: Topology,
    layouts: watch::Receiver<Arc<Layout>>,
    deadline: Instant,
    failures: u32,
    once: bool,
    /// A server has said that another is the right one.
    elsewhere: bool,
    backoff: Backoff,
}

impl Trial {
    fn new(commands: &Commands) -> Self {
        Self {
            topology: commands.topology.clone(),
            layouts: commands.topology.watch(),
            deadline: Instant::now() + commands.timeout,
            failures: 0,
            once: commands.once,
            elsewhere: false,
            backoff: Backoff::new(Duration::from_millis(20), Duration::from_millis(500)),
        }
    }

    /// Whether there is to be another attempt, and if so, waits until it is time for it.
    async fn goes_on_after(&mut self, error: &BrokerError) -> bool {
        self.failures += 1;
        if matches!(error, BrokerError::Misconfigured(_)) {
            return false;
        }
        self.topology.suspect();
        if self.once {
            return false;
        }
        // The connection may have died unnoticed since it was last used.
        let again = self.failures == 1;
        if !(again || self.elsewhere || self.topology.has_successors()) {
            return false;
        }
        if again && !self.elsewhere {
            return Instant::now() < self.deadline;
        }
        let pause = async {
            tokio::select! {
                () = sleep(self.backoff.next()) => {}
                Ok(()) = self.layouts.changed() => {}
            }
        };
        timeout_at(self.deadline, pause).await.is_ok()
    }
}

fn late() -> BrokerError {
    BrokerError::Unavailable("Redis does not answer in time".into())
}

/// The refusal of a server that does not have the shard, or may not do what it is asked, now.
fn misplaced(value: &Value) -> Option<RedisError> {
    const CODES: [&str; 5] = ["MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN"];
    match value {
        Value::ServerError(error) if CODES.contains(&error.code()) || may_not_write(value) => {
            Some(error.clone().into())
        }
        _ => None,
    }
}

fn may_not_write(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if matches!(error.code(), "READONLY" | "UNBLOCKED"))
}
