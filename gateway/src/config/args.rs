//! The gateway's flags.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use shared::config::{address, duration, positive_duration};

use super::{
    AccessArgs, AllowedOrigin, AuthArgs, ClientUrl, FrontArgs, GuardArgs, ReceiptAfter, Template,
};

pub(super) const CONNECTIONS: &str = "Connections";
pub(super) const LIMITS: &str = "Limits";
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

    /// How many threads serve clients, for `gateway` 1 unless given and for `roomcast` one for each
    /// processor. With 1 a message costs least; to use more processors, run as many gateways. More are
    /// for handshakes with TLS by the thousand, and for rooms too large for one
    #[arg(long, env = "ROOMCAST_THREADS", value_name = "COUNT",
        value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = CONNECTIONS)]
    pub threads: Option<u16>,

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

    /// How clients prove who they are.
    #[command(flatten)]
    pub auth: AuthArgs,

    /// What users may do.
    #[command(flatten)]
    pub access: AccessArgs,

    /// TLS and proxies.
    #[command(flatten)]
    pub front: FrontArgs,

    /// Limits beyond those of one connection.
    #[command(flatten)]
    pub guard: GuardArgs,
}
