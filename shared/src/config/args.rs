//! The flags that every process takes.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::{
    BrokerSettings, BrokerUrl, ConfigError, Delivery, Protection, Retention, StoreSettings,
    StoreUrl, Without, address, duration, positive_duration,
};
use crate::telemetry::LogFormat;

const BROKER: &str = "Broker";
const STORE: &str = "Store";
const SERVICE: &str = "Service";

/// The flags that every process takes; a binary flattens them into its own.
#[derive(Clone, Debug, clap::Args)]
pub struct CommonArgs {
    /// The broker that carries messages: redis://HOST:PORT, redis+sentinel://…, redis+cluster://… or memory:
    ///
    /// `memory:` is inside one process and what `roomcast` defaults to. `gateway` and `persister`
    /// need a Redis that they share: `redis://[USER:PASSWORD@]HOST:PORT[/DB]`; the primary that
    /// Sentinels name, `redis+sentinel://[USER:PASSWORD@]HOST:26379,HOST:26379/SERVICE[/DB]`, where
    /// the Sentinels' own password is ?sentinel_password=PASSWORD (with &sentinel_username=USER);
    /// or a cluster by some of its nodes, `redis+cluster://[USER:PASSWORD@]HOST:PORT,HOST:PORT`.
    /// With rediss in place of redis: TLS.
    #[arg(long, env = "ROOMCAST_BROKER", value_name = "URL", hide_env_values = true,
        help_heading = BROKER)]
    pub broker: Option<BrokerUrl>,

    /// What accepting a message promises; the same in every process of one system
    #[arg(long, env = "ROOMCAST_DELIVERY", value_name = "PROMISE", value_enum,
        default_value_t = Delivery::AtLeastOnce, help_heading = BROKER)]
    pub delivery: Delivery,

    /// How many journals rooms are spread over, 1 to 1024
    ///
    /// The same in every process of one system: a process that differs does not start.
    #[arg(long, env = "ROOMCAST_SHARDS", value_name = "COUNT", default_value_t = 16,
        value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = BROKER)]
    pub shards: u16,

    /// How many messages may wait for the store, over all shards
    ///
    /// Beyond it sending is refused with an ERROR until the store catches up, so that a store that
    /// is away does not fill the broker's memory. On Redis each shard takes an equal share, so that
    /// a single busy room may fill 1/SHARDS of it; `memory:` is also full at 256 MiB.
    #[arg(long, env = "ROOMCAST_JOURNAL_MAX", value_name = "MESSAGES", default_value_t = 1_000_000,
        value_parser = clap::value_parser!(u32).range(1..), help_heading = BROKER)]
    pub journal_max: u32,

    /// How many of a room's newest messages the broker holds
    ///
    /// Clients that come back and gateways that missed some are served from them; what is older
    /// comes from the store.
    #[arg(long, env = "ROOMCAST_RECENT_MAX", value_name = "MESSAGES", default_value_t = 500,
        value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = BROKER)]
    pub recent_max: u32,

    /// How long the broker holds them after a room's last message
    #[arg(long, env = "ROOMCAST_RECENT_TTL", value_name = "TIME", default_value = "10m",
        value_parser = positive_duration, help_heading = BROKER)]
    pub recent_ttl: Duration,

    /// How long the broker may take to accept a message, retries included
    ///
    /// After it the sender is told that the broker is not available.
    #[arg(long, env = "ROOMCAST_PUBLISH_TIMEOUT", value_name = "TIME", default_value = "10s",
        value_parser = positive_duration, help_heading = BROKER)]
    pub publish_timeout: Duration,

    /// How long a persister may be silent before another takes over what it had begun to store
    #[arg(long, env = "ROOMCAST_TAKEOVER_AFTER", value_name = "TIME", default_value = "15s",
        value_parser = positive_duration, help_heading = BROKER)]
    pub takeover_after: Duration,

    /// How many replicas of Redis, at least, must have a message before it is accepted
    ///
    /// All that are up must, with redis+sentinel:// and redis+cluster://. 0 waits for none.
    /// Default: 1 with redis+sentinel:// and redis+cluster://, where a replica may take its
    /// primary's place; else 0. The RECEIPT waits for them.
    #[arg(long, env = "ROOMCAST_BROKER_REPLICAS", value_name = "COUNT", help_heading = BROKER)]
    pub broker_replicas: Option<u8>,

    /// Switches a protection off, to show what it is worth; repeatable
    #[arg(long, env = "ROOMCAST_WITHOUT", value_name = "PROTECTION", value_enum, hide = true,
        value_delimiter = ',', help_heading = SERVICE)]
    pub without: Vec<Protection>,

    /// The store that keeps messages: mongodb://HOST/DB, mongodb+srv://HOST/DB or sqlite:PATH
    ///
    /// `roomcast` defaults to a file in its `--data-dir`; `gateway` and `persister` need it given.
    /// With a password: mongodb://USER:PASSWORD@HOST/DB?authSource=admin.
    #[arg(long, env = "ROOMCAST_STORE", value_name = "URL", hide_env_values = true,
        help_heading = STORE)]
    pub store: Option<StoreUrl>,

    /// How long one operation of the store may take
    #[arg(long, env = "ROOMCAST_STORE_TIMEOUT", value_name = "TIME", default_value = "10s",
        value_parser = positive_duration, help_heading = STORE)]
    pub store_timeout: Duration,

    /// Where operators find /metrics, /livez and /readyz
    ///
    /// Port 0 takes a free port, which is logged. Default: 127.0.0.1:9100, of `persister`
    /// 127.0.0.1:9101.
    #[arg(long, env = "ROOMCAST_ADMIN_LISTEN", value_name = "IP:PORT", value_parser = address,
        help_heading = SERVICE)]
    pub admin_listen: Option<SocketAddr>,

    /// How to write logs, which go to stderr
    ///
    /// The environment variable RUST_LOG chooses levels, such as `info` (the default) or
    /// `warn,gateway=debug`.
    #[arg(long, env = "ROOMCAST_LOG_FORMAT", value_name = "FORMAT", value_enum,
        default_value_t = LogFormat::Text, help_heading = SERVICE)]
    pub log_format: LogFormat,

    /// How long to try for the broker, and for the store, at start before ending with exit code 69
    #[arg(long, env = "ROOMCAST_CONNECT_TIMEOUT", value_name = "TIME", default_value = "10s",
        value_parser = positive_duration, help_heading = SERVICE)]
    pub connect_timeout: Duration,

    /// How long finishing may take after SIGTERM or SIGINT
    ///
    /// What was accepted is finished, and clients are told to connect elsewhere. `roomcast` takes
    /// it twice at most: for its clients, then to store what is left. A second signal ends the
    /// process at once.
    #[arg(long, env = "ROOMCAST_DRAIN_TIMEOUT", value_name = "TIME", default_value = "30s",
        value_parser = duration, help_heading = SERVICE)]
    pub drain_timeout: Duration,
}

impl CommonArgs {
    /// What to open the broker with. `default` is for a process that can be the whole system;
    /// `None` says that others share the broker: it must be given then, and be no `memory:`.
    ///
    /// # Errors
    /// [`ConfigError`] when it is missing or cannot be shared.
    pub fn broker_settings(
        &self,
        default: Option<BrokerUrl>,
    ) -> Result<BrokerSettings, ConfigError> {
        let alone = default.is_some();
        let url = self.broker.clone().or(default).ok_or_else(|| {
            ConfigError(
                "--broker (or ROOMCAST_BROKER) is missing: name the Redis that gateways and \
                 persisters share, such as redis://127.0.0.1:6379"
                    .into(),
            )
        })?;
        if url == BrokerUrl::Memory && !alone {
            return Err(ConfigError(
                "--broker memory: is inside one process and cannot be shared: give \
                 redis://HOST:PORT, or run roomcast, which is all in one process"
                    .into(),
            ));
        }
        Ok(BrokerSettings {
            url,
            delivery: self.delivery,
            shards: self.shards,
            journal_max: self.journal_max as usize,
            recent_max: self.recent_max as usize,
            recent_ttl: self.recent_ttl,
            publish_timeout: self.publish_timeout,
            connect_timeout: self.connect_timeout,
            takeover_after: self.takeover_after,
            replicas: self.broker_replicas,
            without: self.without(),
        })
    }

    /// What is switched off.
    pub fn without(&self) -> Without {
        Without::from(&self.without[..])
    }

    /// What to open the store with; nothing is removed from it. `default` is for a process that
    /// can be the whole system.
    ///
    /// # Errors
    /// [`ConfigError`] when it is missing.
    pub fn store_settings(&self, default: Option<StoreUrl>) -> Result<StoreSettings, ConfigError> {
        let url = self.store.clone().or(default).ok_or_else(|| {
            ConfigError(
                "--store (or ROOMCAST_STORE) is missing: name the store that gateways and \
                 persisters share, such as mongodb://127.0.0.1:27017/roomcast"
                    .into(),
            )
        })?;
        Ok(StoreSettings {
            url,
            connect_timeout: self.connect_timeout,
            operation_timeout: self.store_timeout,
            retention: Retention::Unchanged,
        })
    }

    /// Where to serve the admin pages; `port` on the loopback where the flag is not given.
    pub fn admin_address(&self, port: u16) -> SocketAddr {
        self.admin_listen
            .unwrap_or((Ipv4Addr::LOCALHOST, port).into())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        common: CommonArgs,
    }

    fn parse(args: &[&str]) -> CommonArgs {
        Cli::try_parse_from([&["test"], args].concat())
            .unwrap()
            .common
    }

    #[test]
    fn a_process_that_shares_must_be_told_where_broker_and_store_are() {
        let args = parse(&[]);
        assert!(
            args.broker_settings(None)
                .unwrap_err()
                .0
                .starts_with("--broker")
        );
        assert!(
            args.store_settings(None)
                .unwrap_err()
                .0
                .starts_with("--store")
        );
        let args = parse(&["--broker", "memory:"]);
        assert!(
            args.broker_settings(None)
                .unwrap_err()
                .0
                .contains("cannot be shared")
        );
    }

    #[test]
    fn a_process_of_its_own_has_defaults() {
        let args = parse(&[]);
        assert_eq!(
            args.broker_settings(Some(BrokerUrl::Memory)).unwrap().url,
            BrokerUrl::Memory
        );
        let file = StoreUrl::Sqlite("chat.db".into());
        assert_eq!(args.store_settings(Some(file.clone())).unwrap().url, file);
        assert_eq!(args.admin_address(9100).to_string(), "127.0.0.1:9100");
    }

    #[test]
    fn a_given_broker_wins_over_the_default() {
        let args = parse(&["--broker", "redis://h", "--admin-listen", "0.0.0.0:0"]);
        let settings = args.broker_settings(Some(BrokerUrl::Memory)).unwrap();
        assert_eq!(settings.url, BrokerUrl::Redis("redis://h".into()));
        assert_eq!(args.admin_address(9100).to_string(), "0.0.0.0:0");
    }

    #[test]
    fn every_flag_is_also_an_environment_variable_and_has_a_heading() {
        use clap::CommandFactory;
        for arg in Cli::command().get_arguments() {
            let flag = arg.get_long().unwrap().replace('-', "_").to_uppercase();
            let env = arg
                .get_env()
                .unwrap_or_else(|| panic!("--{flag} has no variable"));
            assert_eq!(env.to_str(), Some(format!("ROOMCAST_{flag}").as_str()));
            assert!(arg.get_help_heading().is_some(), "--{flag} has no heading");
        }
    }
}
