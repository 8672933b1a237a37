//! Ports for servers.

use std::net::{Ipv4Addr, TcpListener};

/// A port of the loopback that is free now. It is below those that systems give to outgoing
/// connections, so that none of them takes it while its server is being restarted.
///
/// # Panics
/// When a thousand attempts find none.
pub fn free() -> u16 {
    let found = (0..1000).find_map(|_| {
        let port = fastrand::u16(10_000..32_768);
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
        Some(port)
    });
    found.expect("the loopback has thousands of ports")
}
