//! What a run has shown: the data that every scenario fills, as text, as JSON and as a page.
//!
//! A figure's name ends with its unit: `_us` is microseconds, `_bytes` is octets. What was not
//! measured is `None`, and not 0.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use shared::exit::Failure;

use crate::ledger::Faults;

mod chart;
mod compare;
mod escape;
mod growth;
mod latency;
mod load;
mod machine;
mod page;
mod series;
mod step;
mod table;
mod tables;
mod text;
mod unit;
mod usage;

pub(crate) use chart::{Axis, Chart, Line};
pub(crate) use compare::compare;
pub(crate) use growth::Growth;
pub(crate) use latency::Latency;
pub(crate) use load::Load;
pub(crate) use machine::Machine;
pub(crate) use page::{page, section};
pub(crate) use series::{Interval, Sample};
pub(crate) use step::{Step, StepPlot};
pub(crate) use table::Table;
pub(crate) use unit::Unit;
pub(crate) use usage::{Generator, Kernel, KernelMemory, Usage};

/// A send this much later than it was due is counted as late, in microseconds.
pub(crate) const LATE: u64 = 10_000;

/// The result of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The version of this program.
    pub version: String,
    /// The scenario's name, such as `fanout`.
    pub scenario: String,
    /// What was loaded, as its user calls it.
    pub target: Option<String>,
    /// Milliseconds from 1970 to the start of the load.
    pub started_ms: u64,
    /// Where this program ran.
    pub machine: Machine,
    /// What was asked for.
    pub load: Load,
    /// Whether everything arrived, once and in order, with its receipt, and all that the scenario
    /// promises held.
    pub ok: bool,
    /// What went wrong, each in a line; empty when `ok`.
    pub wrong: Vec<String>,
    /// What the reader has to know beside that, each in a line.
    pub notes: Vec<String>,
    /// Messages handed to sockets.
    pub sent: u64,
    /// Sent messages a second, from the first to the last.
    pub sent_per_second: f64,
    /// Deliveries, of all members together.
    pub delivered: u64,
    /// Deliveries a second, from the first send to the last delivery.
    pub delivered_per_second: f64,
    /// From when a message was due to its delivery.
    pub send_to_receive_us: Latency,
    /// From when a message was due to its receipt.
    pub send_to_receipt_us: Latency,
    /// From when a connection was due to its being subscribed.
    pub connect_us: Latency,
    /// What this program added and used.
    pub generator: Generator,
    /// What went wrong with messages.
    pub faults: Faults,
    /// Users who were cut off, by reason.
    pub cut_off: BTreeMap<String, u64>,
    /// What the history had, where it was compared.
    pub history: Option<History>,
    /// What processes used while the load ran.
    pub processes: Vec<Usage>,
    /// What the kernel kept for sockets, of all processes of the machine together.
    pub kernel: Option<KernelMemory>,
    /// How it went on, in the order of time.
    pub series: Vec<Interval>,
    /// The steps of a ramp, the cycles of a storm.
    pub steps: Vec<Step>,
    /// Which of their figures are plotted against each other.
    pub steps_plot: Option<StepPlot>,
}

/// What the history had.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct History {
    /// Rooms that were read to their end.
    pub rooms: usize,
    /// Messages in them.
    pub messages: u64,
    /// Rooms that could not be read, by reason.
    pub unread: BTreeMap<String, u64>,
}

impl Report {
    /// A run that starts now, on this machine, and that has measured nothing yet.
    pub(crate) fn new(scenario: &str, load: Load) -> Self {
        let since_1970 = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            scenario: scenario.to_owned(),
            target: None,
            started_ms: since_1970.as_millis() as u64,
            machine: Machine::here(),
            load,
            ok: true,
            wrong: Vec::new(),
            notes: Vec::new(),
            sent: 0,
            sent_per_second: 0.0,
            delivered: 0,
            delivered_per_second: 0.0,
            send_to_receive_us: Latency::default(),
            send_to_receipt_us: Latency::default(),
            connect_us: Latency::default(),
            generator: Generator::default(),
            faults: Faults::default(),
            cut_off: BTreeMap::new(),
            history: None,
            processes: Vec::new(),
            kernel: None,
            series: Vec::new(),
            steps: Vec::new(),
            steps_plot: None,
        }
    }

    /// Adds to `wrong` what the figures say, and sets `ok`. To be called once, when all are there; what
    /// the scenario itself found wrong may be in `wrong` already.
    pub(crate) fn judge(&mut self) {
        let wrong = &mut self.wrong;
        let faults = (!self.faults.is_clean()).then(|| serde_json::to_value(self.faults));
        let faults = faults.and_then(Result::ok).unwrap_or_default();
        for (name, count) in faults.as_object().into_iter().flatten() {
            if count.as_u64() != Some(0) {
                wrong.push(format!("{} {count}", name.replace('_', " ")));
            }
        }
        if self.sent < self.load.messages {
            wrong.push(format!("not sent {}", self.load.messages - self.sent));
        }
        for (reason, count) in &self.cut_off {
            wrong.push(format!("users cut off {count} ({reason})"));
        }
        for (reason, count) in self.history.iter().flat_map(|history| &history.unread) {
            wrong.push(format!("rooms without history {count} ({reason})"));
        }
        self.ok = wrong.is_empty();
    }

    /// Reads what [`Report::save`] has written.
    ///
    /// # Errors
    /// [`Failure::Config`] when there is no such file, or no report in it.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let wrong = |error: &dyn Display| Failure::Config(format!("{}: {error}", path.display()));
        let json = fs::read(path).map_err(|error| wrong(&error))?;
        serde_json::from_slice(&json)
            .map_err(|error| wrong(&format_args!("no report of loadtest: {error}")))
    }

    /// Writes it as JSON, and as a page, to the files that are asked for.
    ///
    /// # Errors
    /// [`Failure`] when a file cannot be written.
    pub(crate) fn save(&self, json: Option<&Path>, html: Option<&Path>) -> Result<(), Failure> {
        if let Some(path) = json {
            let text = serde_json::to_string_pretty(self);
            let text = text.expect("a report has no impossible keys");
            write("--json", path, text + "\n")?;
        }
        html.map_or(Ok(()), |path| write("--html", path, self.page()))
    }
}

/// Writes a file that a flag names.
///
/// # Errors
/// [`Failure`] when it cannot be written.
pub(crate) fn write(flag: &str, path: &Path, text: String) -> Result<(), Failure> {
    fs::write(path, text)
        .map_err(|error| Failure::Other(format!("{flag}: {}: {error}", path.display())))
}

#[cfg(test)]
mod tests;
