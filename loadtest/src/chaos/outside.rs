//! `loadtest chaos --gateway`: the load and its ledger on gateways that somebody else breaks.

use std::time::Duration;

use shared::exit::Failure;
use shared::shutdown;
use tokio::time::sleep;

use super::gateways::Gateways;
use super::load::{Load, LoadError, LoadSettings, SlowReader};
use super::table::{self, Row};
use crate::config::ChaosArgs;
use crate::pass::Pass;

/// How the row is called.
const NAME: &str = "from outside";

/// Runs the load for as long as the flags say, or until SIGTERM or SIGINT, and closes its ledger.
///
/// # Errors
/// [`Failure::Unavailable`] when the gateways cannot be reached at the beginning.
pub(crate) async fn run(args: &ChaosArgs) -> Result<Row, Failure> {
    let load = &args.load;
    let settings = LoadSettings {
        rooms: load.rooms as usize,
        members: load.members as usize,
        senders: load.senders as usize,
        rate: load.rate,
        stored: load.stored,
        body_bytes: load.body_bytes as usize,
        seed: args.seed,
        resume: !load.no_resume,
        keys: !load.no_keys,
        slow_reader: (load.slow_readers > 0).then_some(SlowReader {
            members: load.slow_readers as usize,
            reads: Duration::from_secs(2),
            stops: Duration::from_secs(10),
        }),
        heart_beat: load.heartbeat,
        receipt_patience: load.resend_after,
        start_within: load.connect_timeout,
        ..LoadSettings::default()
    };
    let pass = Pass::open(&load.pass, &args.gateways)?;
    let gateways = Gateways::at(args.gateways.clone(), pass);
    let started = Load::start(gateways, settings).await;
    let running = started.map_err(|error| match error {
        LoadError::Settings(wrong) => Failure::Config(wrong.to_owned()),
        stuck @ LoadError::Stuck { .. } => Failure::Unavailable(stuck.to_string()),
    })?;
    tokio::select! {
        () = sleep(load.duration) => {}
        () = shutdown::signal().cancelled_owned() => {}
    }
    // What is interrupted now counts as soon as it has ended.
    running.watch();
    let flows = running.flowing(load.settle).await;
    let longest = running.longest();
    let settled = running.settle(load.settle).await;
    let outcome = settled.close(load.settle, async { None }).await;
    for (reason, count) in &outcome.ends {
        table::print(&format!("connections that ended: {reason} {count}\n"))?;
    }
    let mut row = Row::finished(NAME, false, &[longest], &[], outcome);
    row.broken = flows.err().map(|stuck| stuck.to_string());
    Ok(row)
}
