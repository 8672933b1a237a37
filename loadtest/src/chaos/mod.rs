//! `loadtest chaos`: a load that goes on while parts die, and a ledger that is checked at the end.
//!
//! A scenario of the `catalogue` is played (`play`) on a `world` of processes with a `proxy` between
//! them wherever a `fault` spoils the network.

mod board;
mod catalogue;
mod debts;
mod fault;
mod figures;
mod gateways;
mod load;
mod member;
mod outside;
mod part;
mod play;
pub(crate) mod programs;
mod proxy;
pub(crate) mod scenario;
mod sends;
mod settled;
pub(crate) mod table;
mod world;

use std::fmt::Write as _;

use shared::exit::Failure;
use shared::shutdown;
use tempfile::TempDir;
use tokio::time::Instant;

use self::play::{Played, Stage};
use self::programs::Programs;
use self::scenario::{Control, Scenario};
use self::table::Row;
use crate::config::ChaosArgs;

/// Runs what the flags ask for, and prints what it has shown.
///
/// # Errors
/// [`Failure`] where there are debts, or something could not be run.
pub(crate) async fn chaos(args: &ChaosArgs) -> Result<(), Failure> {
    if args.list {
        return table::print(&list());
    }
    table::check(args.json.as_deref(), args.markdown.as_deref())?;
    if !args.gateways.is_empty() {
        let rows = vec![outside::run(args).await?];
        return table::publish(&rows, args.json.as_deref(), args.markdown.as_deref());
    }
    let scenarios = chosen(&args.scenarios)?;
    if args.control
        && scenarios
            .iter()
            .all(|scenario| scenario.controls.is_empty())
    {
        let line = "--control: none of these scenarios has one; --list names them all";
        return Err(Failure::Config(line.into()));
    }
    let systems: Vec<_> = scenarios.iter().map(|scenario| scenario.system).collect();
    let stage = Stage {
        programs: Programs::find(args.bin_dir.as_deref(), &systems)?,
        rounds: args.rounds,
        seed: args.seed,
        began: Instant::now(),
        stop: shutdown::signal(),
    };
    let mut rows = Vec::new();
    for scenario in scenarios {
        let controls = scenario.controls.iter().map(Some);
        let plain = [None];
        let games: Vec<Option<&'static Control>> = match args.control {
            true => controls.collect(),
            false => plain.to_vec(),
        };
        for control in games {
            if stage.stop.is_cancelled() {
                break;
            }
            rows.push(row(args, &stage, scenario, control).await);
        }
    }
    let published = table::publish(&rows, args.json.as_deref(), args.markdown.as_deref());
    if stage.stop.is_cancelled() {
        published?;
        return Err(Failure::Other(
            "interrupted before all rounds were done".into(),
        ));
    }
    published
}

/// The scenarios of these names, in the order of the table; all where none is named.
fn chosen(names: &[String]) -> Result<Vec<&'static Scenario>, Failure> {
    for name in names {
        if !catalogue::scenarios().any(|scenario| scenario.name == name) {
            let line = format!("--scenario: there is no `{name}`; --list names them all");
            return Err(Failure::Config(line));
        }
    }
    let is_chosen =
        |scenario: &&Scenario| names.is_empty() || names.iter().any(|name| name == scenario.name);
    Ok(catalogue::scenarios().filter(is_chosen).collect())
}

/// Plays a scenario or a control. Its logs are kept where that is asked for, and where it is not as
/// it should be.
async fn row(
    args: &ChaosArgs,
    stage: &Stage,
    scenario: &'static Scenario,
    control: Option<&'static Control>,
) -> Row {
    let name = match control {
        Some(control) => format!("{}: {}", scenario.name, control.about),
        None => scenario.name.to_owned(),
    };
    let folders = TempDir::with_prefix("roomcast-chaos-").and_then(|temporary| {
        let logs = match &args.keep_logs {
            Some(folder) => folder.join(name.replace(|c: char| !c.is_ascii_alphanumeric(), "-")),
            None => temporary.path().to_owned(),
        };
        std::fs::create_dir_all(&logs)?;
        Ok((temporary, logs))
    });
    let (temporary, logs) = match folders {
        Ok(folders) => folders,
        // The rows before this one are shown all the same.
        Err(error) => {
            let reason = format!("the folder of logs cannot be made: {error}");
            return Row::broken(&name, control.is_some(), 0, reason);
        }
    };
    let Played {
        longest,
        recoveries,
        outcome,
        notes,
        broken,
    } = stage.play(scenario, control, &logs).await;
    let is_control = control.is_some();
    let mut row = match outcome {
        Some(outcome) => {
            let mut row = Row::finished(&name, is_control, &longest, &recoveries, outcome);
            // A control that is stuck has its debts.
            row.broken = broken.filter(|_| !is_control);
            row
        }
        None => {
            let reason = broken.unwrap_or_else(|| "it has no outcome".into());
            Row::broken(&name, is_control, longest.len(), reason)
        }
    };
    row.notes.extend(notes);
    if !row.is_good() && args.keep_logs.is_none() {
        let kept = temporary.keep();
        row.notes.push(format!("logs are in {}", kept.display()));
    }
    row
}

/// What there is to run, with its controls.
fn list() -> String {
    let mut text = String::new();
    let width = catalogue::scenarios().map(|scenario| scenario.name.len());
    let width = width.max().unwrap_or_default();
    for Scenario {
        name,
        about,
        controls,
        ..
    } in catalogue::scenarios()
    {
        let _ = writeln!(text, "{name:width$}  {about}");
        for control in *controls {
            let _ = writeln!(text, "{:width$}  - control: {}", "", control.about);
        }
    }
    text
}
