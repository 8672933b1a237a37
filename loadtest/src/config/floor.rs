//! The flags of `loadtest floor`.

use std::net::SocketAddr;

use clap::Args;

pub(super) const EXAMPLES: &str = "\
Examples:
  What 1:1 chats cost at the least, on this machine:
    loadtest floor --listen 127.0.0.1:8090 &
    loadtest rooms --gateway ws://127.0.0.1:8090/ws --users 500 --rate 1000 --pid floor=$!";

/// Flags of `loadtest floor`.
#[derive(Args, Clone, Debug)]
pub(crate) struct FloorArgs {
    /// Where clients connect; port 0 is any that is free.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
}
