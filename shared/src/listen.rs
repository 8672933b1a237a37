//! Addresses to listen on.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::exit::Failure;

/// Takes the address that a flag names; port 0 takes a free one.
///
/// # Errors
/// [`Failure::Unavailable`] when it cannot be had, naming the flag and the address.
pub async fn bind(flag: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|reason| {
        Failure::Unavailable(format!("cannot listen on {flag} {address}: {reason}"))
    })
}
