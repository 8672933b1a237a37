//! The gateway's flags, and the settings that they become.

mod access;
mod args;
mod auth;
mod front;
mod guard;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use bytesize::ByteSize;
use clap::ValueEnum;
use shared::broker::Guarantees;
use shared::config::ConfigError;
use shared::stomp::Limits;

pub use self::access::{AccessArgs, AccessSettings, AccessSource, Refusals};
pub use self::args::GatewayArgs;
pub use self::auth::{Auth, AuthArgs, AuthSettings};
pub use self::front::{FrontArgs, FrontSettings, TlsFiles};
pub use self::guard::{GuardArgs, GuardSettings, Share};
pub use crate::destination::{DestinationError, Destinations, Template};
pub use crate::origin::{AllowedOrigin, Origins};
pub use crate::sockjs::ClientUrl;

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
    pub auth: AuthSettings,
    /// What they may do then.
    pub access: AccessSettings,
    /// What stands before the clients' octets: TLS, proxies.
    pub front: FrontSettings,
    /// What one user, one address and all together may take.
    pub guard: GuardSettings,
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
            auth: AuthSettings::from_args(&args.auth, &Origins(args.allowed_origins.clone()))?,
            access: AccessSettings::from_args(&args.access, args.auth.auth)?,
            front: FrontSettings::from_args(&args.front)?,
            guard: GuardSettings::from_args(&args.guard, args.auth.auth)?,
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
            send_rate: NonZeroU32::new(args.send_rate).map(|per_second| {
                let rate = RateLimit::new(per_second);
                RateLimit {
                    burst: args.send_burst.unwrap_or(rate.burst),
                    ..rate
                }
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
            (["--byte-rate", "2GiB"], "--byte-rate"),
            (["--user-byte-rate", "much"], "--user-byte-rate"),
            (["--rate-patience", "0s"], "--rate-patience"),
            (["--user-max-connections", "1"], "need --auth jwt"),
            (["--user-connect-rate", "1"], "need --auth jwt"),
            (["--user-frame-rate", "1"], "need --auth jwt"),
            (["--user-byte-rate", "1KiB"], "need --auth jwt"),
            (["--user-max-subscriptions", "1"], "need --auth jwt"),
            (["--user-max-rooms", "1"], "need --auth jwt"),
        ] {
            let error = settings(&flags).unwrap_err();
            assert!(error.contains(names), "{flags:?}: {error}");
        }
    }

    #[test]
    fn nothing_is_shared_out_unless_a_flag_says_so() {
        let guard = settings(&[]).unwrap().guard;
        assert!(guard.address.is_unlimited() && guard.user.is_unlimited());
        assert_eq!(
            (guard.byte_rate, guard.max_rooms, guard.max_memory),
            (None, None, None)
        );
        assert!(settings(&["--user-byte-rate", "0"]).is_ok());
        let key = "a secret of 32 octets, or of more";
        let flags = [
            "--auth",
            "jwt",
            "--jwt-key",
            key,
            "--user-byte-rate",
            "5KiB",
        ];
        let guard = settings(&flags).unwrap().guard;
        let rate = guard.user.octets.unwrap();
        assert_eq!(
            (rate.per_second.get(), rate.burst.get()),
            (5 << 10, 10 << 10)
        );
        assert!(guard.address.is_unlimited());
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
