//! One hostile connection.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{MissedTickBehavior, interval};

use super::heard::Heard;
use super::script::{Step, Then};

/// Octets that the system holds back from who does not read, about.
const DEAF_BUFFER: u32 = 4096;

/// Octets that are read at one time.
const READ: usize = 4096;

/// How often something drips.
const DRIP: Duration = Duration::from_secs(1);

/// A connection, and what came on it.
pub(super) struct Hostile {
    stream: TcpStream,
    heard: Heard,
    is_deaf: bool,
}

/// How a connection ended that the server ended.
#[derive(Debug)]
pub(super) struct Ended(pub(super) String);

impl Hostile {
    /// Connects, from an address of its own where there is one.
    ///
    /// # Errors
    /// The system's.
    pub(super) async fn dial(
        target: SocketAddr,
        source: Option<Ipv4Addr>,
        is_deaf: bool,
    ) -> io::Result<Self> {
        let socket = match target.is_ipv4() {
            true => TcpSocket::new_v4()?,
            false => TcpSocket::new_v6()?,
        };
        if let Some(source) = source {
            socket.bind((source, 0).into())?;
        }
        if is_deaf {
            socket.set_recv_buffer_size(DEAF_BUFFER)?;
        }
        let stream = socket.connect(target).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            heard: Heard::default(),
            is_deaf: false,
        })
    }

    /// Takes the steps. After the last one it reads no more where it `is_deaf`.
    ///
    /// # Errors
    /// [`Ended`] when the server ended the connection.
    pub(super) async fn begin(&mut self, steps: Vec<Step>, is_deaf: bool) -> Result<(), Ended> {
        for step in steps {
            match step {
                Step::Say(octets) => self.say(&octets).await?,
                Step::Upgraded => {
                    while self.heard.status.is_none() {
                        self.hear().await?;
                    }
                }
                Step::Connected => {
                    while !self.heard.connected {
                        self.hear().await?;
                    }
                }
            }
        }
        self.is_deaf = is_deaf;
        Ok(())
    }

    /// Does what goes on, until the server ends the connection.
    pub(super) async fn go_on(&mut self, then: &Then) -> Ended {
        let result = match then {
            Then::Drip(pieces) => self.drip(pieces).await,
            Then::Wait | Then::Vanish => loop {
                if let Err(ended) = self.hear().await {
                    break Err(ended);
                }
            },
        };
        match result {
            Ok(never) => never,
            Err(ended) => ended,
        }
    }

    /// Vanishes with a reset.
    pub(super) fn vanish(self) {
        // Where the system refuses, it goes like any other.
        self.stream.set_zero_linger().ok();
    }

    async fn drip(&mut self, pieces: &[Vec<u8>]) -> Result<Ended, Ended> {
        let mut ticks = interval(DRIP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for piece in pieces.iter().cycle() {
            loop {
                tokio::select! {
                    _ = ticks.tick() => break,
                    heard = self.hear() => heard?,
                }
            }
            self.say(piece).await?;
        }
        loop {
            self.hear().await?;
        }
    }

    /// Sends, and hears meanwhile.
    async fn say(&mut self, mut octets: &[u8]) -> Result<(), Ended> {
        while !octets.is_empty() {
            let interest = match self.is_deaf {
                true => Interest::WRITABLE,
                false => Interest::WRITABLE | Interest::READABLE,
            };
            let ready = self.stream.ready(interest).await;
            let ready = ready.map_err(|error| self.ended(&error))?;
            if ready.is_readable() {
                self.take()?;
            }
            if ready.is_writable() {
                match self.stream.try_write(octets) {
                    Ok(written) => octets = &octets[written..],
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => {
                        // What it said before is still there to be read.
                        while let Ok(true) = self.take() {}
                        return Err(self.ended(&error));
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits for something, and takes it. Who is deaf only notices the end.
    async fn hear(&mut self) -> Result<(), Ended> {
        let interest = match self.is_deaf {
            true => Interest::ERROR,
            false => Interest::READABLE,
        };
        let ready = self.stream.ready(interest).await;
        let ready = ready.map_err(|error| self.ended(&error))?;
        if ready.is_error() && self.is_deaf {
            return Err(Ended(self.heard.ending(true)));
        }
        self.take().map(|_| ())
    }

    /// Takes what is there; `false` when there is nothing.
    fn take(&mut self) -> Result<bool, Ended> {
        let mut octets = [0; READ];
        match self.stream.try_read(&mut octets) {
            Ok(0) => Err(Ended(self.heard.ending(false))),
            Ok(read) => {
                self.heard.feed(&octets[..read]);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(self.ended(&error)),
        }
    }

    fn ended(&self, error: &io::Error) -> Ended {
        let is_reset = matches!(
            error.kind(),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted
        );
        match is_reset {
            true => Ended(self.heard.ending(true)),
            false => Ended(error.kind().to_string()),
        }
    }
}
