//! The flags of `loadtest idle`.

use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use shared::config::positive_duration;

use super::{OutputArgs, TargetArgs};

pub(super) const EXAMPLES: &str = "\
Examples:
  19,000 connections with heart-beats, held for a minute:
    loadtest idle --gateway ws://127.0.0.1:8080/ws --connections 19000 --connect-rate 1000 \\
      --heartbeat 10s --hold 1m --pid gateway=$(pidof gateway)
  What is given back after bursts of large messages:
    loadtest idle --gateway ws://127.0.0.1:8080/ws --connections 1000 --cycles 10 --subscribe \\
      --burst 3 --burst-bytes 60KiB --hold 5s --pid gateway=$(pidof gateway)";

/// Flags of `loadtest idle`.
#[derive(Args, Clone, Debug)]
pub(crate) struct IdleArgs {
    /// What is loaded.
    #[command(flatten)]
    pub target: TargetArgs,

    /// Connections to hold.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,

    /// Subscribe each to a room of its own, or to rooms of --room-size.
    #[arg(long)]
    pub subscribe: bool,

    /// Connections in each room.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "subscribe")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub room_size: u32,

    /// How long to hold them; Ctrl-C and SIGTERM end it, with what there is to report.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = positive_duration)]
    pub hold: Duration,

    /// Open, hold, and close so many times, which shows what is given back.
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub cycles: u32,

    /// How long to wait, once all are closed, for what is given back.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = positive_duration)]
    pub rest: Duration,

    /// Messages that the first member of each room sends before the hold is over.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "subscribe")]
    pub burst: u32,

    /// Octets of a burst's messages.
    #[arg(long, value_name = "SIZE", default_value = "60KiB")]
    pub burst_bytes: ByteSize,

    /// What is watched and shown.
    #[command(flatten)]
    pub output: OutputArgs,
}
