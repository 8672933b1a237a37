//! What there is to attack with.

use clap::ValueEnum;

/// What hostile connections do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    /// Connect, and send nothing.
    Silent,
    /// Send an octet of an HTTP header each second: slow-loris.
    SlowHeaders,
    /// Send half of the request for a WebSocket.
    HalfUpgrade,
    /// Open a WebSocket, and send no CONNECT.
    NoConnect,
    /// Send an octet of CONNECT each second, in one message or one fragment each.
    SlowConnect,
    /// Connect, and send half of a SEND, in half of a message or in a whole one.
    HalfFrame,
    /// Connect, and send 1,500 pings at once and each second, reading no pong.
    PingFlood,
    /// Connect, and send 1,500 empty fragments of one message at once and each second.
    EmptyFragments,
    /// Announce a message of 2^62 octets, or send one that is too large.
    HugeFrame,
    /// Send a message marked as compressed, which nobody agreed to.
    Compressed,
    /// Send a request of 10,000 headers, or a CONNECT with as many.
    HeaderBomb,
    /// Subscribe to a busy room, and never read.
    SlowReader,
    /// POST a message whose body never comes.
    StalledBody,
    /// Open SockJS sessions, and never poll them.
    SockjsSessions,
    /// CONNECT with tokens of garbage, expired, forged, unsigned and huge ones, again and again.
    BadTokens,
    /// Connect, vanish with a reset, and connect again.
    ReconnectStorm,
    /// Begin TLS, and never end its first message; the server has TLS then.
    TlsHalf,
    /// Connect, a tenth of them, and subscribe to 200 rooms each.
    SubscribeFlood,
}

impl Kind {
    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    /// What it does, in a line.
    pub(crate) fn about(self) -> String {
        self.to_possible_value()
            .and_then(|value| Some(value.get_help()?.to_string()))
            .unwrap_or_default()
    }

    /// How many connections it makes where so many are wanted. What takes far more memory than the
    /// others takes fewer, so that all of them fit the same machine.
    pub(crate) fn connections(self, wanted: u32) -> u32 {
        match self {
            Self::SubscribeFlood => (wanted / 10).max(1),
            _ => wanted,
        }
    }

    /// Whether a connection that has ended comes back.
    pub(crate) fn comes_back(self) -> bool {
        matches!(self, Self::BadTokens | Self::ReconnectStorm)
    }

    /// Whether it is silence that reads nothing either, so that the system's buffers fill.
    pub(crate) fn is_deaf(self) -> bool {
        matches!(self, Self::SlowReader | Self::PingFlood)
    }
}
