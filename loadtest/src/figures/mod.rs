//! `loadtest figures`: the figures of docs/performance.md, made anew.
//!
//! A set (`speed`, `saturation`, …) starts its `system`s, runs loads on them, and fills a `sheet` with
//! tables, targets and plots. Loads are this program in processes of their own, so that what making
//! figures costs is not in them.

mod crowd;
mod growth;
pub(crate) mod insert;
mod many;
mod measure;
mod memory;
mod persister;
mod publish;
mod saturation;
mod search;
mod sheet;
mod speed;
mod stage;
mod stored;
mod system;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use clap::ValueEnum;
use futures_util::FutureExt;
use shared::exit::Failure;
use shared::shutdown;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use self::sheet::Sheet;
use self::stage::{Broken, Stage};
use crate::chaos::programs::Programs;
use crate::chaos::scenario::System;
use crate::chaos::table;
use crate::config::{FiguresArgs, Set};

/// How long all sets may take together.
const LIMIT: Duration = Duration::from_secs(40 * 60);
const QUICK_LIMIT: Duration = Duration::from_secs(10 * 60);

/// How often each load that is repeated runs, where nobody says.
const REPEAT: u32 = 3;

/// Makes the figures that the flags ask for, and prints them.
///
/// # Errors
/// [`Failure`] where a set could not be finished; what there is has been printed then.
pub(crate) async fn figures(args: &FiguresArgs) -> Result<(), Failure> {
    if args.list {
        return table::print(&list());
    }
    publish::check(args)?;
    let missing = |reason| Failure::Unavailable(reason);
    harness::rabbitmq::program().map_err(missing)?;
    let systems = [System::Single, System::Standalone];
    let own = std::env::current_exe().map_err(|error| missing(error.to_string()))?;
    let stage = Stage {
        programs: Programs::find(args.bin_dir.as_deref(), &systems)?,
        own,
        repeat: args.repeat.unwrap_or(if args.quick { 1 } else { REPEAT }),
        quick: args.quick,
        stop: shutdown::signal(),
        folder: TempDir::new().map_err(|error| Failure::Other(error.to_string()))?,
        began: Instant::now(),
    };
    let stop = stage.stop.clone();
    let limit = if args.quick { QUICK_LIMIT } else { LIMIT };
    tokio::spawn(async move {
        sleep(limit).await;
        stop.cancel();
    });
    let mut sets = args.only.clone();
    if sets.is_empty() {
        sets = Set::value_variants().to_vec();
    }
    let mut sheets = Vec::new();
    let mut unfinished = Vec::new();
    for set in sets {
        if stage.stop.is_cancelled() {
            unfinished.push(name(set));
            continue;
        }
        let (sheet, is_whole) = play(&stage, set).await;
        sheets.push(sheet);
        if !is_whole {
            unfinished.push(name(set));
        }
    }
    publish::publish(args, sheets)?;
    match unfinished.is_empty() {
        true => Ok(()),
        false => Err(Failure::Other(format!(
            "not finished: {}",
            unfinished.join(", ")
        ))),
    }
}

/// Makes a set. What it has when it breaks is kept.
async fn play(stage: &Stage, set: Set) -> (Sheet, bool) {
    let began = Instant::now();
    let mut sheet = Sheet {
        name: name(set),
        about: about(set).to_owned(),
        ..Sheet::default()
    };
    let sheet_of = &mut sheet;
    let made = async {
        match set {
            Set::Speed => speed::speed(stage, sheet_of).await,
            Set::Saturation => saturation::saturation(stage, sheet_of).await,
            Set::Stored => stored::stored(stage, sheet_of).await,
            Set::Persister => persister::persister(stage, sheet_of).await,
            Set::Memory => memory::memory(stage, sheet_of).await,
            Set::Many => many::many(stage, sheet_of).await,
            Set::Growth => growth::growth(stage, sheet_of).await,
        }
    };
    // A server that does not start panics, and says why on stderr; the other sets do without it.
    let made = AssertUnwindSafe(made).catch_unwind().await;
    let made = made.unwrap_or_else(|_| Err(Broken::Failed("a server failed".into())));
    sheet.seconds = began.elapsed().as_secs_f64();
    if let Err(broken) = &made {
        stage.say(format_args!("{}: {broken}", sheet.name));
        sheet.note(format!("Not finished: {broken}."));
    }
    (sheet, made.is_ok())
}

fn name(set: Set) -> String {
    let value = set.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

fn about(set: Set) -> &'static str {
    match set {
        Set::Speed => speed::ABOUT,
        Set::Saturation => saturation::ABOUT,
        Set::Stored => stored::ABOUT,
        Set::Persister => persister::ABOUT,
        Set::Memory => memory::ABOUT,
        Set::Many => many::ABOUT,
        Set::Growth => growth::ABOUT,
    }
}

/// What there is to make.
fn list() -> String {
    let sets = Set::value_variants().iter();
    let lines = sets.map(|set| format!("{:<11} {}\n", name(*set), about(*set)));
    lines.collect()
}
