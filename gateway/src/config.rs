//! The gateway's flags, and the settings that they become.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};

pub use crate::destination::{DestinationError, Destinations, Template};
pub use crate::origin::{AllowedOrigin, Origins};

/// What a gateway is told on its command line. Standalone takes the same flags.
#[derive(Args, Clone, Debug)]
pub struct GatewayArgs {
    /// Address that clients connect to.
    ///
    /// Serves WebSocket on /ws and history on /api/rooms/{room}/messages. Use 0.0.0.0:8080 to
    /// be reached from other machines; port 0 takes a free port, which is logged.
    #[arg(long, env = "ROOMCAST_LISTEN", value_name = "ADDRESS:PORT")]
    #[arg(default_value = "127.0.0.1:8080", help_heading = "Connections")]
    pub listen: SocketAddr,

    /// Origin whose web pages may connect, as https://chat.example.com; * is any.
    ///
    /// May be repeated. Pages that this server's own host serves may always connect, and so may
    /// programs that are no browsers. Others get 403.
    #[arg(
        long = "allowed-origin",
        env = "ROOMCAST_ALLOWED_ORIGIN",
        value_name = "ORIGIN"
    )]
    #[arg(value_delimiter = ',', help_heading = "Connections")]
    pub allowed_origins: Vec<AllowedOrigin>,

    /// How clients prove who they are.
    #[arg(long, env = "ROOMCAST_AUTH", value_enum, default_value_t = Auth::None)]
    #[arg(help_heading = "Connections")]
    pub auth: Auth,

    /// Connections at one time; more are answered 503. Each needs a file descriptor (`ulimit -n`).
    #[arg(
        long,
        env = "ROOMCAST_MAX_CONNECTIONS",
        value_name = "N",
        default_value_t = 20_000
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    #[arg(help_heading = "Limits")]
    pub max_connections: u32,

    /// Largest STOMP frame that a client may send, headers included.
    #[arg(
        long,
        env = "ROOMCAST_MAX_FRAME_BYTES",
        value_name = "SIZE",
        default_value = "64KiB"
    )]
    #[arg(help_heading = "Limits")]
    pub max_frame_bytes: ByteSize,

    /// What may wait for a client that reads slowly, before it is disconnected.
    ///
    /// At least twice --max-frame-bytes. What a client misses by it, it gets on coming back with
    /// `after`.
    #[arg(
        long,
        env = "ROOMCAST_MAX_OUTBOX_BYTES",
        value_name = "SIZE",
        default_value = "512KiB"
    )]
    #[arg(help_heading = "Limits")]
    pub max_outbox_bytes: ByteSize,

    /// Subscriptions that one connection may have at a time.
    #[arg(
        long,
        env = "ROOMCAST_MAX_SUBSCRIPTIONS",
        value_name = "N",
        default_value_t = 256
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    #[arg(help_heading = "Limits")]
    pub max_subscriptions: u32,

    /// Past messages that one SUBSCRIBE may ask for with `history`.
    #[arg(
        long,
        env = "ROOMCAST_MAX_HISTORY",
        value_name = "N",
        default_value_t = 200
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=10_000), help_heading = "Limits")]
    pub max_history: u32,

    /// Messages a second that one connection may send; 0 is no limit.
    #[arg(
        long,
        env = "ROOMCAST_SEND_RATE",
        value_name = "N",
        default_value_t = 0
    )]
    #[arg(help_heading = "Limits")]
    pub send_rate: u32,

    /// Messages that may be sent at once within --send-rate. Default: what it allows in 2 s.
    #[arg(
        long,
        env = "ROOMCAST_SEND_BURST",
        value_name = "N",
        help_heading = "Limits"
    )]
    pub send_burst: Option<NonZeroU32>,

    /// Destination that clients SUBSCRIBE to (and may SEND to).
    ///
    /// May be repeated; {room} stands for the room's name. The defaults are Spring's habits; set
    /// these to keep the paths of a front end that exists.
    #[arg(long = "destination-subscribe", env = "ROOMCAST_DESTINATION_SUBSCRIBE")]
    #[arg(
        value_name = "TEMPLATE",
        default_value = "/topic/rooms/{room}",
        value_delimiter = ','
    )]
    #[arg(help_heading = "Destinations and receipts")]
    pub destination_subscribe: Vec<Template>,

    /// Destination that clients SEND to.
    ///
    /// May be repeated; {room} stands for the room's name.
    #[arg(long = "destination-send", env = "ROOMCAST_DESTINATION_SEND")]
    #[arg(
        value_name = "TEMPLATE",
        default_value = "/app/rooms/{room}",
        value_delimiter = ','
    )]
    #[arg(help_heading = "Destinations and receipts")]
    pub destination_send: Vec<Template>,

    /// What a SEND's RECEIPT waits for, where the frame has no `receipt-after` of its own.
    #[arg(long, env = "ROOMCAST_RECEIPT_AFTER", value_enum)]
    #[arg(default_value_t = ReceiptAfter::Accepted, help_heading = "Destinations and receipts")]
    pub receipt_after: ReceiptAfter,

    /// How long a RECEIPT may wait for the store; then it is withheld.
    #[arg(
        long,
        env = "ROOMCAST_RECEIPT_TIMEOUT",
        value_name = "TIME",
        default_value = "30s"
    )]
    #[arg(help_heading = "Destinations and receipts")]
    pub receipt_timeout: humantime::Duration,

    /// Heart-beat offered to clients, both ways; 0s is none.
    #[arg(
        long,
        env = "ROOMCAST_HEARTBEAT",
        value_name = "TIME",
        default_value = "10s"
    )]
    #[arg(help_heading = "Times")]
    pub heartbeat: humantime::Duration,

    /// How long a new connection may take for its request, and then for its CONNECT frame.
    #[arg(
        long,
        env = "ROOMCAST_CONNECT_DEADLINE",
        value_name = "TIME",
        default_value = "10s"
    )]
    #[arg(help_heading = "Times")]
    pub connect_deadline: humantime::Duration,

    /// How long a client's socket may take nothing of what waits for it.
    #[arg(
        long,
        env = "ROOMCAST_WRITE_TIMEOUT",
        value_name = "TIME",
        default_value = "10s"
    )]
    #[arg(help_heading = "Times")]
    pub write_timeout: humantime::Duration,
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

/// What a gateway runs with: the flags, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// The web pages that may connect.
    pub origins: Origins,
    /// How clients prove who they are.
    pub auth: Auth,
    /// Connections at one time.
    pub max_connections: usize,
    /// Octets of a STOMP frame from a client, headers included.
    pub max_frame_bytes: usize,
    /// Octets that may wait for a client.
    pub max_outbox_bytes: usize,
    /// Subscriptions of one connection.
    pub max_subscriptions: usize,
    /// Past messages for one SUBSCRIBE.
    pub max_history: usize,
    /// How fast one connection may send; `None` is no limit.
    pub send_rate: Option<SendRate>,
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
    /// How long a client's socket may take nothing.
    pub write_timeout: Duration,
}

/// How fast one connection may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendRate {
    /// Messages a second.
    pub per_second: NonZeroU32,
    /// Messages at once.
    pub burst: NonZeroU32,
}

impl Settings {
    /// Checks what the flags say together.
    ///
    /// # Errors
    /// [`SettingsError`] naming the flag to change.
    pub fn from_args(args: &GatewayArgs) -> Result<Self, SettingsError> {
        let max_frame_bytes = size("--max-frame-bytes", args.max_frame_bytes, 1 << 10, 16 << 20)?;
        let max_outbox_bytes = size(
            "--max-outbox-bytes",
            args.max_outbox_bytes,
            2 * max_frame_bytes,
            1 << 30,
        )?;
        let heartbeat = Duration::from(args.heartbeat);
        if !heartbeat.is_zero() {
            time("--heartbeat", args.heartbeat, Duration::from_millis(100))?;
        }
        Ok(Self {
            listen: args.listen,
            origins: Origins(args.allowed_origins.clone()),
            auth: args.auth,
            max_connections: args.max_connections as usize,
            max_frame_bytes,
            max_outbox_bytes,
            max_subscriptions: args.max_subscriptions as usize,
            max_history: args.max_history as usize,
            send_rate: NonZeroU32::new(args.send_rate).map(|per_second| SendRate {
                per_second,
                burst: args
                    .send_burst
                    .unwrap_or(per_second.saturating_add(per_second.get())),
            }),
            destinations: Destinations {
                subscribe: args.destination_subscribe.clone(),
                send: args.destination_send.clone(),
            },
            receipt_after: args.receipt_after,
            receipt_timeout: time("--receipt-timeout", args.receipt_timeout, SHORTEST)?,
            heartbeat,
            connect_deadline: time("--connect-deadline", args.connect_deadline, SHORTEST)?,
            write_timeout: time("--write-timeout", args.write_timeout, SHORTEST)?,
        })
    }
}

const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(3600);

/// Flags that make no sense, each alone or together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A size out of bounds.
    #[error("{flag} must be between {least} and {most}, but is {given}")]
    Size {
        /// The flag.
        flag: &'static str,
        /// The smallest that works with the other flags.
        least: ByteSize,
        /// The largest.
        most: ByteSize,
        /// What was given.
        given: ByteSize,
    },
    /// A time out of bounds.
    #[error("{flag} must be between {} and {}, but is {given}", human(*.least), human(LONGEST))]
    Time {
        /// The flag.
        flag: &'static str,
        /// The shortest.
        least: Duration,
        /// What was given.
        given: humantime::Duration,
    },
}

fn size(
    flag: &'static str,
    given: ByteSize,
    least: usize,
    most: usize,
) -> Result<usize, SettingsError> {
    usize::try_from(given.as_u64())
        .ok()
        .filter(|size| (least..=most).contains(size))
        .ok_or(SettingsError::Size {
            flag,
            least: ByteSize(least as u64),
            most: ByteSize(most as u64),
            given,
        })
}

fn time(
    flag: &'static str,
    given: humantime::Duration,
    least: Duration,
) -> Result<Duration, SettingsError> {
    let time = Duration::from(given);
    if !(least..=LONGEST).contains(&time) {
        return Err(SettingsError::Time { flag, least, given });
    }
    Ok(time)
}

fn human(time: Duration) -> humantime::Duration {
    time.into()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{GatewayArgs, Settings};

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
                .subscribe_room("/topic/rooms/a")
                .is_ok()
        );
        assert!(settings.destinations.send_room("/app/rooms/a").is_ok());
    }

    #[test]
    fn a_bad_flag_is_named_with_what_it_may_be() {
        for (flags, names) in [
            (["--max-frame-bytes", "10"], "--max-frame-bytes"),
            (["--max-outbox-bytes", "64KiB"], "--max-outbox-bytes"),
            (["--max-connections", "0"], "--max-connections"),
            (["--heartbeat", "1ms"], "--heartbeat"),
            (["--write-timeout", "0s"], "--write-timeout"),
            (["--receipt-timeout", "2h"], "--receipt-timeout"),
            (["--allowed-origin", "example.com"], "scheme://host"),
            (["--destination-subscribe", "/topic"], "{room}"),
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
    fn no_heart_beat_is_a_choice() {
        assert!(
            settings(&["--heartbeat", "0s"])
                .unwrap()
                .heartbeat
                .is_zero()
        );
    }
}
