//! The flags of `loadtest fanout` and `pairs`.

use std::time::Duration;

use clap::Args;
use shared::config::positive_duration;
use shared::exit::Failure;

use super::{CrowdArgs, OutputArgs, TargetArgs, rate};

pub(super) const EXAMPLES: &str = "\
Examples:
  1:1 chats, 1,000 messages a second, two gateways:
    loadtest pairs --gateway ws://127.0.0.1:8080/ws --gateway ws://127.0.0.1:8081/ws \\
      --users 500 --rate 1000 --duration 30s --history-check
  One room of 100, with the CPU time that the gateway takes for each delivered message:
    loadtest fanout --gateway ws://127.0.0.1:8080/ws --users 100 --rooms 1 --rate 100 \\
      --pid gateway=$(pidof gateway)
  RabbitMQ with Web-STOMP, where one member of ten sends:
    loadtest fanout --server rabbitmq --gateway ws://127.0.0.1:15674/ws --room-size 10 --senders 1";

/// Flags of `loadtest fanout` and `pairs`.
#[derive(Args, Clone, Debug)]
pub(crate) struct FanoutArgs {
    /// What is loaded.
    #[command(flatten)]
    pub target: TargetArgs,

    /// Who sends what.
    #[command(flatten)]
    pub crowd: CrowdArgs,

    /// Messages sent a second, by all users together.
    #[arg(long, value_name = "PER_SECOND", default_value = "100", value_parser = rate)]
    pub rate: f64,

    /// How long to send, such as 10s or 5m.
    #[arg(long, value_name = "TIME", default_value = "10s")]
    #[arg(value_parser = positive_duration)]
    pub duration: Duration,

    /// Read every room's history at the end and compare it with what was receipted and seen.
    #[arg(long)]
    pub history_check: bool,

    /// What is watched and shown.
    #[command(flatten)]
    pub output: OutputArgs,
}

impl FanoutArgs {
    /// The same in rooms of two.
    ///
    /// # Errors
    /// [`Failure::Config`] where a flag asks for other rooms.
    pub(crate) fn pairs(&self) -> Result<Self, Failure> {
        let mut args = self.clone();
        if args.crowd.rooms.is_some() || args.crowd.room_size.is_some_and(|size| size != 2) {
            let line = "pairs: --rooms and --room-size are those of fanout; a pair is two";
            return Err(Failure::Config(line.into()));
        }
        args.crowd.room_size = Some(2);
        Ok(args)
    }
}
