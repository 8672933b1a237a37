//! The flags of `loadtest chaos`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use shared::config::positive_duration;

use super::{GatewayUrl, rate};
use crate::body;
use crate::pass::PassArgs;

pub(super) const EXAMPLES: &str = "\
Examples:
  Every scenario, 20 rounds each, with the table as Markdown:
    loadtest chaos --markdown table.md
  What scenarios there are, and one of them with its control:
    loadtest chaos --list
    loadtest chaos --scenario NAME --rounds 5 --seed 7
    loadtest chaos --scenario NAME --control
  The load and its ledger alone, for five minutes, while you break what you like:
    loadtest chaos --gateway ws://127.0.0.1:8081/ws --gateway ws://127.0.0.1:8082/ws --duration 5m";

/// Flags of `loadtest chaos`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ChaosArgs {
    /// A scenario to run; may be repeated. Without it all are run.
    #[arg(long = "scenario", value_name = "NAME")]
    pub scenarios: Vec<String>,

    /// How often each scenario inflicts its fault.
    #[arg(long, value_name = "N", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rounds: u32,

    /// Seed of whom the faults hit and when, and of the load; the same seed, the same choices.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Name every scenario, with what it does, and end.
    #[arg(long)]
    pub list: bool,

    /// Run the scenarios' controls instead: each with the protection that it proves switched off,
    /// which must show a debt.
    #[arg(long)]
    pub control: bool,

    /// Where `gateway`, `persister` and `roomcast` are [default: the folder of this program].
    #[arg(long, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,

    /// Write what the processes of each scenario logged into this folder.
    #[arg(long, value_name = "DIR")]
    pub keep_logs: Option<PathBuf>,

    /// Write the table and the first debts as JSON to this file too.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Write the table as Markdown to this file too.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,

    /// Start nothing, and run the load on this gateway, ws://HOST:PORT/ws or wss://HOST:PORT/ws; may be
    /// repeated.
    #[arg(long = "gateway", value_name = "URL")]
    #[arg(conflicts_with_all = ["scenarios", "list", "control", "bin_dir", "keep_logs", "rounds"])]
    pub gateways: Vec<GatewayUrl>,

    /// The load with --gateway; scenarios bring their own.
    #[command(flatten)]
    pub load: LoadArgs,
}

/// Flags of the load on `--gateway`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "With --gateway")]
pub(crate) struct LoadArgs {
    /// How long to send, such as 30s or 5m; SIGTERM, or Ctrl-C, ends it earlier.
    #[arg(
        long,
        value_name = "TIME",
        default_value = "60s",
        requires = "gateways"
    )]
    #[arg(value_parser = positive_duration)]
    pub duration: Duration,

    /// Rooms.
    #[arg(long, value_name = "N", default_value_t = 10, requires = "gateways")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rooms: u32,

    /// Users in each room, all of whom subscribe.
    #[arg(long, value_name = "N", default_value_t = 4, requires = "gateways")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub members: u32,

    /// How many of each room's users send.
    #[arg(long, value_name = "N", default_value_t = 2, requires = "gateways")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub senders: u32,

    /// Messages sent a second, by all users together.
    #[arg(
        long,
        value_name = "PER_SECOND",
        default_value = "50",
        requires = "gateways"
    )]
    #[arg(value_parser = rate)]
    pub rate: f64,

    /// The share of messages whose receipts wait for the store, from 0 to 1.
    #[arg(
        long,
        value_name = "SHARE",
        default_value = "0.5",
        requires = "gateways"
    )]
    #[arg(value_parser = share)]
    pub stored: f64,

    /// Octets of each message's body; the first 40 say who sent it and when.
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 128,
        requires = "gateways"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(body::HEAD_BYTES as i64..=16_777_216))]
    pub body_bytes: u32,

    /// How long to wait, after the last message was sent, for what is still missing, and again for
    /// the history.
    #[arg(
        long,
        value_name = "TIME",
        default_value = "60s",
        requires = "gateways"
    )]
    #[arg(value_parser = positive_duration)]
    pub settle: Duration,

    /// How long it may take until everybody is subscribed and messages flow.
    #[arg(
        long,
        value_name = "TIME",
        default_value = "30s",
        requires = "gateways"
    )]
    #[arg(value_parser = positive_duration)]
    pub connect_timeout: Duration,

    /// How often gateway and user show each other that they live; a gateway that is silent for two
    /// and a half times as long has gone.
    #[arg(long, value_name = "TIME", default_value = "2s", requires = "gateways")]
    #[arg(value_parser = positive_duration)]
    pub heartbeat: Duration,

    /// Send a message again that has had no receipt for so long, though the connection stands.
    #[arg(
        long,
        value_name = "TIME",
        default_value = "15s",
        requires = "gateways"
    )]
    #[arg(value_parser = positive_duration)]
    pub resend_after: Duration,

    /// How many of each room's users read for two seconds and then nothing for ten, again and again;
    /// they do not send.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "gateways")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub slow_readers: u32,

    /// Come back without `after`, as a control: what is missed meanwhile must show as lost.
    #[arg(long, requires = "gateways")]
    pub no_resume: bool,

    /// Send without idempotency keys, as a control: what is sent again must show as doubled.
    #[arg(long, requires = "gateways")]
    pub no_keys: bool,

    /// How users get in.
    #[command(flatten)]
    pub pass: PassArgs,
}

fn share(text: &str) -> Result<f64, &'static str> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a share from 0 to 1 is needed, such as 0.5"),
    }
}
