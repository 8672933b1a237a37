//! The command line.

use std::net::SocketAddr;
use std::str::FromStr;

use clap::{Parser, Subcommand};

mod attack;
mod chaos;
mod compare;
mod crowd;
mod figures;
mod floor;
mod idle;
mod load;
mod ramp;
mod soak;
mod storm;
mod target;

pub(crate) use attack::{AttackArgs, Program};
pub(crate) use chaos::ChaosArgs;
pub(crate) use compare::{CompareArgs, Parameter};
pub(crate) use crowd::{CrowdArgs, OutputArgs, ReceiptAfter};
pub(crate) use figures::{FiguresArgs, InsertArgs, Set};
pub(crate) use floor::FloorArgs;
pub(crate) use idle::IdleArgs;
pub(crate) use load::FanoutArgs;
pub(crate) use ramp::{Of, RampArgs};
pub(crate) use soak::SoakArgs;
pub(crate) use storm::StormArgs;
pub(crate) use target::{Header, Server, TargetArgs};

/// Loads a server that speaks STOMP over WebSocket, measures how long messages take, and proves that
/// none was lost, doubled or out of order.
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
    /// not. 3: the generator decided the figures, and --strict was given. 64: a flag is wrong.
    /// 69: a gateway could not be reached.
    #[command(visible_alias = "rooms", after_help = load::EXAMPLES)]
    Fanout(Box<FanoutArgs>),

    /// The same in rooms of two.
    Pairs(Box<FanoutArgs>),

    /// Connections that do nothing: what it takes to open them, and what they cost.
    ///
    /// Opens them at a rate, holds them, and closes them; shows how long each took, what memory and CPU
    /// time the processes took, and what the kernel keeps for sockets. With --cycles, again and again.
    ///
    /// Exit code 0: all were held. 1: some were cut off, or a burst was not delivered. 64: a flag is wrong.
    /// 69: a connection could not be made.
    #[command(after_help = idle::EXAMPLES)]
    Idle(Box<IdleArgs>),

    /// Everybody is cut off at once, and comes back.
    ///
    /// The client resets all connections in the same moment, as a failed network does. Users come back
    /// after a random pause, and after a failed attempt again, with growing pauses. Shows how long it took
    /// until all were subscribed again, and what failed.
    ///
    /// Exit code 0: all came back each time, and nothing was lost. 1: not so. 64: a flag is wrong.
    /// 69: the first connections could not be made.
    #[command(after_help = storm::EXAMPLES)]
    Storm(Box<StormArgs>),

    /// Find the highest rate that keeps a bound of latency.
    ///
    /// Raises the rate step by step until one does not keep the bound: 99 % take longer, something was lost,
    /// or the backlog grew. Then halves what lies between. The report is that of the best step, with all
    /// steps.
    ///
    /// Exit code 0: a rate was found. 1: none keeps it. 3: the generator decided it, and --strict was
    /// given. 64: a flag is wrong. 69: a gateway could not be reached.
    #[command(after_help = ramp::EXAMPLES)]
    Ramp(Box<RampArgs>),

    /// The load of fanout for long, in which neither memory nor latency may grow.
    ///
    /// Its own memory does not grow either: a message that came once to everybody, and has its receipt, is
    /// forgotten, and found doubled if it comes again, however late. Up to 65,536 messages of each room are
    /// remembered that somebody has not got; beyond that the oldest counts as lost. With --history-check
    /// every message is remembered to the end, which takes up to 50 octets for each, and a bit for each
    /// member.
    ///
    /// Exit code 0: everything arrived, and nothing grew beyond its bound. 1: not so. 3: the generator
    /// decided the figures, and --strict was given. 64: a flag is wrong. 69: a gateway could not be
    /// reached.
    #[command(after_help = soak::EXAMPLES)]
    Soak(Box<SoakArgs>),

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

    /// The figures of docs/performance.md, made anew on this machine.
    ///
    /// Starts all servers by itself, runs the loads one after the other, and writes tables with what was
    /// found, what was wanted, and whether it is met. With everything it takes about half an hour, with
    /// --quick about 6 minutes; after 40 minutes (with --quick 10), and by Ctrl-C, it ends with the figures
    /// that there are. The machine should do nothing else meanwhile.
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

/// A gateway: `ws://HOST:PORT/PATH`, or `wss://` for TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GatewayUrl {
    url: String,
    authority: String,
    path: String,
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

    /// What is asked for at the WebSocket's opening.
    pub(crate) fn path(&self) -> &str {
        &self.path
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
            path: "/ws".to_owned(),
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
        let is_plain = |text: &str| text.bytes().all(|octet| octet.is_ascii_graphic());
        if authority.is_empty() || authority.contains('@') || path.is_empty() || !is_plain(text) {
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
            path: format!("/{path}"),
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
