//! The flags of `loadtest soak`.

use std::time::Duration;

use clap::Args;
use shared::config::positive_duration;

use super::FanoutArgs;

pub(super) const EXAMPLES: &str = "\
Example:
  Four hours, in which neither memory nor latency may grow:
    loadtest soak --gateway ws://127.0.0.1:8080/ws --users 1000 --room-size 10 --rate 200 \\
      --duration 4h --interval 10s --warm-up 10m --pid gateway=$(pidof gateway)";

/// Flags of `loadtest soak`: those of `fanout`, and bounds.
#[derive(Args, Clone, Debug)]
pub(crate) struct SoakArgs {
    /// The load.
    #[command(flatten)]
    pub load: FanoutArgs,

    /// What is not looked at for growth: caches fill, allocators find their size.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = positive_duration)]
    pub warm_up: Duration,

    /// The most that a process's memory may grow, in percent of what it had after the warm-up for each
    /// hour; the trend counts, and not its end.
    #[arg(long, value_name = "PERCENT", default_value = "10", value_parser = percent)]
    pub memory_growth: f64,

    /// Growth of less than this many MiB in all is none: allocators breathe.
    #[arg(long, value_name = "MIB", default_value = "4", value_parser = percent)]
    pub memory_slack: f64,

    /// The most that p99 from send to receive may grow, in percent: the median of the last third of the
    /// intervals against that of the first.
    #[arg(long, value_name = "PERCENT", default_value = "100", value_parser = percent)]
    pub latency_growth: f64,
}

fn percent(text: &str) -> Result<f64, &'static str> {
    match text.parse() {
        Ok(percent) if (0.0..=1e9).contains(&percent) => Ok(percent),
        _ => Err("a number of at least 0 is needed, such as 10"),
    }
}
