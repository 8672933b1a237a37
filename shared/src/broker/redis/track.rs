//! What a lane runs on: a connection to the server that has its shards, and what may still lie in
//! those before it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future;
use redis::{RedisResult, Value, cmd};
use tokio::sync::watch;
use tokio::time::Instant;

use super::acceptance::{ACCEPT, Terms, millis};
use super::connect::{Address, Connector};
use super::entries;
use super::exchange::Exchange;
use super::packed::Packed;
use super::topology::{Layout, Topology};
use crate::broker::BrokerError;

/// How old what is sent may be when the server comes to it. What an old primary finds in its
/// connections when it wakes has been sent to its successor meanwhile: it must not accept it, too.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long one wait for replicas may take before the batch is sent again.
const WAIT: Duration = Duration::from_secs(1);

/// How long who has what may not have been confirmed before it is asked again, and how long that
/// may take: without Sentinels that answer, a primary is believed to be one.
const CONFIRMED: Duration = Duration::from_secs(3);

/// An answer that took longer than this may come from a server that was frozen.
const SILENCE: Duration = Duration::from_millis(500);

/// How long a server's clock is believed to go as ours does.
const CLOCK_AGE: Duration = Duration::from_secs(60);

/// The most servers on which something may still lie that is remembered.
const MAX_OPEN: usize = 16;

pub(super) struct Track {
    topology: Topology,
    layouts: watch::Receiver<Arc<Layout>>,
    shard: u16,
    timeout: Duration,
    terms: Arc<Terms>,
    link: Option<Link>,
    /// The server was silent, or its replicas were: another may have its place.
    in_doubt: bool,
    /// The connections, one a server, on which a batch may still be under way.
    open: Vec<(Address, Name)>,
}

struct Link {
    exchange: Exchange,
    address: Address,
    name: Option<Name>,
    clock: Option<Clock>,
    /// The replicas that follow the server, by its own answers since it was last asked who has
    /// what; and when that was seen last.
    following: BTreeSet<Address>,
    followed: Instant,
}

/// What Redis calls a connection.
#[derive(Clone)]
struct Name {
    id: String,
    address: String,
}

/// A server's time.
struct Clock {
    ms: u64,
    read: Instant,
}

/// What came of sending a batch.
pub(super) struct Sent {
    /// One for each command; `None` when they were lost with the connection.
    pub(super) answers: Option<Vec<Value>>,
    /// As many replicas as are wanted have what was accepted.
    pub(super) replicated: bool,
    /// Why the connection was given up.
    pub(super) failure: Option<String>,
}

impl Track {
    /// A connection is silent for `timeout` at most.
    pub(super) fn new(
        topology: &Topology,
        shard: u16,
        timeout: Duration,
        terms: Arc<Terms>,
    ) -> Self {
        Self {
            topology: topology.clone(),
            layouts: topology.watch(),
            shard,
            timeout,
            terms,
            link: None,
            in_doubt: false,
            open: Vec::new(),
        }
    }

    /// Sees to it that there is a connection to the shard's home. An old primary that wakes is
    /// none, though it believes so: where that is possible, it is asked first who is.
    pub(super) async fn connect(&mut self) -> Result<(), BrokerError> {
        if self.topology.has_successors() {
            let patience = CONFIRMED.min(self.timeout);
            if self.in_doubt {
                self.topology.confirm(patience).await;
            } else if self.topology.age() > CONFIRMED {
                // It may be this process that has slept; whoever can answer does so at once.
                self.topology.ask(patience).await;
            }
        }
        self.in_doubt = false;
        let layout = Arc::clone(&self.layouts.borrow());
        let home = layout.home(self.shard);
        let address = home.address().clone();
        if self
            .link
            .as_ref()
            .is_some_and(|link| link.address == address)
        {
            return Ok(());
        }
        self.link = None;
        let made = {
            let preparation = self.prepare(home, address.clone());
            tokio::select! {
                made = preparation => made.map_err(|error| home.explain(&error)),
                () = moved(self.layouts.clone(), self.shard, &address) => Err(
                    BrokerError::Unavailable(format!("{address} does not have the shard any more")),
                ),
            }
        };
        self.link = Some(made?);
        self.open.retain(|(server, _)| *server != address);
        Ok(())
    }

    async fn prepare(&self, home: &Connector, address: Address) -> RedisResult<Link> {
        let mut exchange = Exchange::new(home.wire().await?, self.timeout);
        let mut preparation = Packed::default();
        // What the old connection still holds would be accepted after what is sent from now on,
        // and in doubt be overtaken. A user who may not do this does without.
        let open = self.open.iter().filter(|(server, _)| *server == address);
        for (_, name) in open.filter(|_| self.terms.knows_itself) {
            let mut kill = cmd("CLIENT");
            kill.arg("KILL").arg("ID").arg(&name.id);
            preparation.add(kill.arg("ADDR").arg(&name.address));
        }
        preparation.add(cmd("CLIENT").arg("INFO"));
        preparation.add(&cmd("TIME"));
        preparation.add(cmd("SCRIPT").arg("LOAD").arg(ACCEPT));
        let mut answers = Vec::with_capacity(preparation.count());
        exchange.batch(&preparation, &mut answers).await?;
        answers.pop().unwrap_or(Value::Nil).extract_error()?;
        Ok(Link {
            clock: answers.pop().and_then(|time| Clock::parse(&time)),
            name: answers.pop().and_then(|info| Name::parse(&info)),
            exchange,
            address,
            following: BTreeSet::new(),
            followed: Instant::now(),
        })
    }

    /// The server's time after which it is too late for what is sent now; `None` where the server
    /// does not tell its time.
    pub(super) fn latest(&self) -> Option<u64> {
        let clock = self.link.as_ref()?.clock.as_ref()?;
        let patience = PATIENCE.min(self.timeout);
        Some(clock.ms + millis(clock.read.elapsed() + patience))
    }

    /// Sends a batch and awaits its answers, and then the replicas where something was written for
    /// them. When the shard gets another home meanwhile, or the connection breaks, it is given up.
    ///
    /// After a move the old connection is not ended by CLIENT KILL as after a break. A server that
    /// has given a shard away refuses what it still finds; one that does not know yet that it has
    /// a successor loses what it accepts, and one that wakes finds it to be too late.
    pub(super) async fn send(&mut self, mut batch: Packed, written: bool) -> Sent {
        let replicas = if written { self.replicas() } else { 0 };
        let Some(link) = &mut self.link else {
            return Sent::failed("there is no connection".into());
        };
        let count = batch.count();
        let asks = link
            .clock
            .as_ref()
            .is_some_and(|clock| clock.read.elapsed() > CLOCK_AGE);
        if asks {
            batch.add(&cmd("TIME"));
        }
        if replicas > 0 {
            // A replica that has come since the layout was asked for is not known there.
            batch.add(&cmd("ROLE"));
            // Last: WAIT covers what its connection has written before it.
            let time = millis(WAIT.min(self.timeout / 2));
            batch.add(cmd("WAIT").arg(replicas).arg(time));
        }
        let began = Instant::now();
        let mut answers = Vec::with_capacity(batch.count());
        let exchanged = tokio::select! {
            biased;
            exchanged = link.exchange.batch(&batch, &mut answers) => {
                exchanged.map_err(|error| error.to_string())
            }
            () = moved(self.layouts.clone(), self.shard, &link.address) => {
                Err("the shard has moved to another server".into())
            }
        };
        // What the replicas say is worth nothing without it.
        let whole = answers.len() >= batch.count() - usize::from(replicas > 0);
        let further = if whole {
            answers.split_off(count)
        } else {
            Vec::new()
        };
        let mut further = further.into_iter();
        let time = if asks { further.next() } else { None };
        if let Some(role) = further.next() {
            let mut following = self.layouts.borrow().following(&role);
            // One that has just been promoted does not follow any more.
            if link.followed.elapsed() < self.topology.age() {
                following.append(&mut link.following);
            }
            (link.following, link.followed) = (following, Instant::now());
        }
        if let Some(time) = time {
            link.clock = Clock::parse(&time);
        }
        let replicated = exchanged.and_then(|()| match further.next() {
            None => Ok(0),
            Some(Value::Int(count)) => Ok(count),
            Some(other) => match other.extract_error() {
                Ok(_) => Ok(0),
                Err(error) => Err(error.to_string()),
            },
        });
        let wanted = if written { self.replicas() } else { 0 };
        let replicated = replicated.map(|count| count >= wanted);
        self.in_doubt = !matches!(replicated, Ok(true)) || began.elapsed() > SILENCE;
        match replicated {
            Ok(replicated) => Sent {
                answers: Some(answers),
                replicated,
                failure: None,
            },
            Err(reason) => {
                self.give_up();
                Sent {
                    answers: whole.then_some(answers),
                    replicated: false,
                    failure: Some(reason),
                }
            }
        }
    }

    /// How many replicas must have what is accepted: all that are up, for any of them may be
    /// promoted while the primary lives.
    pub(super) fn replicas(&self) -> i64 {
        let least = i64::from(self.terms.replicas);
        if least == 0 {
            return 0;
        }
        let none = BTreeSet::new();
        let following = self.link.as_ref().map_or(&none, |link| &link.following);
        let all = self.layouts.borrow().replicas(self.shard, following);
        least.max(i64::try_from(all).unwrap_or(i64::MAX))
    }

    /// Gives the connection up with something under way on it.
    fn give_up(&mut self) {
        if let Some(Link {
            address,
            name: Some(name),
            ..
        }) = self.link.take()
        {
            self.open.push((address, name));
            if self.open.len() > MAX_OPEN {
                self.open.remove(0);
            }
        }
    }

    /// Gives the connection up with nothing under way.
    pub(super) fn leave(&mut self) {
        self.link = None;
    }

    /// Returns when the shard's home is not where the connection leads.
    pub(super) async fn moved(&self) {
        match &self.link {
            Some(link) => moved(self.layouts.clone(), self.shard, &link.address).await,
            None => {
                let mut layouts = self.layouts.clone();
                let home = layouts
                    .borrow_and_update()
                    .home(self.shard)
                    .address()
                    .clone();
                moved(layouts, self.shard, &home).await;
            }
        }
    }
}

/// Returns when a shard's home is not at this address.
async fn moved(mut layouts: watch::Receiver<Arc<Layout>>, shard: u16, address: &Address) {
    let left = layouts.wait_for(|layout| layout.home(shard).address() != address);
    if left.await.is_err() {
        // Nobody looks for changes any more: the process ends.
        future::pending::<()>().await;
    }
}

impl Sent {
    fn failed(reason: String) -> Self {
        Self {
            answers: None,
            replicated: false,
            failure: Some(reason),
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

impl Clock {
    fn parse(time: &Value) -> Option<Self> {
        Some(Self {
            ms: entries::time(time)?,
            read: Instant::now(),
        })
    }
}
