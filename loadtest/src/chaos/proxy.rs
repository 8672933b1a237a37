//! The network between two parts, which can be spoilt.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

/// The most octets that are read at once.
const CHUNK: usize = 16 << 10;

/// How many chunks may be on their way in one direction. Then the proxy no longer reads, and TCP
/// tells the sender.
const ON_THE_WAY: usize = 64;

/// How the network is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Weather {
    /// Everything passes.
    Clear,
    /// Nothing passes, in no direction, and no end of a connection either; new connections are
    /// accepted and silent.
    Cut,
    /// Everything takes this much longer, each way.
    Delay(Duration),
    /// What the target says takes this much longer; what is said to it passes.
    DelayAnswers(Duration),
    /// So many octets a second pass each way, on each connection.
    Throttle(u32),
}

#[derive(Clone, Copy, Debug)]
struct State {
    weather: Weather,
    /// Connections with a smaller number are silent for ever, though both ends have them open.
    forgotten: u64,
    /// Connections with a smaller number are reset.
    reset: u64,
    /// How many connections there have been.
    made: u64,
}

/// Carries TCP connections to one address, until it is dropped: then all of them end.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Starts one on a free port of the loopback.
    ///
    /// # Errors
    /// When there is no port.
    pub(crate) async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (state, _) = watch::channel(State {
            weather: Weather::Clear,
            forgotten: 0,
            reset: 0,
            made: 0,
        });
        let accepting = tokio::spawn(accept(listener, target, state.clone()));
        Ok(Self {
            address,
            state,
            accepting,
        })
    }

    /// Where to connect instead of the target.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the weather, for connections that are open and for new ones.
    pub(crate) fn set(&self, weather: Weather) {
        self.state.send_modify(|state| state.weather = weather);
    }

    /// Never passes anything again on the connections that are open, like a firewall that has
    /// forgotten them; new ones pass.
    pub(crate) fn forget(&self) {
        self.state.send_modify(|state| state.forgotten = state.made);
    }

    /// Resets the connections that are open.
    pub(crate) fn reset(&self) {
        self.state.send_modify(|state| state.reset = state.made);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, state: watch::Sender<State>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: some come back.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let mut number = 0;
        state.send_modify(|state| {
            number = state.made;
            state.made += 1;
        });
        connections.spawn(carry(client, target, number, state.subscribe()));
    }
}

/// Carries one connection to its end. An error on one side ends the other, as it would without us.
async fn carry(
    client: TcpStream,
    target: SocketAddr,
    number: u64,
    mut state: watch::Receiver<State>,
) {
    let mut resets = state.clone();
    let (mut from_client, mut to_client, mut from_target, mut to_target);
    if passes(&mut state, number).await.is_none() {
        return;
    }
    // Who is not there refuses; all that can be told of it to the client is the end.
    let Ok(upstream) = TcpStream::connect(target).await else {
        return;
    };
    for stream in [&client, &upstream] {
        stream.set_nodelay(true).ok();
    }
    (from_client, to_client) = client.into_split();
    (from_target, to_target) = upstream.into_split();
    let there = pump(&mut from_client, &mut to_target, false, number, &state);
    let back = pump(&mut from_target, &mut to_client, true, number, &state);
    let is_reset = tokio::select! {
        _ = async { tokio::try_join!(there, back) } => false,
        reset = resets.wait_for(|state| number < state.reset) => reset.is_ok(),
    };
    if is_reset {
        from_client.as_ref().set_zero_linger().ok();
        from_target.as_ref().set_zero_linger().ok();
        // Dropped, they would first say that no more comes.
        to_client.forget();
        to_target.forget();
    }
}

/// Carries one direction to its end.
async fn pump(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    is_answer: bool,
    number: u64,
    state: &watch::Receiver<State>,
) -> io::Result<()> {
    let (sender, mut chunks) = mpsc::channel::<(Instant, Bytes)>(ON_THE_WAY);
    let mut seen = state.clone();
    let reading = async move {
        let mut buffer = vec![0; CHUNK];
        loop {
            let Some(weather) = passes(&mut seen, number).await else {
                return Ok(());
            };
            from.readable().await?;
            // What came while nothing passed stays where it is.
            if seen.has_changed().unwrap_or(true) {
                continue;
            }
            let wanted = match weather {
                Weather::Throttle(rate) => (rate as usize / 20).clamp(1, CHUNK),
                _ => CHUNK,
            };
            let due = match weather {
                Weather::Delay(delay) => Instant::now() + delay,
                Weather::DelayAnswers(delay) if is_answer => Instant::now() + delay,
                _ => Instant::now(),
            };
            let length = from.read(&mut buffer[..wanted]).await?;
            let chunk = Bytes::copy_from_slice(&buffer[..length]);
            if sender.send((due, chunk)).await.is_err() || length == 0 {
                return Ok(());
            }
        }
    };
    let mut seen = state.clone();
    let writing = async move {
        while let Some((due, chunk)) = chunks.recv().await {
            sleep_until(due).await;
            let Some(weather) = passes(&mut seen, number).await else {
                break;
            };
            if chunk.is_empty() {
                break;
            }
            to.write_all(&chunk).await?;
            if let Weather::Throttle(rate) = weather {
                sleep(Duration::from_secs_f64(
                    chunk.len() as f64 / f64::from(rate.max(1)),
                ))
                .await;
            }
        }
        to.shutdown().await
    };
    tokio::try_join!(reading, writing).map(drop)
}

/// Waits until connection `number` may pass something, and says in which weather; `None` when the
/// proxy is gone. A forgotten connection waits until then.
async fn passes(state: &mut watch::Receiver<State>, number: u64) -> Option<Weather> {
    let may_pass = |state: &State| state.weather != Weather::Cut && number >= state.forgotten;
    let state = state.wait_for(may_pass).await.ok()?;
    Some(state.weather)
}

#[cfg(test)]
mod tests;
