//! The flags of `loadtest ramp`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use shared::config::positive_duration;

use super::{CrowdArgs, OutputArgs, TargetArgs, rate};

pub(super) const EXAMPLES: &str = "\
Example:
  The highest rate of 1:1 messages whose p99 stays under 50 ms until they are stored:
    loadtest ramp --gateway ws://127.0.0.1:8080/ws --users 1000 --room-size 2 --start 1000 \\
      --p99 50ms --of receipt --receipt-after stored";

/// Flags of `loadtest ramp`.
#[derive(Args, Clone, Debug)]
pub(crate) struct RampArgs {
    /// What is loaded.
    #[command(flatten)]
    pub target: TargetArgs,

    /// Who sends what.
    #[command(flatten)]
    pub crowd: CrowdArgs,

    /// The bound: 99 % of what is measured takes at most so long.
    #[arg(long, value_name = "TIME", default_value = "50ms", value_parser = positive_duration)]
    pub p99: Duration,

    /// What is measured.
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = Of::Receive)]
    pub of: Of,

    /// Messages a second of the first step.
    #[arg(long, value_name = "PER_SECOND", default_value = "100", value_parser = rate)]
    pub start: f64,

    /// The most messages a second that are tried.
    #[arg(long, value_name = "PER_SECOND", default_value = "1000000", value_parser = rate)]
    pub most: f64,

    /// How many times as much each step is as the one before, until one does not keep the bound.
    #[arg(long, value_name = "TIMES", default_value = "2", value_parser = factor)]
    pub factor: f64,

    /// Halve what lies between the last rate that kept it and the first that did not until it is less than
    /// this share of it.
    #[arg(long, value_name = "SHARE", default_value = "0.05", value_parser = share)]
    pub precision: f64,

    /// How long a step sends.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = positive_duration)]
    pub step: Duration,

    /// What is watched and shown.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What a ramp measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Of {
    /// From when a message was due to its delivery.
    Receive,
    /// From when a message was due to its receipt.
    Receipt,
}

fn factor(text: &str) -> Result<f64, &'static str> {
    match text.parse() {
        Ok(factor) if (1.05..=100.0).contains(&factor) => Ok(factor),
        _ => Err("a number from 1.05 to 100 is needed, such as 2"),
    }
}

fn share(text: &str) -> Result<f64, &'static str> {
    match text.parse() {
        Ok(share) if (0.001..=1.0).contains(&share) => Ok(share),
        _ => Err("a share from 0.001 to 1 is needed, such as 0.05"),
    }
}
