//! Load for Roomcast: measures it, and proves that nothing was lost on the way.

mod attack;
mod body;
mod chaos;
mod client;
mod config;
mod connection;
mod figures;
mod floor;
mod history;
mod ledger;
mod pass;
mod process;
mod report;
mod run;
mod scenario;

use shared::exit::{self, Failure};

use crate::config::{Cli, Load, RoomsArgs};

#[tokio::main]
async fn main() {
    let Cli { load } = exit::parse_or_exit();
    exit::run(async {
        match load {
            Load::Rooms(args) => rooms(&args).await,
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

async fn rooms(args: &RoomsArgs) -> Result<(), Failure> {
    let report = scenario::rooms(args).await?;
    println!("{report}");
    report.save(args.json.as_deref(), args.html.as_deref())?;
    if report.ok {
        Ok(())
    } else {
        Err(Failure::Other(report.wrong.join("; ")))
    }
}
