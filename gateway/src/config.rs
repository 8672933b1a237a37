//! The gateway's flags, and the settings that they become.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use shared::broker::Guarantees;
use shared::config::{ConfigError, address, duration, positive_duration};
use shared::stomp::Limits;

pub use crate::destination::{DestinationError, Destinations, Template};
pub use crate::origin::{AllowedOrigin, Origins};
pub use crate::sockjs::ClientUrl;

const CONNECTIONS: &str = "Connections";
const LIMITS: &str = "Limits";
const DESTINATIONS: &str = "Destinations and receipts";
const TIMES: &str = "Times";

/// What a gateway is told on its command line. Standalone takes the same flags.
#[derive(Args, Clone, Debug)]
pub struct GatewayArgs {
    /// Where clients connect, IP:PORT: WebSocket on /ws, SockJS on /sockjs, HTTP on
    /// /api/rooms/{room}/messages.
    /// 0.0.0.0:8080 is reached from other machines; port 0 is a free one, which is logged
    #[arg(long, env = "ROOMCAST_LISTEN", value_name = "IP:PORT", value_parser = address,
        default_value = "127.0.0.1:8080", help_heading = CONNECTIONS)]
    pub listen: SocketAddr,

    /// Origin whose web pages may connect, such as `https://chat.example.com`; * is any. May be
    /// repeated. Pages from the same host as this server always may, and so may programs that are
    /// no browsers; others get 403
    #[arg(long = "allowed-origin", env = "ROOMCAST_ALLOWED_ORIGIN", value_name = "ORIGIN",
        value_delimiter = ',', help_heading = CONNECTIONS)]
    pub allowed_origins: Vec<AllowedOrigin>,

    /// Where the page that SockJS opens in a frame, for browsers without CORS, loads SockJS's client
    /// from; / at the start is this server
    #[arg(long, env = "ROOMCAST_SOCKJS_CLIENT_URL", value_name = "URL",
        default_value = "https://cdn.jsdelivr.net/npm/sockjs-client@1/dist/sockjs.min.js",
        help_heading = CONNECTIONS)]
    pub sockjs_client_url: ClientUrl,

    /// How clients prove who they are
    #[arg(long, env = "ROOMCAST_AUTH", value_name = "HOW", value_enum,
        default_value_t = Auth::None, help_heading = CONNECTIONS)]
    pub auth: Auth,

    /// How many connections may be open; further ones are answered 503. Each needs a file
    /// descriptor: see `ulimit -n`
    #[arg(long, env = "ROOMCAST_MAX_CONNECTIONS", value_name = "COUNT", default_value_t = 20_000,
        value_parser = clap::value_parser!(u32).range(1..=10_000_000), help_heading = LIMITS)]
    pub max_connections: u32,

    /// The largest STOMP frame that a client may send, and the largest message by POST, headers
    /// included, 1KiB to 16MiB
    #[arg(long, env = "ROOMCAST_MAX_FRAME_BYTES", value_name = "SIZE", default_value = "64KiB",
        help_heading = LIMITS)]
    pub max_frame_bytes: ByteSize,

    /// How many header lines a STOMP frame may have, and how many headers a message by POST
    #[arg(long, env = "ROOMCAST_MAX_HEADERS", value_name = "COUNT", default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(10..=10_000), help_heading = LIMITS)]
    pub max_headers: u32,

    /// The longest header of a STOMP frame or a POST, 256B to 1MiB
    #[arg(long, env = "ROOMCAST_MAX_HEADER_BYTES", value_name = "SIZE", default_value = "8KiB",
        help_heading = LIMITS)]
    pub max_header_bytes: ByteSize,

    /// The headers of a STOMP frame or a POST together, 1KiB to 16MiB
    #[arg(long, env = "ROOMCAST_MAX_HEADERS_BYTES", value_name = "SIZE", default_value = "64KiB",
        help_heading = LIMITS)]
    pub max_headers_bytes: ByteSize,

    /// How much may wait for a client that reads slowly before it is disconnected; at least twice
    /// --max-frame-bytes. A client that comes back with `after` gets what it missed
    #[arg(long, env = "ROOMCAST_MAX_OUTBOX_BYTES", value_name = "SIZE", default_value = "512KiB",
        help_heading = LIMITS)]
    pub max_outbox_bytes: ByteSize,

    /// How many subscriptions a connection may have at a time
    #[arg(long, env = "ROOMCAST_MAX_SUBSCRIPTIONS", value_name = "COUNT", default_value_t = 256,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = LIMITS)]
    pub max_subscriptions: u32,

    /// How many messages of a subscription with `ack:client` or `ack:client-individual` may be
    /// unacknowledged; further ones wait, within --max-outbox-bytes, for an ACK or NACK
    #[arg(long, env = "ROOMCAST_MAX_UNACKNOWLEDGED", value_name = "MESSAGES",
        default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000),
        help_heading = LIMITS)]
    pub max_unacknowledged: u32,

    /// How many transactions a connection may have open at a time; their frames together may have
    /// as many octets as --max-outbox-bytes
    #[arg(long, env = "ROOMCAST_MAX_TRANSACTIONS", value_name = "COUNT", default_value_t = 16,
        value_parser = clap::value_parser!(u32).range(1..=1_000), help_heading = LIMITS)]
    pub max_transactions: u32,

    /// How many frames a transaction may have
    #[arg(long, env = "ROOMCAST_MAX_TRANSACTION_FRAMES", value_name = "COUNT",
        default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=10_000),
        help_heading = LIMITS)]
    pub max_transaction_frames: u32,

    /// The most past messages that `history` on SUBSCRIBE brings, whatever it asks for
    #[arg(long, env = "ROOMCAST_MAX_HISTORY", value_name = "MESSAGES", default_value_t = 200,
        value_parser = clap::value_parser!(u32).range(0..=10_000), help_heading = LIMITS)]
    pub max_history: u32,

    /// How many messages a second a STOMP connection may send; 0 is no limit
    #[arg(long, env = "ROOMCAST_SEND_RATE", value_name = "MESSAGES", default_value_t = 0,
        help_heading = LIMITS)]
    pub send_rate: u32,

    /// How many messages a connection may send at once within --send-rate; what that allows in 2
    /// seconds where it is not given
    #[arg(long, env = "ROOMCAST_SEND_BURST", value_name = "MESSAGES", help_heading = LIMITS)]
    pub send_burst: Option<NonZeroU32>,

    /// How many frames other than SEND, ACK and NACK a connection may send a second, heart-beats
    /// and the pings and pongs of its transport included; at once ten times as many, and never fewer
    /// than --max-subscriptions. 0 is no limit
    #[arg(long, env = "ROOMCAST_CONTROL_RATE", value_name = "FRAMES", default_value_t = 100,
        help_heading = LIMITS)]
    pub control_rate: u32,

    /// Destination that clients SUBSCRIBE to, and may SEND to; {room} stands for the room's name.
    /// May be repeated. Set it to keep the paths of a front end that exists
    #[arg(long, env = "ROOMCAST_DESTINATION_SUBSCRIBE", value_name = "TEMPLATE",
        default_value = "/topic/rooms/{room}", value_delimiter = ',',
        help_heading = DESTINATIONS)]
    pub destination_subscribe: Vec<Template>,

    /// Destination that clients SEND to; {room} stands for the room's name. May be repeated
    #[arg(long, env = "ROOMCAST_DESTINATION_SEND", value_name = "TEMPLATE",
        default_value = "/app/rooms/{room}", value_delimiter = ',',
        help_heading = DESTINATIONS)]
    pub destination_send: Vec<Template>,

    /// What the RECEIPT of a SEND, and the answer to a POST, waits for, unless its header
    /// `receipt-after` or its parameter `receipt` says
    #[arg(long, env = "ROOMCAST_RECEIPT_AFTER", value_name = "WHAT", value_enum,
        default_value_t = ReceiptAfter::Accepted, help_heading = DESTINATIONS)]
    pub receipt_after: ReceiptAfter,

    /// How long a RECEIPT may wait for the store; after it, it is withheld, and a POST answered 504
    #[arg(long, env = "ROOMCAST_RECEIPT_TIMEOUT", value_name = "TIME", default_value = "30s",
        value_parser = positive_duration, help_heading = DESTINATIONS)]
    pub receipt_timeout: Duration,

    /// The heart-beat that is offered to clients, in both directions; 0s is none
    #[arg(long, env = "ROOMCAST_HEARTBEAT", value_name = "TIME", default_value = "10s",
        value_parser = duration, help_heading = TIMES)]
    pub heartbeat: Duration,

    /// How long a connection may take for its request, and then again for its CONNECT frame
    #[arg(long, env = "ROOMCAST_CONNECT_DEADLINE", value_name = "TIME", default_value = "10s",
        value_parser = positive_duration, help_heading = TIMES)]
    pub connect_deadline: Duration,

    /// How long a client may take from the first octet of a STOMP frame to its last
    #[arg(long, env = "ROOMCAST_FRAME_DEADLINE", value_name = "TIME", default_value = "60s",
        value_parser = positive_duration, help_heading = TIMES)]
    pub frame_deadline: Duration,

    /// How long a client may take to read any of what waits for it
    #[arg(long, env = "ROOMCAST_WRITE_TIMEOUT", value_name = "TIME", default_value = "10s",
        value_parser = positive_duration, help_heading = TIMES)]
    pub write_timeout: Duration,

    /// How long to spread the sending away of clients over after SIGTERM, so that they do not all
    /// come back in one instant; at most half of --drain-timeout. Few take less, 0s is at once
    #[arg(long, env = "ROOMCAST_DRAIN_SPREAD", value_name = "TIME", default_value = "10s",
        value_parser = duration, help_heading = TIMES)]
    pub drain_spread: Duration,
}

/// `--auth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Auth {
    /// They do not: a client is who its CONNECT says. For trusted networks and for trying out.
    None,
}

/// `--receipt-after`, and the SEND header of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReceiptAfter {
    /// The broker has journaled the message.
    Accepted,
    /// The store has the message.
    Stored,
}

impl ReceiptAfter {
    /// What is spelt so, in a flag, a header or a query.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::from_str(text, false).ok()
    }

    /// What an answer waits for where this is asked for. On a broker that is not durable that is
    /// the store: what would die with this process is not yet what a receipt says. No store has an
    /// ephemeral message, whose answer is the broker's alone.
    pub fn due(self, guarantees: Guarantees, ephemeral: bool) -> Self {
        if ephemeral {
            Self::Accepted
        } else if guarantees.durable {
            self
        } else {
            Self::Stored
        }
    }
}

/// What a gateway runs with: the flags, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// The web pages that may connect.
    pub origins: Origins,
    /// Where SockJS's client is for the page in a frame.
    pub sockjs_client_url: ClientUrl,
    /// How clients prove who they are.
    pub auth: Auth,
    /// Connections at one time.
    pub max_connections: usize,
    /// Octets of a STOMP frame from a client, headers included.
    pub max_frame_bytes: usize,
    /// Header lines of a STOMP frame from a client.
    pub max_headers: usize,
    /// Octets of one of them.
    pub max_header_bytes: usize,
    /// Octets of all of them together.
    pub max_headers_bytes: usize,
    /// Octets that may wait for a client.
    pub max_outbox_bytes: usize,
    /// Subscriptions of one connection.
    pub max_subscriptions: usize,
    /// Messages of one subscription that may be unacknowledged.
    pub max_unacknowledged: usize,
    /// Transactions of one connection.
    pub max_transactions: usize,
    /// Frames of one transaction.
    pub max_transaction_frames: usize,
    /// Past messages for one SUBSCRIBE.
    pub max_history: usize,
    /// How fast one connection may send; `None` is no limit.
    pub send_rate: Option<RateLimit>,
    /// How fast its other frames may come, but for ACK and NACK; `None` is no limit.
    pub control_rate: Option<RateLimit>,
    /// The destinations that there are.
    pub destinations: Destinations,
    /// What a RECEIPT waits for by default.
    pub receipt_after: ReceiptAfter,
    /// How long a RECEIPT may wait for the store.
    pub receipt_timeout: Duration,
    /// The heart-beat offered; zero is none.
    pub heartbeat: Duration,
    /// How long a connection may take for its request, and then for CONNECT.
    pub connect_deadline: Duration,
    /// How long a frame may take from its first octet to its last.
    pub frame_deadline: Duration,
    /// How long a client's socket may take nothing.
    pub write_timeout: Duration,
    /// How long the sending away of clients is spread over.
    pub drain_spread: Duration,
}

/// How fast frames of one connection may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Frames a second.
    pub per_second: NonZeroU32,
    /// Frames at once.
    pub burst: NonZeroU32,
}

impl Settings {
    /// Checks what the flags say together.
    ///
    /// # Errors
    /// [`ConfigError`] that names the flag to change.
    pub fn from_args(args: &GatewayArgs) -> Result<Self, ConfigError> {
        let max_frame_bytes = size("--max-frame-bytes", args.max_frame_bytes, 1 << 10, 16 << 20)?;
        let max_outbox_bytes = size(
            "--max-outbox-bytes",
            args.max_outbox_bytes,
            2 * max_frame_bytes,
            1 << 30,
        )?;
        if !args.heartbeat.is_zero() && args.heartbeat < Duration::from_millis(100) {
            return Err(ConfigError(
                "--heartbeat must be 0s (none) or at least 100ms".into(),
            ));
        }
        let max_subscriptions = args.max_subscriptions;
        Ok(Self {
            listen: args.listen,
            origins: Origins(args.allowed_origins.clone()),
            sockjs_client_url: args.sockjs_client_url.clone(),
            auth: args.auth,
            max_connections: args.max_connections as usize,
            max_frame_bytes,
            max_headers: args.max_headers as usize,
            max_header_bytes: size("--max-header-bytes", args.max_header_bytes, 1 << 8, 1 << 20)?,
            max_headers_bytes: size(
                "--max-headers-bytes",
                args.max_headers_bytes,
                1 << 10,
                16 << 20,
            )?,
            max_outbox_bytes,
            max_subscriptions: max_subscriptions as usize,
            max_unacknowledged: args.max_unacknowledged as usize,
            max_transactions: args.max_transactions as usize,
            max_transaction_frames: args.max_transaction_frames as usize,
            max_history: args.max_history as usize,
            send_rate: NonZeroU32::new(args.send_rate).map(|per_second| RateLimit {
                per_second,
                burst: args
                    .send_burst
                    .unwrap_or(per_second.saturating_add(per_second.get())),
            }),
            control_rate: NonZeroU32::new(args.control_rate).map(|per_second| RateLimit {
                per_second,
                burst: per_second
                    .saturating_mul(CONTROL_BURST)
                    .max(per_second.saturating_add(max_subscriptions)),
            }),
            destinations: Destinations {
                subscribe: args.destination_subscribe.clone(),
                send: args.destination_send.clone(),
            },
            receipt_after: args.receipt_after,
            receipt_timeout: time("--receipt-timeout", args.receipt_timeout)?,
            heartbeat: time("--heartbeat", args.heartbeat)?,
            connect_deadline: time("--connect-deadline", args.connect_deadline)?,
            frame_deadline: time("--frame-deadline", args.frame_deadline)?,
            write_timeout: time("--write-timeout", args.write_timeout)?,
            drain_spread: time("--drain-spread", args.drain_spread)?,
        })
    }

    /// The limits of one frame.
    pub fn frame_limits(&self) -> Limits {
        Limits {
            frame_bytes: self.max_frame_bytes,
            headers: self.max_headers,
            header_bytes: self.max_header_bytes,
            headers_bytes: self.max_headers_bytes,
        }
    }
}

/// How many seconds' worth of control frames may come at once. It is more where a client may have
/// more subscriptions: one that comes back subscribes to all its rooms in one go.
const CONTROL_BURST: NonZeroU32 = NonZeroU32::new(10).expect("ten is not zero");

/// The longest time that a flag may give.
const LONGEST: Duration = Duration::from_secs(3600);

fn size(flag: &str, given: ByteSize, least: usize, most: usize) -> Result<usize, ConfigError> {
    usize::try_from(given.as_u64())
        .ok()
        .filter(|size| (least..=most).contains(size))
        .ok_or_else(|| {
            let (least, most) = (ByteSize(least as u64), ByteSize(most as u64));
            ConfigError(format!(
                "{flag} must be between {least} and {most}, but is {given}"
            ))
        })
}

fn time(flag: &str, given: Duration) -> Result<Duration, ConfigError> {
    if given > LONGEST {
        let given = humantime::format_duration(given);
        return Err(ConfigError(format!(
            "{flag} must be at most 1h, but is {given}"
        )));
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use shared::broker::Guarantees;
    use shared::message::UserName;

    use super::{GatewayArgs, ReceiptAfter, Settings};

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        gateway: GatewayArgs,
    }

    fn settings(flags: &[&str]) -> Result<Settings, String> {
        let flags = ["gateway"].iter().chain(flags);
        let command = Command::try_parse_from(flags).map_err(|error| error.to_string())?;
        Settings::from_args(&command.gateway).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_valid() {
        let settings = settings(&[]).unwrap();
        assert_eq!(settings.max_frame_bytes, 64 << 10);
        assert_eq!(settings.max_outbox_bytes, 512 << 10);
        assert_eq!(settings.send_rate, None);
        assert!(
            settings
                .destinations
                .subscribe_room("/topic/rooms/a", &UserName::parse("kim").unwrap())
                .is_ok()
        );
        assert!(settings.destinations.send_room("/app/rooms/a").is_ok());
    }

    #[test]
    fn a_bad_flag_is_named_with_what_it_may_be() {
        for (flags, names) in [
            (["--max-frame-bytes", "10"], "--max-frame-bytes"),
            (["--max-outbox-bytes", "64KiB"], "--max-outbox-bytes"),
            (["--max-headers", "1"], "--max-headers"),
            (["--max-header-bytes", "2MiB"], "--max-header-bytes"),
            (["--max-headers-bytes", "1B"], "--max-headers-bytes"),
            (["--max-connections", "0"], "--max-connections"),
            (["--heartbeat", "1ms"], "--heartbeat"),
            (["--write-timeout", "0s"], "--write-timeout"),
            (["--listen", "localhost:80"], "--listen"),
            (["--receipt-timeout", "2h"], "--receipt-timeout"),
            (["--allowed-origin", "example.com"], "scheme://host"),
            (["--destination-subscribe", "/topic"], "{room}"),
            (["--destination-send", "/user/{room}"], "/user/"),
            (["--receipt-after", "sent"], "accepted"),
        ] {
            let error = settings(&flags).unwrap_err();
            assert!(error.contains(names), "{flags:?}: {error}");
        }
    }

    #[test]
    fn a_burst_is_two_seconds_of_the_rate_unless_given() {
        let rate = settings(&["--send-rate", "5"]).unwrap().send_rate.unwrap();
        assert_eq!((rate.per_second.get(), rate.burst.get()), (5, 10));
        let flags = ["--send-rate", "5", "--send-burst", "1"];
        assert_eq!(settings(&flags).unwrap().send_rate.unwrap().burst.get(), 1);
    }

    #[test]
    fn every_flag_is_also_an_environment_variable_and_has_a_heading() {
        for flag in Command::command().get_arguments() {
            let name = flag.get_long().unwrap();
            let variable = format!("ROOMCAST_{}", name.replace('-', "_").to_uppercase());
            assert_eq!(flag.get_env().unwrap().to_str(), Some(variable.as_str()));
            assert!(flag.get_help_heading().is_some(), "--{name}");
        }
    }

    #[test]
    fn a_receipt_waits_for_the_store_where_the_broker_may_forget_and_never_for_what_is_ephemeral() {
        use ReceiptAfter::{Accepted, Stored};
        let broker = |durable| Guarantees {
            durable,
            journaled: true,
        };
        for (asked, durable, due) in [
            (Accepted, true, Accepted),
            (Stored, true, Stored),
            (Accepted, false, Stored),
            (Stored, false, Stored),
        ] {
            assert_eq!(asked.due(broker(durable), false), due);
            assert_eq!(asked.due(broker(durable), true), Accepted);
        }
    }

    #[test]
    fn no_heart_beat_is_a_choice() {
        assert!(
            settings(&["--heartbeat", "0s"])
                .unwrap()
                .heartbeat
                .is_zero()
        );
    }
}
