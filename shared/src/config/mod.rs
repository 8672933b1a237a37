//! Flags that several processes share, and the settings that come of them.

mod args;
pub(crate) mod servers;
mod units;
mod url;
mod without;

use std::time::Duration;

pub use self::args::CommonArgs;
pub use self::units::{address, duration, positive_duration};
pub use self::url::{BrokerUrl, StoreUrl};
pub use self::without::{Protection, Without};

/// Flags that cannot work, in one line that says what is right. It never holds a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// `--delivery`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Delivery {
    /// An accepted message is in the broker's journal until it is stored.
    #[default]
    AtLeastOnce,
    /// Messages are only published: what a persister or a gateway does not hear is lost.
    AtMostOnce,
}

/// What a broker is opened with.
#[derive(Clone, Debug)]
pub struct BrokerSettings {
    /// Where it is.
    pub url: BrokerUrl,
    /// What is promised.
    pub delivery: Delivery,
    /// How many shards rooms are spread over; the same in every process of one system.
    pub shards: u16,
    /// The most entries that the journals together hold before publishes are refused.
    pub journal_max: usize,
    /// The most messages in a room's recent window.
    pub recent_max: usize,
    /// How long a room's recent window outlives its newest message.
    pub recent_ttl: Duration,
    /// How long a publish may take, repeats included.
    pub publish_timeout: Duration,
    /// How long to try for the first connection.
    pub connect_timeout: Duration,
    /// How long an entry may lie with a silent consumer before another takes it over.
    pub takeover_after: Duration,
    /// How many replicas of the broker must have a message before it is accepted; `None` is what
    /// fits the URL.
    pub replicas: Option<u8>,
    /// What is switched off.
    pub without: Without,
}

impl BrokerSettings {
    /// How many replicas of the broker must have a message before it is accepted.
    pub fn wanted_replicas(&self) -> u8 {
        if self.without.has(Protection::ReplicaWait) {
            return 0;
        }
        self.replicas.unwrap_or_else(|| self.url.replicas())
    }
}

/// What a store is opened with.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// Where it is.
    pub url: StoreUrl,
    /// How long to try for the first connection.
    pub connect_timeout: Duration,
    /// How long one operation may take.
    pub operation_timeout: Duration,
    /// What is to become of old messages.
    pub retention: Retention,
}

/// How long a store keeps messages. Who writes to the store decides it; who only reads leaves it
/// as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retention {
    /// As the store was set up before; for ever in a new one.
    #[default]
    Unchanged,
    /// For ever.
    Forever,
    /// The store removes messages that are older than this, soon after.
    For(Duration),
}
