//! Flags that several processes share.

use std::fmt;
use std::time::Duration;

/// `--delivery`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Delivery {
    /// Accepting is one atomic step that journals the message until it is stored.
    #[default]
    AtLeastOnce,
    /// Messages are only published: what a persister or a subscriber does not hear is lost.
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
}

/// `--broker`.
#[derive(Clone, PartialEq, Eq)]
pub enum BrokerUrl {
    /// `memory:`: inside this process.
    Memory,
    /// `redis://…` or `rediss://…`, with what the client library needs in it.
    Redis(String),
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

/// `--store`.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// `sqlite:PATH`: a file.
    Sqlite(std::path::PathBuf),
    /// `mongodb://…/DB` or `mongodb+srv://…/DB`.
    Mongo {
        /// The whole URL.
        url: String,
        /// The database that its path names.
        database: String,
    },
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory:",
            Self::Redis(_) => "redis://…",
        })
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Mongo { database, .. } => write!(f, "mongodb://…/{database}"),
        }
    }
}
