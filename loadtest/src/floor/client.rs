//! One client: its socket, who it is, and where it is.

use std::io::{self, Read, Write};

use mio::net::TcpStream;

/// A connection. An idle one keeps nothing but this.
pub(super) struct Client {
    stream: TcpStream,
    /// Whether its WebSocket is open.
    pub is_open: bool,
    /// What it called itself.
    pub name: Box<str>,
    /// Its subscriptions: their ids and rooms.
    pub rooms: Vec<(Box<str>, usize)>,
    /// What came of a message that has not all come.
    pub rest: Vec<u8>,
}

impl Client {
    /// A client whose WebSocket is not open yet.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            is_open: false,
            name: "".into(),
            rooms: Vec::new(),
            rest: Vec::new(),
        }
    }

    /// Reads what is there, as far as `input` takes it. Fewer octets than that mean that there is
    /// nothing more for now; nothing means that it has left.
    ///
    /// # Errors
    /// As for any socket; [`io::ErrorKind::WouldBlock`] where nothing is there.
    pub(super) fn read(&mut self, input: &mut [u8]) -> io::Result<usize> {
        self.stream.read(input)
    }

    /// Offers it these frames, once. Whether it took all of them.
    pub(super) fn offer(&self, frames: &[u8]) -> bool {
        (&self.stream)
            .write(frames)
            .is_ok_and(|taken| taken == frames.len())
    }
}
