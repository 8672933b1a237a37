//! The flags of `loadtest attack`.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use shared::config::positive_duration;

use super::{GatewayUrl, rate};
use crate::attack::Kind;
use crate::pass::Secret;

pub(super) const EXAMPLES: &str = "\
Examples:
  Every kind, 10,000 connections each, with the table as Markdown:
    loadtest attack --hold 70s --markdown -
  What 100 users notice of a slow-loris of 2,000 sockets:
    loadtest attack slow-headers --connections 2000 --honest 100
  Two kinds, against a server of your own, whose memory is that of a process here:
    loadtest attack silent ping-flood --url ws://127.0.0.1:8080/ws --pid $(pidof roomcast)";

/// Flags of `loadtest attack`.
#[derive(Args, Clone, Debug)]
pub(crate) struct AttackArgs {
    /// What the hostile connections do; several kinds are run one after the other.
    #[arg(value_name = "KIND", value_enum, hide_possible_values = true)]
    pub kinds: Vec<Kind>,

    /// Name every kind, with what it does, and end.
    #[arg(long)]
    pub list: bool,

    /// Hostile connections of each kind. Each needs a file descriptor here and one in the server.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,

    /// Honest users, in rooms of ten; 0 is none.
    #[arg(long, value_name = "N", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub honest: u32,

    /// Messages a second that the honest users send, all together.
    #[arg(long, value_name = "PER_SECOND", default_value = "100", value_parser = rate)]
    pub honest_rate: f64,

    /// Connections a second, all together, of the kinds that come back.
    #[arg(long, value_name = "PER_SECOND", default_value = "1000", value_parser = rate)]
    pub comebacks: f64,

    /// How long the honest users are left in peace, to measure what the attack changes.
    #[arg(long, value_name = "TIME", default_value = "10s")]
    #[arg(value_parser = positive_duration)]
    pub peace: Duration,

    /// How long the hostile connections are held, once all have been opened. The server's deadlines
    /// are seen where it is longer than they are.
    #[arg(long, value_name = "TIME", default_value = "15s")]
    #[arg(value_parser = positive_duration)]
    pub hold: Duration,

    /// How long the server may take, after the attack, to give memory back and deliver what is owed.
    #[arg(long, value_name = "TIME", default_value = "60s")]
    #[arg(value_parser = positive_duration)]
    pub settle: Duration,

    /// How much more memory than before the server may keep after the attack. What it once needed an
    /// allocator keeps in part, so that the bound is this or half of what the attack took at most,
    /// whichever is more.
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    pub may_keep: ByteSize,

    /// The server that is started: a gateway and a persister on Redis and MongoDB, or `roomcast`.
    #[arg(long, value_name = "PROGRAM", value_enum, default_value_t = Program::Gateway)]
    pub server: Program,

    /// A flag for the server that is started, such as --server-flag=--max-connections=500; may be
    /// repeated.
    #[arg(long = "server-flag", value_name = "FLAG", allow_hyphen_values = true)]
    pub server_flags: Vec<String>,

    /// Start nothing, and attack this server, ws://HOST:PORT/ws. It must be yours.
    #[arg(long, value_name = "URL", conflicts_with_all = ["server", "server_flags", "bin_dir", "keep_logs"])]
    pub url: Option<GatewayUrl>,

    /// The server's process with --url, if it runs here: without it no memory is measured.
    #[arg(long, value_name = "PID", requires = "url")]
    pub pid: Option<u32>,

    /// What the honest users' tokens are signed with (HS256), where the server of --url wants tokens.
    #[arg(long, value_name = "KEY", requires = "url")]
    pub token_secret: Option<Secret>,

    /// Certificates in PEM of the authorities that honest users trust, with --url wss://…; hostile
    /// connections speak no TLS.
    #[arg(long, value_name = "FILE", requires = "url")]
    pub ca: Option<PathBuf>,

    /// Seed of the honest users' load; the same seed, the same load.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Where `gateway`, `persister` and `roomcast` are [default: the folder of this program].
    #[arg(long, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,

    /// Write what the server of each kind logged into this folder.
    #[arg(long, value_name = "DIR")]
    pub keep_logs: Option<PathBuf>,

    /// Write the table as JSON to this file too.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Write the table as Markdown to this file too; - prints it in place of the other.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
}

/// A server that can be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Program {
    /// `gateway` and `persister`, on a Redis and a mongod of their own.
    Gateway,
    /// `roomcast`, which needs nothing.
    Roomcast,
}
