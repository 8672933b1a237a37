//! The persister's flags.

use std::time::Duration;

use shared::config::{CommonArgs, Retention, Without, duration};

/// Store what gateways have accepted.
///
/// Takes messages from the journals of the broker in batches, writes them to the store, and takes
/// them out of the journal once they are durable there. Run one or several: they share the work,
/// and take over from one that died. While the store is away messages wait in the journal.
#[derive(Clone, Debug, clap::Parser)]
#[command(
    name = "persister",
    version,
    after_help = "Example:\n  persister --broker redis://127.0.0.1:6379 \
                  --store mongodb://127.0.0.1:27017/roomcast\n\n\
                  Exit codes: 0 told to end, 64 wrong flags or set-up, 69 broker or store not \
                  reachable at start, or an address in use"
)]
pub struct Args {
    /// What every process takes.
    #[command(flatten)]
    pub common: CommonArgs,

    /// What a persister takes.
    #[command(flatten)]
    pub persister: PersisterArgs,
}

/// The flags of a persister, for every process that is one.
#[derive(Clone, Debug, clap::Args)]
pub struct PersisterArgs {
    /// The most messages that are written to the store together; a persister holds about six times their
    /// size in memory
    #[arg(long, env = "ROOMCAST_BATCH_MAX", value_name = "MESSAGES", default_value_t = 500,
        value_parser = clap::value_parser!(u16).range(1..=10_000), help_heading = HEADING)]
    pub batch_max: u16,

    /// How long the first message of a batch waits for others, at the most: after a pause it does
    /// not. Receipts that wait for the store are late by it; with it fewer, larger writes do the same
    /// work. Defaults to 10ms, for `roomcast` to 2ms
    #[arg(long, env = "ROOMCAST_LINGER", value_name = "TIME", value_parser = linger,
        help_heading = HEADING)]
    pub linger: Option<Duration>,

    /// How long messages are kept: `off` for ever, or a time such as 90d, after which the store
    /// removes them. The same for every persister of one system
    #[arg(long, env = "ROOMCAST_RETENTION", value_name = "TIME|off", default_value = "off",
        value_parser = retention, help_heading = HEADING)]
    pub retention: Retention,
}

const HEADING: &str = "Persister";

/// The longest linger: a feed that has nothing answers after about as long.
const LONGEST_LINGER: Duration = Duration::from_secs(1);

/// How a persister works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The most messages in a batch.
    pub batch_max: usize,
    /// How long the first message of a batch waits for others, at the most.
    pub linger: Duration,
    /// How long finishing may take once told to stop.
    pub drain_timeout: Duration,
    /// What is switched off for a proof.
    pub without: Without,
}

impl PersisterArgs {
    /// The settings that these flags make; `linger` is for where the flag is not given.
    pub fn settings(&self, common: &CommonArgs, linger: Duration) -> Settings {
        Settings {
            batch_max: self.batch_max.into(),
            linger: self.linger.unwrap_or(linger),
            drain_timeout: common.drain_timeout,
            without: common.without(),
        }
    }
}

fn linger(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        linger if linger <= LONGEST_LINGER => Ok(linger),
        _ => Err("at most 1s is needed, such as 10ms".into()),
    }
}

fn retention(text: &str) -> Result<Retention, String> {
    if text == "off" {
        return Ok(Retention::Forever);
    }
    match duration(text) {
        Ok(age) if age >= Duration::from_secs(1) => Ok(Retention::For(age)),
        _ => Err("off or a time of at least 1s is needed, such as 90d or 12h".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    fn parse(args: &[&str]) -> PersisterArgs {
        Args::try_parse_from([&["persister"], args].concat())
            .unwrap()
            .persister
    }

    #[test]
    fn messages_are_kept_for_ever_unless_a_time_is_given() {
        assert_eq!(parse(&[]).retention, Retention::Forever);
        assert_eq!(parse(&["--retention", "off"]).retention, Retention::Forever);
        let day = Duration::from_secs(24 * 3600);
        assert_eq!(
            parse(&["--retention", "90d"]).retention,
            Retention::For(90 * day)
        );
        for wrong in ["0s", "10ms", "never", "90"] {
            assert!(
                retention(wrong).unwrap_err().contains("such as 90d"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_linger_is_short() {
        assert_eq!(parse(&["--linger", "0s"]).linger, Some(Duration::ZERO));
        assert!(linger("2s").is_err());
    }

    #[test]
    fn every_flag_is_also_an_environment_variable_and_has_a_heading() {
        for arg in Args::command().get_arguments() {
            let flag = arg.get_long().unwrap().replace('-', "_").to_uppercase();
            let env = arg
                .get_env()
                .unwrap_or_else(|| panic!("--{flag} has no variable"));
            assert_eq!(env.to_str(), Some(format!("ROOMCAST_{flag}").as_str()));
            assert!(arg.get_help_heading().is_some(), "--{flag} has no heading");
        }
    }
}
