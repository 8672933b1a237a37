//! All hostile connections of one kind.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;
use tokio::runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::hostile::{Ended, Hostile};
use super::kind::Kind;
use super::script::{Script, Stage, Then};

/// Connections that are being opened at one time.
const AT_ONCE: usize = 256;

/// How long a connection may take until its server has taken all that it has to say at first. Who is
/// slowed there goes on, and holds up nobody else.
const BEGINNING: Duration = Duration::from_secs(5);

/// How many addresses connections come from, 127.1.0.1 and those that follow: an address has about
/// 28,000 ports.
const SOURCES: u32 = 250;

/// What a swarm is told.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    pub(super) kind: Kind,
    pub(super) target: SocketAddr,
    pub(super) connections: usize,
    /// Of all connections together, a second, where they come back.
    pub(super) comebacks: f64,
    pub(super) stage: Stage,
}

/// What has become of a swarm's connections.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Tally {
    /// Connections that the system made, those that came back included.
    pub opened: u64,
    /// Connections that were open at the same time, at most.
    pub most: u64,
    /// Connections that are open, or were when they were released.
    pub open: u64,
    /// Why others could not be made.
    pub refused: BTreeMap<String, u64>,
    /// How others were ended by the server.
    pub ends: BTreeMap<String, End>,
}

/// Connections that ended alike.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct End {
    /// How many.
    pub count: u64,
    /// Seconds from connecting until then, on the average.
    pub mean_seconds: f64,
    /// The longest of them.
    pub max_seconds: f64,
}

/// A swarm at work. It has a thread of its own, so that honest clients do not wait for it here.
pub(super) struct Swarm {
    tally: Arc<Mutex<Tally>>,
    begun: CancellationToken,
    release: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Swarm {
    /// Begins to open all connections.
    ///
    /// # Errors
    /// When the system has no thread.
    pub(super) fn start(orders: Orders) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let tally = Arc::new(Mutex::new(Tally::default()));
        let (begun, release) = (CancellationToken::new(), CancellationToken::new());
        let work = work(orders, Arc::clone(&tally), begun.clone(), release.clone());
        let thread = std::thread::Builder::new()
            .name("swarm".into())
            .spawn(move || runtime.block_on(work))?;
        Ok(Self {
            tally,
            begun,
            release,
            thread: Some(thread),
        })
    }

    /// Waits until each connection has been opened, and has said what it has to say at first.
    pub(super) async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// What has become of it so far.
    pub(super) fn tally(&self) -> Tally {
        lock(&self.tally).clone()
    }

    /// Closes what is open, and returns once that is done.
    pub(super) async fn release(mut self) -> Tally {
        let tally = self.tally();
        self.release.cancel();
        if let Some(thread) = self.thread.take() {
            // It panics where a test of its own would fail; the count of open ones stays.
            let joined = tokio::task::spawn_blocking(move || thread.join());
            joined.await.ok();
        }
        tally
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.release.cancel();
    }
}

async fn work(
    orders: Orders,
    tally: Arc<Mutex<Tally>>,
    begun: CancellationToken,
    release: CancellationToken,
) {
    let began = Instant::now();
    let opening = Arc::new(Semaphore::new(AT_ONCE));
    let beginning = Arc::new(Semaphore::new(orders.connections));
    let orders = Arc::new(orders);
    let mut clients = JoinSet::new();
    for number in 0..orders.connections {
        let opening = Arc::clone(&opening);
        let (orders, tally) = (Arc::clone(&orders), Arc::clone(&tally));
        let mine = Arc::clone(&beginning).acquire_owned();
        let mine = mine.await.expect("the semaphore is never closed");
        clients.spawn(async move {
            let mut mine = Some(mine);
            for round in 0u32.. {
                let permit = opening.acquire().await;
                one(&orders, &tally, number, permit, &mut mine).await;
                mine = None;
                if !orders.kind.comes_back() {
                    break;
                }
                let each = orders.connections as f64 / orders.comebacks;
                let due = (f64::from(round) + 1.0) * each + number as f64 / orders.comebacks;
                sleep_until(began + Duration::from_secs_f64(due)).await;
            }
        });
    }
    let all = u32::try_from(orders.connections).unwrap_or(u32::MAX);
    let all_begun = async {
        let all = beginning.acquire_many(all).await;
        drop(all);
        begun.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = release.cancelled() => {}
        () = all_begun => {}
    }
    clients.shutdown().await;
}

/// The life of one connection. It gives back what it was begun with as soon as it has begun.
async fn one<P, M>(
    orders: &Orders,
    tally: &Mutex<Tally>,
    number: usize,
    permit: P,
    mine: &mut Option<M>,
) {
    let is_deaf = orders.kind.is_deaf();
    let dialed = Hostile::dial(orders.target, source(orders.target, number), is_deaf);
    let dialed = match timeout(BEGINNING, dialed).await {
        Ok(dialed) => dialed.map_err(|error| error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    };
    let mut hostile = match dialed {
        Ok(hostile) => hostile,
        Err(reason) => {
            *lock(tally).refused.entry(reason).or_default() += 1;
            return;
        }
    };
    let since = Instant::now();
    {
        let mut tally = lock(tally);
        tally.opened += 1;
        tally.open += 1;
        tally.most = tally.most.max(tally.open);
    }
    let Script { steps, then } = orders.stage.script(orders.kind, number);
    let life = async {
        {
            let mut beginning = std::pin::pin!(hostile.begin(steps, is_deaf));
            let begun = timeout(BEGINNING, beginning.as_mut()).await;
            drop(permit);
            *mine = None;
            match begun {
                Ok(begun) => begun?,
                Err(_) => beginning.await?,
            }
        }
        if !matches!(then, Then::Vanish) {
            return Err(hostile.go_on(&then).await);
        }
        hostile.vanish();
        Ok(())
    };
    let ended = life.await;
    let mut tally = lock(tally);
    tally.open -= 1;
    if let Err(Ended(how)) = ended {
        let end = tally.ends.entry(how).or_default();
        let seconds = since.elapsed().as_secs_f64();
        end.count += 1;
        end.mean_seconds += (seconds - end.mean_seconds) / end.count as f64;
        end.max_seconds = end.max_seconds.max(seconds);
    }
}

/// Where a connection comes from: only this machine has addresses to choose from, and on Linux only.
fn source(target: SocketAddr, number: usize) -> Option<Ipv4Addr> {
    let is_local = matches!(target.ip(), IpAddr::V4(ip) if ip.is_loopback());
    let first = u32::from(Ipv4Addr::new(127, 1, 0, 1));
    let number = u32::try_from(number).unwrap_or_default() % SOURCES;
    (is_local && cfg!(target_os = "linux")).then(|| Ipv4Addr::from(first + number))
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}
