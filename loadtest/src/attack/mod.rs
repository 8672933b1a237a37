//! `loadtest attack`: thousands of hostile connections, while honest users go on.
//!
//! For each `kind` a `target` is started, `honest` users send and receive, and a `swarm` of `hostile`
//! connections, each with its `script`, does its worst, while `vitals` watches the server. What they
//! see is a `row` of the `table`.

mod heard;
mod honest;
mod hostile;
mod kind;
mod octets;
mod play;
mod row;
mod script;
mod swarm;
mod table;
mod target;
mod vitals;

use std::fmt::Write as _;
use std::path::Path;

use clap::ValueEnum;
use shared::exit::Failure;
use shared::shutdown;
use tokio::time::Instant;

pub(crate) use self::kind::Kind;
use self::play::Stage;
use crate::chaos::programs::Programs;
use crate::chaos::scenario::System;
use crate::chaos::table::{check, print};
use crate::config::{AttackArgs, Program};
use crate::pass::Pass;

/// Runs what the flags ask for, and prints what it has shown.
///
/// # Errors
/// [`Failure`] where an attack had an effect that it must not have, or could not be run.
pub(crate) async fn attack(args: &AttackArgs) -> Result<(), Failure> {
    if args.list {
        return print(&list());
    }
    let files = args
        .markdown
        .as_deref()
        .filter(|path| *path != Path::new("-"));
    check(args.json.as_deref(), files)?;
    let system = match args.server {
        Program::Gateway => System::Single,
        Program::Roomcast => System::Standalone,
    };
    let programs = match &args.url {
        Some(_) => None,
        None => Some(Programs::find(args.bin_dir.as_deref(), &[system])?),
    };
    if let Some(folder) = &args.keep_logs {
        std::fs::create_dir_all(folder)
            .map_err(|error| Failure::Config(format!("--keep-logs: {error}")))?;
    }
    let pass = match &args.url {
        Some(url) => {
            let (secret, ca) = (args.token_secret.clone(), args.ca.clone());
            Pass::of(secret, ca, std::slice::from_ref(url))?
        }
        None => Pass::default(),
    };
    let stage = Stage {
        args,
        programs,
        pass,
        began: Instant::now(),
        stop: shutdown::signal(),
    };
    let kinds = match args.kinds.is_empty() {
        true => Kind::value_variants(),
        false => &args.kinds,
    };
    let mut rows = Vec::new();
    for kind in kinds {
        if stage.stop.is_cancelled() {
            break;
        }
        rows.push(stage.row(*kind).await);
    }
    let published = table::publish(&rows, args.json.as_deref(), args.markdown.as_deref());
    if stage.stop.is_cancelled() {
        published?;
        return Err(Failure::Other("interrupted before all was done".into()));
    }
    published
}

/// What there is to run.
fn list() -> String {
    let kinds = Kind::value_variants();
    let width = kinds.iter().map(|kind| kind.name().len()).max();
    let width = width.unwrap_or_default();
    kinds.iter().fold(String::new(), |mut text, kind| {
        let _ = writeln!(text, "{:width$}  {}", kind.name(), kind.about());
        text
    })
}
