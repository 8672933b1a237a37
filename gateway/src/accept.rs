//! Accepts connections, as long as there is room.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::place::Place;
use crate::server::Server;
use crate::transport::Serve;

/// How long a client's system may not answer before its connection is given up.
const VANISHED: Duration = Duration::from_secs(60);

/// Connections over the limit that are told so; more are closed without a word.
const REFUSALS: usize = 256;

/// How long to wait when the system has no descriptor or memory for one more connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl<C: Serve> Server<C> {
    /// Accepts connections until `stop` is cancelled, then closes the listener and returns. HTTP
    /// connections then finish what they are answering, and send it within the write timeout;
    /// upgraded ones go on until their clients are served. All of them are in `tasks`.
    ///
    /// At most `max_connections` are open, and a SockJS session counts as one beside those that carry
    /// it. Further ones are answered 503 with `Retry-After` and closed, so that a load balancer or
    /// client goes elsewhere.
    pub async fn run(self, listener: TcpListener) {
        let server = Arc::new(self);
        let refusals = Arc::new(Semaphore::new(REFUSALS));
        let mut failing = false;
        loop {
            let accepted = tokio::select! {
                biased;
                () = server.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(reason) if concerns_one_connection(&reason) => continue,
                Err(reason) => {
                    if !failing {
                        tracing::error!(%reason, "connections cannot be accepted");
                    }
                    failing = true;
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            failing = false;
            let place = if let Ok(slot) = Arc::clone(&server.slots).try_acquire_owned() {
                Place::new(slot)
            } else if let Ok(refusal) = Arc::clone(&refusals).try_acquire_owned() {
                Place::refusal(refusal)
            } else {
                continue;
            };
            let serving = Arc::clone(&server).serve(stream, address, place);
            server.tasks.spawn(serving);
        }
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
