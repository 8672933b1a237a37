//! Load for servers that speak STOMP over WebSocket: measures them, and proves that nothing was lost on
//! the way.

mod attack;
mod body;
mod chaos;
mod config;
mod connection;
mod crew;
mod field;
mod figures;
mod floor;
mod heart;
mod history;
mod house;
mod ledger;
mod pacer;
mod pass;
mod play;
mod probe;
mod process;
mod progress;
mod report;
mod roll;
mod run;
mod scenario;
mod tally;
mod target;
mod verdict;
mod wire;

use shared::exit::{self, Failure};

use crate::config::{Cli, Load, OutputArgs};
use crate::report::Report;
use crate::scenario::{fanout, idle, ramp, soak, storm};

/// The exit code of a run that the generator decided, where that was asked for.
const BOTTLENECK: i32 = 3;

#[tokio::main]
async fn main() {
    let Cli { load } = exit::parse_or_exit();
    exit::run(async {
        match load {
            Load::Fanout(args) => finish(&fanout::run(&args, false).await?, &args.output),
            Load::Pairs(args) => finish(&fanout::run(&args.pairs()?, false).await?, &args.output),
            Load::Idle(args) => finish(&idle::run(&args).await?, &args.output),
            Load::Storm(args) => finish(&storm::run(&args).await?, &args.output),
            Load::Ramp(args) => finish(&ramp::run(&args).await?, &args.output),
            Load::Soak(args) => finish(&soak::run(&args).await?, &args.load.output),
            Load::Chaos(args) => chaos::chaos(&args).await,
            Load::Compare(args) => report::compare(&args),
            Load::Attack(args) => attack::attack(&args).await,
            Load::Floor(args) => floor::floor(&args),
            Load::Figures(args) => figures::figures(&args).await,
            Load::Insert(args) => figures::insert::insert(&args).await,
        }
    })
    .await
}

/// Shows a report, and ends with what it says.
fn finish(report: &Report, output: &OutputArgs) -> Result<(), Failure> {
    println!("{report}");
    report.save(output.json.as_deref(), output.html.as_deref())?;
    if !report.ok {
        return Err(Failure::Other(report.wrong.join("; ")));
    }
    if let Some(reason) = report
        .generator
        .bottleneck
        .as_ref()
        .filter(|_| output.strict)
    {
        eprintln!("loadtest: the generator was the bottleneck: {reason}");
        std::process::exit(BOTTLENECK);
    }
    Ok(())
}
