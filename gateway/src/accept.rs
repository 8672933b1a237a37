//! Accepts connections, as long as there is room.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use shared::metrics::GatewayMetrics;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until};

use crate::config::RateLimit;
use crate::guard::{TurnedAway, for_clients};
use crate::place::Place;
use crate::server::Server;
use crate::transport::Serve;

/// How long a client's system may not answer before its connection is given up.
const VANISHED: Duration = Duration::from_secs(60);

/// Connections over the limit that are told so; more are closed without a word.
pub(crate) const REFUSALS: usize = 256;

/// How often somebody is told so: with TLS it costs a handshake each time, which would be as many as an
/// attacker likes.
pub(crate) const REFUSAL_RATE: RateLimit = RateLimit {
    per_second: NonZeroU32::new(32).expect("32 is not 0"),
    burst: NonZeroU32::new(256).expect("256 is not 0"),
};

/// How long to wait when the system has no descriptor or memory for one more connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// For how long all has to be well before a pause counts as over.
const RECOVERED: Duration = Duration::from_secs(1);

impl<C: Serve> Server<C> {
    /// Accepts connections until `stop` is cancelled, then closes the listener and returns. HTTP
    /// connections then finish what they are answering, and send it within the write timeout;
    /// upgraded ones go on until their clients are served. All of them are in `tasks`.
    ///
    /// At most `max_connections` are open, and a SockJS session counts as one beside those that carry
    /// it. Further ones are answered 503 with `Retry-After` and closed, so that a load balancer or
    /// client goes elsewhere. Where the system has not so many descriptors, accepting pauses until
    /// some are given back.
    pub async fn run(self, listener: TcpListener) {
        let server = Arc::new(self);
        let descriptors = for_clients(server.most_open())
            .map(|most| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))));
        let mut pause = Pause {
            metrics: Arc::clone(&server.metrics.gateway),
            over: None,
        };
        loop {
            let descriptor = match &descriptors {
                None => None,
                Some(all) => match Arc::clone(all).try_acquire_owned() {
                    Ok(descriptor) => Some(descriptor),
                    Err(_) => {
                        pause.begin("as many descriptors are taken as clients may have");
                        let one = tokio::select! {
                            () = server.stop.cancelled() => return,
                            one = Arc::clone(all).acquire_owned() => one,
                        };
                        pause.extend();
                        one.ok()
                    }
                },
            };
            let accepted = tokio::select! {
                biased;
                () = server.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
                () = pause.until_over() => {
                    pause.end();
                    continue;
                }
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(reason) if concerns_one_connection(&reason) => continue,
                Err(reason) => {
                    pause.begin(&reason.to_string());
                    tokio::select! {
                        () = server.stop.cancelled() => return,
                        () = sleep(ACCEPT_PAUSE) => {}
                    }
                    continue;
                }
            };
            if let Some(place) = server.place(address, descriptor) {
                let serving = Arc::clone(&server).serve(stream, address, place);
                server.tasks.spawn(serving);
            }
        }
    }

    /// The place of a connection that comes from there; `None` when it is not even told that there is
    /// none.
    fn place(
        &self,
        address: SocketAddr,
        descriptor: Option<OwnedSemaphorePermit>,
    ) -> Option<Place> {
        let address = address.ip();
        let slot = self.entrance.guard.has_memory().and_then(|()| {
            let slot = Arc::clone(&self.slots).try_acquire_owned();
            slot.map_err(|_| TurnedAway::Connections)
        });
        let admitted = slot.and_then(|slot| {
            let seat = if self.entrance.front.is_proxy(address) {
                None
            } else {
                self.entrance.guard.connect(address)?
            };
            Ok((slot, seat))
        });
        match admitted {
            Ok((slot, seat)) => Some(Place::admitted(slot, descriptor, seat)),
            Err(away) => {
                let refusal = self.refusal(away)?;
                Some(Place::admitted(refusal, descriptor, None).refused(None, away))
            }
        }
    }

    /// Room to tell somebody that there is none, as long as there is any.
    pub(crate) fn refusal(&self, away: TurnedAway) -> Option<OwnedSemaphorePermit> {
        self.entrance.guard.turned_away(away);
        let mut rate = self
            .refusal_rate
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if rate.try_take(std::time::Instant::now(), 1).is_some() {
            return None;
        }
        Arc::clone(&self.refusals).try_acquire_owned().ok()
    }
}

/// An episode in which the system has nothing for one more connection.
struct Pause {
    metrics: Arc<GatewayMetrics>,
    /// When it is over, while it lasts.
    over: Option<Instant>,
}

impl Pause {
    /// Counts and tells of an episode that begins; one that lasts goes on.
    fn begin(&mut self, reason: &str) {
        if self.over.is_none() {
            self.metrics.accept_pauses.inc();
            tracing::error!(reason, "accepting connections pauses");
        }
        self.extend();
    }

    fn extend(&mut self) {
        self.over = Some(Instant::now() + RECOVERED);
    }

    async fn until_over(&self) {
        match self.over {
            Some(over) => sleep_until(over).await,
            None => std::future::pending().await,
        }
    }

    fn end(&mut self) {
        self.over = None;
        tracing::info!("connections are accepted again");
    }
}

/// Makes the system write at once, for frames are gathered before they are written, and give up a
/// connection whose client has vanished. Where nothing is ever written to see that by, it asks.
pub(crate) fn prepare(stream: &TcpStream, write_timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(VANISHED / 2)
        .with_interval(VANISHED / 6);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(VANISHED.max(write_timeout)))?;
    Ok(())
}

/// Whether an error of `accept` says something about the connection that would have come, and
/// nothing about the next.
fn concerns_one_connection(reason: &io::Error) -> bool {
    matches!(
        reason.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
    )
}
