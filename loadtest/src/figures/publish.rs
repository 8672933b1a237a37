//! The figures as Markdown, JSON and a page.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Serialize;
use shared::exit::Failure;

use super::sheet::{Sheet, plain};
use crate::chaos::table;
use crate::config::FiguresArgs;
use crate::report::Machine;

/// All that was made.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    /// The version of this program.
    pub version: &'static str,
    /// Where it ran.
    pub machine: Machine,
    /// Whether loads were short.
    pub quick: bool,
    /// The sets.
    pub sets: Vec<Sheet>,
}

/// Looks whether the files can be written, before time is spent.
///
/// # Errors
/// [`Failure::Config`] where one cannot.
pub(super) fn check(args: &FiguresArgs) -> Result<(), Failure> {
    table::check(args.json.as_deref(), args.markdown.as_deref())?;
    match &args.html {
        Some(path) => table::check_as("--html", path),
        None => Ok(()),
    }
}

/// Prints the figures, and writes the files that are asked for.
///
/// # Errors
/// [`Failure`] where one cannot be written.
pub(super) fn publish(args: &FiguresArgs, sets: Vec<Sheet>) -> Result<(), Failure> {
    let figures = Figures {
        version: env!("CARGO_PKG_VERSION"),
        machine: Machine::here(),
        quick: args.quick,
        sets,
    };
    let markdown = figures.markdown();
    table::print(&markdown)?;
    if let Some(path) = &args.markdown {
        write("--markdown", path, &markdown)?;
    }
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&figures).expect("figures have no impossible keys");
        write("--json", path, &(json + "\n"))?;
    }
    Ok(())
}

impl Figures {
    fn markdown(&self) -> String {
        let Machine {
            cpu,
            cores,
            memory_bytes,
            system,
            kernel,
            hypervisor,
        } = &self.machine;
        let memory = *memory_bytes as f64 / f64::from(1 << 30);
        let guest = match hypervisor {
            Some(hypervisor) => format!(", a guest of {hypervisor}"),
            None => String::new(),
        };
        let mut text = format!(
            "Measured on {cores} cores of {cpu}{guest}, {} GiB of memory, {system}, Linux {kernel}, by \
             `loadtest figures{}` {}; the least and the most of several runs in parentheses.\n\n",
            plain(memory),
            if self.quick { " --quick" } else { "" },
            self.version,
        );
        for sheet in &self.sets {
            // A `String` takes whatever is written.
            let _ = write!(text, "{sheet}");
        }
        text
    }
}

fn write(flag: &str, path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text)
        .map_err(|error| Failure::Other(format!("{flag}: {}: {error}", path.display())))
}
