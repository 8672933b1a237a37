//! From a connection that was accepted to the octets and the address of a client.

mod stream;

use std::io;
use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use shared::exit::Failure;
use tokio::net::TcpStream;

pub use self::stream::Stream;
use crate::config::FrontSettings;

/// What stands before the clients' octets.
pub struct Front {}

impl Front {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// [`Failure::Config`] when they make no sense.
    pub fn open(_settings: &FrontSettings) -> Result<Self, Failure> {
        Ok(Self {})
    }

    /// Takes what comes before the first request from a connection that came from `address`. Gives
    /// the stream that requests come on, and where the client is.
    ///
    /// # Errors
    /// [`io::Error`] when it does not come as it should. The caller bounds the time.
    pub async fn take(
        &self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> io::Result<(Stream, SocketAddr)> {
        Ok((Stream::Plain(stream), address))
    }

    /// Whether what comes from there is the clients' of a proxy that is trusted: then this address says
    /// nothing of who they are.
    pub fn forwards(&self, _address: IpAddr) -> bool {
        false
    }

    /// Where the client of a request is that came from `address`.
    pub fn client(&self, address: SocketAddr, _headers: &HeaderMap) -> SocketAddr {
        address
    }
}
