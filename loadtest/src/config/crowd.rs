//! The flags of who sends what, and of what is shown.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use shared::config::positive_duration;

use super::NamedPid;
use crate::body;

/// Who sits where and sends what.
#[derive(Args, Clone, Debug)]
pub(crate) struct CrowdArgs {
    /// Users, each with one connection in one room.
    #[arg(long, value_name = "N", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub users: u32,

    /// Rooms that the users are spread over evenly.
    #[arg(long, value_name = "N", conflicts_with = "room_size")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rooms: Option<u32>,

    /// Users in each room, instead of --rooms; the last room may have fewer [default: 2].
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub room_size: Option<u32>,

    /// How many of each room's members send; the others only listen [default: all].
    #[arg(long, value_name = "N")]
    pub senders: Option<NonZeroUsize>,

    /// Octets of each message's body; the first 40 say who sent it and when.
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    #[arg(value_parser = clap::value_parser!(u32).range(body::HEAD_BYTES as i64..=16_777_216))]
    pub body_bytes: u32,

    /// What a receipt is to wait for; without it the gateway's own setting holds.
    #[arg(long, value_name = "WHEN", value_enum)]
    pub receipt_after: Option<ReceiptAfter>,

    /// Seed of the order in which users send and of the bodies' text; the same seed, the same load.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// How long to wait, after the last message was sent, for what is still missing, and again for
    /// the history.
    #[arg(long, value_name = "TIME", default_value = "30s")]
    #[arg(value_parser = positive_duration)]
    pub settle: Duration,
}

/// What is watched and shown.
#[derive(Args, Clone, Debug)]
pub(crate) struct OutputArgs {
    /// Charge the CPU time and memory of a local process to the load; may be repeated.
    #[arg(long = "pid", value_name = "NAME=PID")]
    pub pids: Vec<NamedPid>,

    /// What the report calls the server.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// How long an interval of the report's series is.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = positive_duration)]
    pub interval: Duration,

    /// Write the result as JSON to this file too.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Write the result, with plots, as one page of HTML to this file too.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Show a line of progress on stderr each interval, also where that is no terminal.
    #[arg(long, conflicts_with = "quiet")]
    pub progress: bool,

    /// Show no progress.
    #[arg(long)]
    pub quiet: bool,

    /// End with 3 where the generator, and not the server, decided the figures.
    #[arg(long)]
    pub strict: bool,
}

/// What a receipt waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReceiptAfter {
    /// The broker has the message.
    Accepted,
    /// The store has the message.
    Stored,
}

impl ReceiptAfter {
    /// The value of the header.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Stored => "stored",
        }
    }
}

impl Default for CrowdArgs {
    fn default() -> Self {
        Self {
            users: 100,
            rooms: None,
            room_size: None,
            senders: None,
            body_bytes: 128,
            receipt_after: None,
            seed: 1,
            settle: Duration::from_secs(30),
        }
    }
}

impl Default for OutputArgs {
    fn default() -> Self {
        Self {
            pids: Vec::new(),
            name: None,
            interval: Duration::from_secs(1),
            json: None,
            html: None,
            progress: false,
            quiet: true,
            strict: false,
        }
    }
}
