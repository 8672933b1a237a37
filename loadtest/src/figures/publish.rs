//! The figures as Markdown, JSON and a page.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Serialize;
use shared::exit::Failure;

use super::sheet::{Sheet, plain};
use crate::chaos::table;
use crate::config::FiguresArgs;
use crate::report::{self, Machine, escape};

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
    if let Some(path) = &args.html {
        write("--html", path, &figures.page())?;
    }
    Ok(())
}

impl Figures {
    fn page(&self) -> String {
        let mut body = format!(
            "<header>\n<h1>Figures</h1>\n<p>{}</p>\n</header>\n",
            escape(&self.described())
        );
        for sheet in &self.sets {
            let mut content = format!("<p>{}</p>\n", escape(&sheet.about));
            for plot in &sheet.plots {
                content += &plot.chart().figure();
            }
            for table in sheet.all_tables() {
                let _ = writeln!(content, "<p>{}</p>", escape(&table.caption));
                content += &table.html();
            }
            for note in &sheet.notes {
                let _ = writeln!(content, "<p>{}</p>", escape(note));
            }
            body += &report::section(&sheet.name, &sheet.name, &content);
        }
        report::page("Figures", &body)
    }

    /// Where and how it was made, in a sentence.
    fn described(&self) -> String {
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
        format!(
            "Measured on {cores} cores of {cpu}{guest}, {} GiB of memory, {system}, Linux {kernel}, by \
             `loadtest figures{}` {}; the least and the most of several runs in parentheses.",
            plain(memory),
            if self.quick { " --quick" } else { "" },
            self.version,
        )
    }

    fn markdown(&self) -> String {
        let mut text = self.described() + "\n\n";
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
