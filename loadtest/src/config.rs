//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use shared::config::positive_duration;

use crate::body;
use crate::pass::PassArgs;

mod attack;
mod chaos;
mod compare;
mod figures;
mod floor;

pub(crate) use attack::{AttackArgs, Program};
pub(crate) use chaos::ChaosArgs;
pub(crate) use compare::{CompareArgs, Parameter};
pub(crate) use figures::{FiguresArgs, InsertArgs, Set};
pub(crate) use floor::FloorArgs;

/// Sends messages to Roomcast at a fixed rate, measures how long they take, and proves that none
/// was lost, doubled or out of order.
#[derive(Debug, Parser)]
#[command(
    name = "loadtest",
    version,
    max_term_width = 100,
    arg_required_else_help = false
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub load: Load,
}

/// What kind of load.
#[derive(Debug, Subcommand)]
pub(crate) enum Load {
    /// Users in rooms who send messages with receipts.
    ///
    /// Every user subscribes to one room; messages leave on a schedule that does not wait for
    /// answers, so a slow server shows as latency and not as a lower rate. Latency counts from
    /// the moment a message was due; it is printed in milliseconds, and in JSON in microseconds.
    ///
    /// Exit code 0: everything arrived, once and in order, and was receipted. 1: something was
    /// not. 64: a flag is wrong. 69: a gateway could not be reached.
    #[command(after_help = EXAMPLES)]
    Rooms(Box<RoomsArgs>),

    /// Users in rooms who come back, while parts of Roomcast die, freeze and are cut off.
    ///
    /// Starts redis-server, mongod, gateways and persisters by itself, one scenario after the other,
    /// and inflicts the scenario's fault again and again under load. Users come back with `after`, and
    /// send again, with its idempotency key, what has no receipt. In the end each receipt is an
    /// obligation: the message is in the store once and in order, and every subscriber has got it
    /// once and in order. What was not paid is counted, and the first debts are described.
    ///
    /// With --gateway nothing is started: the load runs on gateways that somebody else breaks.
    ///
    /// Exit code 0: no debt. 1: a debt, a scenario that could not be finished, or a control that
    /// shows no debt. 64: a flag is wrong. 69: a program that is needed is missing, or a gateway
    /// could not be reached.
    #[command(after_help = chaos::EXAMPLES)]
    Chaos(Box<ChaosArgs>),

    /// Thousands of hostile connections, while a hundred honest users go on.
    ///
    /// Starts a server by itself for each kind of attack, lets honest users send and receive, opens
    /// the hostile connections, holds them, and releases them. Shows what the server's memory, CPU
    /// time and descriptors were before, during and after, how it ended the hostile connections, and
    /// what the honest users noticed. KIND is what the hostile connections do; all kinds where none is
    /// named. --list says what there is.
    ///
    /// Exit code 0: the server lived, did not panic, lost no honest message, refused no honest user,
    /// and gave its memory back. 1: it did not, in one of these. 64: a flag is wrong. 69: a program
    /// that is needed is missing, or the server could not be reached.
    #[command(after_help = attack::EXAMPLES)]
    Attack(Box<AttackArgs>),

    /// A server that hands messages on at the least cost that this system allows, to compare with.
    ///
    /// One thread, one non-blocking write of a finished frame for each member of a room, and nothing
    /// else: no queue, no broker, no store, no heart-beats and no checks. A member that does not take
    /// a frame at once is cut off. It understands CONNECT, SUBSCRIBE, UNSUBSCRIBE, SEND and DISCONNECT
    /// of STOMP 1.2 over WebSocket, each frame in one message; a room is what follows the last slash of
    /// a destination. What other servers cost above it is what their promises cost.
    ///
    /// It prints its address and process id, and serves until it is ended.
    #[command(after_help = floor::EXAMPLES)]
    Floor(FloorArgs),

    /// Every figure that Roomcast's documentation states, made anew on this machine.
    ///
    /// Starts all servers by itself, runs the loads one after the other, each beside the floor, and
    /// writes tables with what was found, what was wanted, and whether it is met. With everything it
    /// takes 25 minutes at most, with --quick 4; Ctrl-C ends it with the figures that there are. The
    /// machine should do nothing else meanwhile.
    ///
    /// Exit code 0: all sets were made. 1: one could not be finished. 64: a flag is wrong. 69: a
    /// program that is needed is missing. A target that is not met is no error: it is in the table.
    #[command(after_help = figures::EXAMPLES)]
    Figures(FiguresArgs),

    /// Writes documents by insert_many as fast as they go: what the persister is compared with.
    #[command(hide = true)]
    Insert(InsertArgs),

    /// Runs beside each other, from the files that --json has written.
    ///
    /// The first run is what the others are divided by. Where one parameter of the load is another in
    /// each of three or more runs, it is shown how cost grows with it, with the exponent that fits: 1
    /// is linear. One file alone is shown as it was when it ran.
    ///
    /// Exit code 0: they are compared. 64: a flag or a file is wrong.
    #[command(after_help = compare::EXAMPLES)]
    Compare(Box<CompareArgs>),
}

const EXAMPLES: &str = "\
Examples:
  1:1 chats, 1,000 messages a second, two gateways:
    loadtest rooms --gateway ws://127.0.0.1:8080/ws --gateway ws://127.0.0.1:8081/ws \\
      --users 500 --room-size 2 --rate 1000 --duration 30s --history-check
  One room of 100, with the CPU time that the gateway takes for each delivered message:
    loadtest rooms --gateway ws://127.0.0.1:8080/ws --users 100 --rooms 1 --rate 100 \\
      --pid gateway=$(pidof gateway)";

/// Flags of `loadtest rooms`.
#[derive(Args, Clone, Debug)]
pub(crate) struct RoomsArgs {
    /// WebSocket URL of a gateway, ws://HOST:PORT/ws or wss://HOST:PORT/ws; may be repeated.
    ///
    /// The members of each room are spread over all of them.
    #[arg(long = "gateway", value_name = "URL", required = true)]
    pub gateways: Vec<GatewayUrl>,

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

    /// Messages sent a second, by all users together.
    #[arg(long, value_name = "PER_SECOND", default_value = "100", value_parser = rate)]
    pub rate: f64,

    /// How long to send, such as 10s or 5m.
    #[arg(long, value_name = "TIME", default_value = "10s")]
    #[arg(value_parser = positive_duration)]
    pub duration: Duration,

    /// Octets of each message's body; the first 40 say who sent it and when.
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    #[arg(value_parser = clap::value_parser!(u32).range(body::HEAD_BYTES as i64..=16_777_216))]
    pub body_bytes: u32,

    /// What a receipt is to wait for; without it the gateway's own setting holds.
    #[arg(long, value_name = "WHEN", value_enum)]
    pub receipt_after: Option<ReceiptAfter>,

    /// Read every room's history at the end and compare it with what was receipted and seen.
    #[arg(long)]
    pub history_check: bool,

    /// How long to wait, after the last message was sent, for what is still missing, and again for
    /// the history.
    #[arg(long, value_name = "TIME", default_value = "30s")]
    #[arg(value_parser = positive_duration)]
    pub settle: Duration,

    /// How long a connection may take until it is subscribed.
    #[arg(long, value_name = "TIME", default_value = "30s")]
    #[arg(value_parser = positive_duration)]
    pub connect_timeout: Duration,

    /// Seed of the order in which users send and of the bodies' text; the same seed, the same load.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// File with a token for each user, one a line; its `sub` is the user's name.
    #[arg(long, value_name = "FILE", conflicts_with = "token_secret")]
    pub token_file: Option<PathBuf>,

    /// How users get in.
    #[command(flatten)]
    pub pass: PassArgs,

    /// Charge the CPU time of a local process to the delivered messages; may be repeated.
    #[arg(long = "pid", value_name = "NAME=PID")]
    pub pids: Vec<NamedPid>,

    /// Write the result as JSON to this file too.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Write the result, with plots, as one page of HTML to this file too.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
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

/// A gateway: `ws://HOST:PORT/PATH`, or `wss://` for TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GatewayUrl {
    url: String,
    authority: String,
    is_tls: bool,
}

impl GatewayUrl {
    /// The URL as it was given.
    pub(crate) fn as_str(&self) -> &str {
        &self.url
    }

    /// `HOST:PORT`, for WebSocket and for the history.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Whom the gateway's certificate has to name.
    pub(crate) fn host(&self) -> &str {
        let (host, _) = self.authority.rsplit_once(':').unwrap_or_default();
        host.trim_matches(['[', ']'])
    }

    /// Whether it is spoken to over TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.is_tls
    }
}

impl From<&SocketAddr> for GatewayUrl {
    fn from(address: &SocketAddr) -> Self {
        Self {
            url: format!("ws://{address}/ws"),
            authority: address.to_string(),
            is_tls: false,
        }
    }
}

impl FromStr for GatewayUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str =
            "a URL such as ws://127.0.0.1:8080/ws or wss://chat.example/ws is needed";
        let (is_tls, rest) = match text.strip_prefix("wss://") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("ws://").ok_or(WANTED)?),
        };
        let (authority, path) = rest.split_once('/').ok_or(WANTED)?;
        if authority.is_empty() || authority.contains('@') || path.is_empty() {
            return Err(WANTED);
        }
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.ends_with(']'));
        let authority = if has_port {
            authority.to_owned()
        } else {
            format!("{authority}:{}", if is_tls { 443 } else { 80 })
        };
        Ok(Self {
            url: text.to_owned(),
            authority,
            is_tls,
        })
    }
}

/// A process whose CPU time is charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedPid {
    /// Its name in the report.
    pub name: String,
    /// Its process id.
    pub pid: u32,
}

impl FromStr for NamedPid {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "a name and a process id are needed, such as gateway=4711";
        let (name, pid) = text.split_once('=').ok_or(WANTED)?;
        let pid = pid.parse().map_err(|_| WANTED)?;
        Ok(Self {
            name: name.to_owned(),
            pid,
        })
    }
}

fn rate(text: &str) -> Result<f64, &'static str> {
    match text.parse() {
        Ok(rate) if (0.01..=1_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("messages a second from 0.01 to 1000000 are needed, such as 100 or 2.5"),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_gateway_is_reached_at_its_port_or_that_of_its_scheme() {
        let parse = |text: &str| text.parse::<GatewayUrl>();
        assert_eq!(
            parse("ws://[::1]:8080/ws").unwrap().authority(),
            "[::1]:8080"
        );
        assert_eq!(
            parse("ws://chat.example/ws").unwrap().authority(),
            "chat.example:80"
        );
        assert_eq!(parse("ws://[::1]/ws").unwrap().authority(), "[::1]:80");
        let secure = parse("wss://[::1]/ws").unwrap();
        assert_eq!((secure.authority(), secure.host()), ("[::1]:443", "::1"));
        assert_eq!(parse("wss://a:1/ws").unwrap().authority(), "a:1");
        for wrong in [
            "",
            "http://a/ws",
            "https://a/ws",
            "wss://a",
            "ws://a",
            "ws:///ws",
            "ws://u@a/ws",
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
