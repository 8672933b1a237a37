//! The way out of a connection, for whichever thread has something to send.

use std::io::ErrorKind;
use std::mem;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::runtime::Handle;

use super::websocket;
use crate::connection::ClientError;
use crate::pass::Octets;

/// What a server that does not read may make one user hold back, in octets.
const MAX_UNSENT: usize = 16 << 20;

/// What times are counted from.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The writing side of a connection. What is sent goes to the socket at once, from the thread that
/// sends it; only what the socket does not take waits.
#[derive(Debug)]
pub(crate) struct Outlet {
    half: Half,
    waiting: Mutex<Waiting>,
    /// Where what waits is written.
    lane: Handle,
    /// When something last came in, in milliseconds since [`EPOCH`].
    heard: AtomicU32,
}

#[derive(Debug)]
pub(super) enum Half {
    Plain(OwnedWriteHalf),
    Secure(tokio::sync::Mutex<WriteHalf<Box<dyn Octets>>>),
}

#[derive(Debug, Default)]
struct Waiting {
    octets: Vec<u8>,
    /// Whether a task is writing them.
    flushing: bool,
}

impl Outlet {
    pub(super) fn new(half: Half) -> Self {
        Self {
            half,
            waiting: Mutex::default(),
            lane: Handle::current(),
            heard: AtomicU32::new(millis(Instant::now())),
        }
    }

    /// Sends a STOMP frame as one WebSocket message. `scratch` is only memory.
    ///
    /// # Errors
    /// [`ClientError`] where the connection has ended, or more waits than 16 MiB.
    pub(crate) fn send(
        self: &Arc<Self>,
        frame: &[u8],
        scratch: &mut Vec<u8>,
    ) -> Result<(), ClientError> {
        scratch.clear();
        websocket::text(scratch, frame);
        self.write(scratch)
    }

    /// Sends a heart-beat (STOMP 1.2, Heart-beating).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub(crate) fn beat(self: &Arc<Self>) -> Result<(), ClientError> {
        let mut frame = Vec::with_capacity(8);
        websocket::text(&mut frame, b"\n");
        self.write(&frame)
    }

    /// Says DISCONNECT and closes the WebSocket. What follows from the server still comes in.
    pub(crate) fn leave(self: &Arc<Self>) {
        let mut frames = Vec::new();
        websocket::text(&mut frames, b"DISCONNECT\n\n\0");
        websocket::close(&mut frames);
        // Who leaves does not care whether it arrives.
        let _ = self.write(&frames);
    }

    /// Has the kernel reset the connection once it is dropped, so that no port is kept for it.
    pub(crate) fn reset_when_dropped(&self) {
        if let Half::Plain(half) = &self.half {
            let stream: &TcpStream = half.as_ref();
            // A socket that has gone already keeps nothing.
            let _ = stream.set_zero_linger();
        }
    }

    /// How long nothing has come in.
    pub(crate) fn silence(&self) -> Duration {
        let heard = self.heard.load(Ordering::Relaxed);
        Duration::from_millis(millis(Instant::now()).saturating_sub(heard).into())
    }

    pub(super) fn hear(&self, now: Instant) {
        self.heard.store(millis(now), Ordering::Relaxed);
    }

    pub(super) fn write(self: &Arc<Self>, mut octets: &[u8]) -> Result<(), ClientError> {
        let mut waiting = self.waiting();
        if let Half::Plain(half) = &self.half
            && !waiting.flushing
        {
            match half.try_write(octets) {
                Ok(written) => octets = &octets[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        if octets.is_empty() {
            return Ok(());
        }
        if waiting.octets.len() + octets.len() > MAX_UNSENT {
            return Err(ClientError::Unread);
        }
        waiting.octets.extend_from_slice(octets);
        if !mem::replace(&mut waiting.flushing, true) {
            self.lane.spawn(Arc::clone(self).flush());
        }
        Ok(())
    }

    /// Writes what waits until nothing does. An error is left to whoever reads, who meets it too.
    async fn flush(self: Arc<Self>) {
        loop {
            let octets = {
                let mut waiting = self.waiting();
                if waiting.octets.is_empty() {
                    waiting.flushing = false;
                    return;
                }
                mem::take(&mut waiting.octets)
            };
            let written = match &self.half {
                Half::Plain(half) => drain(half, &octets).await,
                Half::Secure(half) => {
                    let mut half = half.lock().await;
                    match half.write_all(&octets).await {
                        Ok(()) => half.flush().await,
                        error => error,
                    }
                }
            };
            if written.is_err() {
                return;
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn drain(half: &OwnedWriteHalf, mut octets: &[u8]) -> std::io::Result<()> {
    while !octets.is_empty() {
        half.writable().await?;
        match half.try_write(octets) {
            Ok(written) => octets = &octets[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn millis(now: Instant) -> u32 {
    now.saturating_duration_since(*EPOCH).as_millis() as u32
}
