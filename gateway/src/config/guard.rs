//! What one user, one address and all together may take.

use std::num::NonZeroU32;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use shared::config::{ConfigError, positive_duration};

use super::args::LIMITS;
use super::{Auth, RateLimit, time};

const ADDRESS: &str = "Limits of an address (IPv6: of a /64)";
const USER: &str = "Limits of a user";

/// The fastest octets that a flag may name: beyond it there is no limit to speak of.
const FASTEST: ByteSize = ByteSize::gib(1);

/// Limits beyond those of one connection.
#[derive(Args, Clone, Debug)]
pub struct GuardArgs {
    /// How many octets of messages a connection may send a second, in the long run; at once what that
    /// allows in 2 seconds. 0 is no limit
    #[arg(long, env = "ROOMCAST_BYTE_RATE", value_name = "SIZE", default_value = "0",
        help_heading = LIMITS)]
    pub byte_rate: ByteSize,

    /// How many rooms a connection may be subscribed to; 0 is no limit but --max-subscriptions
    #[arg(long, env = "ROOMCAST_MAX_ROOMS", value_name = "COUNT", default_value_t = 0,
        help_heading = LIMITS)]
    pub max_rooms: u32,

    /// How long a client may press on against a rate. So long it is slowed down: what it sends waits. Then
    /// its connection ends with `rate-limited`
    #[arg(long, env = "ROOMCAST_RATE_PATIENCE", value_name = "TIME", default_value = "10s",
        value_parser = positive_duration, help_heading = LIMITS)]
    pub rate_patience: Duration,

    /// Resident memory of this process above which new connections are answered 503, until it is below
    /// 95 % of it, or the connections are fewer than 95 % of what they were: what those had who have
    /// gone is used again. 0 is no limit. Only where the system tells it, as Linux does
    #[arg(long, env = "ROOMCAST_MAX_MEMORY", value_name = "SIZE", default_value = "0",
        help_heading = LIMITS)]
    pub max_memory: ByteSize,

    /// Connections at one time. 0 is no limit, as with all of these. Set none of them behind a load
    /// balancer that does not tell its clients' addresses: all would share one
    #[arg(long, env = "ROOMCAST_ADDRESS_MAX_CONNECTIONS", value_name = "COUNT", default_value_t = 0,
        help_heading = ADDRESS)]
    pub address_max_connections: u32,

    /// New connections a second; at once what that allows in 2 seconds, as with all of these
    #[arg(long, env = "ROOMCAST_ADDRESS_CONNECT_RATE", value_name = "COUNT", default_value_t = 0,
        help_heading = ADDRESS)]
    pub address_connect_rate: u32,

    /// STOMP frames and HTTP requests a second
    #[arg(long, env = "ROOMCAST_ADDRESS_FRAME_RATE", value_name = "FRAMES", default_value_t = 0,
        help_heading = ADDRESS)]
    pub address_frame_rate: u32,

    /// Octets a second, of messages and of the bodies of HTTP requests
    #[arg(long, env = "ROOMCAST_ADDRESS_BYTE_RATE", value_name = "SIZE", default_value = "0",
        help_heading = ADDRESS)]
    pub address_byte_rate: ByteSize,

    /// Subscriptions of all connections together
    #[arg(long, env = "ROOMCAST_ADDRESS_MAX_SUBSCRIPTIONS", value_name = "COUNT",
        default_value_t = 0, help_heading = ADDRESS)]
    pub address_max_subscriptions: u32,

    /// Rooms that all connections together are subscribed to
    #[arg(long, env = "ROOMCAST_ADDRESS_MAX_ROOMS", value_name = "COUNT", default_value_t = 0,
        help_heading = ADDRESS)]
    pub address_max_rooms: u32,

    /// Connections at one time. With --auth none nobody is known to be a user, and none of these is taken
    #[arg(long, env = "ROOMCAST_USER_MAX_CONNECTIONS", value_name = "COUNT", default_value_t = 0,
        help_heading = USER)]
    pub user_max_connections: u32,

    /// New connections a second
    #[arg(long, env = "ROOMCAST_USER_CONNECT_RATE", value_name = "COUNT", default_value_t = 0,
        help_heading = USER)]
    pub user_connect_rate: u32,

    /// STOMP frames and HTTP requests a second
    #[arg(long, env = "ROOMCAST_USER_FRAME_RATE", value_name = "FRAMES", default_value_t = 0,
        help_heading = USER)]
    pub user_frame_rate: u32,

    /// Octets of messages a second
    #[arg(long, env = "ROOMCAST_USER_BYTE_RATE", value_name = "SIZE", default_value = "0",
        help_heading = USER)]
    pub user_byte_rate: ByteSize,

    /// Subscriptions of all connections together
    #[arg(long, env = "ROOMCAST_USER_MAX_SUBSCRIPTIONS", value_name = "COUNT", default_value_t = 0,
        help_heading = USER)]
    pub user_max_subscriptions: u32,

    /// Rooms that all connections together are subscribed to
    #[arg(long, env = "ROOMCAST_USER_MAX_ROOMS", value_name = "COUNT", default_value_t = 0,
        help_heading = USER)]
    pub user_max_rooms: u32,
}

/// The flags, checked.
#[derive(Clone, Debug)]
pub struct GuardSettings {
    /// What one address may take.
    pub address: Share,
    /// What one user may take.
    pub user: Share,
    /// Octets a second of one connection.
    pub byte_rate: Option<RateLimit>,
    /// Rooms of one connection.
    pub max_rooms: Option<usize>,
    /// How long a client may press on against a rate.
    pub rate_patience: Duration,
    /// Octets of memory above which nobody new is served.
    pub max_memory: Option<u64>,
}

/// What those together may take on one gateway who have a user, or an address, in common; `None` is
/// no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Connections at one time.
    pub connections: Option<usize>,
    /// New connections a second.
    pub connects: Option<RateLimit>,
    /// Frames a second.
    pub frames: Option<RateLimit>,
    /// Octets a second.
    pub octets: Option<RateLimit>,
    /// Subscriptions at one time.
    pub subscriptions: Option<usize>,
    /// Rooms at one time.
    pub rooms: Option<usize>,
}

impl GuardSettings {
    pub(super) fn from_args(args: &GuardArgs, auth: Auth) -> Result<Self, ConfigError> {
        let address = Share {
            connections: count(args.address_max_connections),
            connects: rate(args.address_connect_rate),
            frames: rate(args.address_frame_rate),
            octets: octets("--address-byte-rate", args.address_byte_rate)?,
            subscriptions: count(args.address_max_subscriptions),
            rooms: count(args.address_max_rooms),
        };
        let user = Share {
            connections: count(args.user_max_connections),
            connects: rate(args.user_connect_rate),
            frames: rate(args.user_frame_rate),
            octets: octets("--user-byte-rate", args.user_byte_rate)?,
            subscriptions: count(args.user_max_subscriptions),
            rooms: count(args.user_max_rooms),
        };
        if auth == Auth::None && !user.is_unlimited() {
            return Err(ConfigError(
                "--user-… flags need --auth jwt: without it nobody is known to be a user".into(),
            ));
        }
        Ok(Self {
            address,
            user,
            byte_rate: octets("--byte-rate", args.byte_rate)?,
            max_rooms: count(args.max_rooms),
            rate_patience: time("--rate-patience", args.rate_patience)?,
            max_memory: Some(args.max_memory.as_u64()).filter(|most| *most > 0),
        })
    }
}

impl Share {
    /// Whether it limits nothing.
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

impl RateLimit {
    /// So many a second, and what that allows in 2 seconds at once.
    pub fn new(per_second: NonZeroU32) -> Self {
        Self {
            per_second,
            burst: per_second.saturating_add(per_second.get()),
        }
    }
}

fn count(given: u32) -> Option<usize> {
    (given > 0).then_some(given as usize)
}

fn rate(given: u32) -> Option<RateLimit> {
    NonZeroU32::new(given).map(RateLimit::new)
}

fn octets(flag: &str, given: ByteSize) -> Result<Option<RateLimit>, ConfigError> {
    if given > FASTEST {
        return Err(ConfigError(format!(
            "{flag} must be at most {FASTEST}, but is {given}"
        )));
    }
    Ok(u32::try_from(given.as_u64()).ok().and_then(rate))
}
