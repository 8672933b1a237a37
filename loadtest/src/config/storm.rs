//! The flags of `loadtest storm`.

use std::time::Duration;

use clap::Args;
use shared::config::positive_duration;

use super::{OutputArgs, TargetArgs};

pub(super) const EXAMPLES: &str = "\
Examples:
  5,000 users whose network fails at once, five times, and who come back as browsers do:
    loadtest storm --gateway ws://127.0.0.1:8080/ws --users 5000 --rounds 5
  The same all at once, with what they missed:
    loadtest storm --gateway ws://127.0.0.1:8080/ws --users 5000 --jitter 0s --after";

/// Flags of `loadtest storm`.
#[derive(Args, Clone, Debug)]
pub(crate) struct StormArgs {
    /// What is loaded.
    #[command(flatten)]
    pub target: TargetArgs,

    /// Users, each with one connection in one room.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub users: u32,

    /// Users in each room.
    #[arg(long, value_name = "N", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub room_size: u32,

    /// How often everybody is cut off.
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rounds: u32,

    /// Everybody waits for up to this long before coming back; 0s has all come at once.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub jitter: Duration,

    /// The pause after a first attempt that failed; each that follows is twice as long, with jitter.
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = positive_duration)]
    pub backoff: Duration,

    /// The longest pause.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = positive_duration)]
    pub backoff_most: Duration,

    /// How long it may take until everybody is back.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = positive_duration)]
    pub within: Duration,

    /// Users come back with `after`, and have to get once, or be told that they do not, what was sent to
    /// their rooms while nobody was there. Roomcast only.
    #[arg(long)]
    pub after: bool,

    /// Seed of the pauses.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// What is watched and shown.
    #[command(flatten)]
    pub output: OutputArgs,
}

fn duration(text: &str) -> Result<Duration, String> {
    match text {
        "0" | "0s" => Ok(Duration::ZERO),
        text => positive_duration(text),
    }
}
