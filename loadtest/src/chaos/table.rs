//! What scenarios have shown, as a table of text, of Markdown, and as JSON.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use shared::exit::Failure;

use super::debts::{Debts, Outcome};
use super::load::{Longest, Recovery};

/// A fault's name that is longer has a line of its own, so that the table fits 120 columns.
const NAME_WIDTH: usize = 26;

/// What one scenario has shown.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Row {
    /// Its name.
    pub scenario: String,
    /// Whether it is a control: run with a protection switched off, so that debts are what it must
    /// show.
    pub control: bool,
    /// How often the fault was inflicted.
    pub rounds: usize,
    /// Messages with a receipt.
    pub receipted: u64,
    /// What was not paid.
    pub debts: Debts,
    /// How often a member was told that not everything that it missed can be had.
    pub told: u64,
    /// The longest interruption of deliveries to any member, over the rounds.
    pub interruption: Spread,
    /// The longest wait of any sender for any receipt, from when its message was due, over the rounds.
    pub receipt_wait: Spread,
    /// From when the fault began to end until deliveries reached every member, over the rounds.
    pub deliveries: Spread,
    /// From then until every sender had a receipt, over the rounds.
    pub receipts: Spread,
    /// From then until every room had a receipt from the store, over the rounds.
    pub stores: Spread,
    /// Why it could not be finished, where it could not.
    pub broken: Option<String>,
    /// The first debts in words.
    pub notes: Vec<String>,
}

/// The middle and the longest of some times, in seconds; nothing where none was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// Half of them are at most this.
    pub median: Option<f64>,
    /// All of them are.
    pub max: Option<f64>,
}

impl Spread {
    /// Of these times.
    pub(crate) fn of(times: impl IntoIterator<Item = Duration>) -> Self {
        let mut times = times.into_iter().collect::<Vec<_>>();
        times.sort_unstable();
        let seconds = |time: &Duration| time.as_secs_f64();
        Self {
            median: times.get(times.len().saturating_sub(1) / 2).map(seconds),
            max: times.last().map(seconds),
        }
    }
}

impl Row {
    /// A scenario that came to its end, with the longest waits and the recovery of each round.
    pub(crate) fn finished(
        scenario: &str,
        control: bool,
        longest: &[Longest],
        recoveries: &[Recovery],
        outcome: Outcome,
    ) -> Self {
        let of = |part: fn(&Recovery) -> Duration| Spread::of(recoveries.iter().map(part));
        Self {
            scenario: scenario.to_owned(),
            control,
            rounds: longest.len(),
            receipted: outcome.receipted,
            debts: outcome.debts,
            told: outcome.told,
            interruption: Spread::of(longest.iter().map(|longest| longest.interruption)),
            receipt_wait: Spread::of(longest.iter().map(|longest| longest.receipt)),
            deliveries: of(|recovery| recovery.deliveries),
            receipts: of(|recovery| recovery.receipts),
            stores: of(|recovery| recovery.stores),
            broken: None,
            notes: outcome.notes,
        }
    }

    /// A scenario that could not be finished.
    pub(crate) fn broken(scenario: &str, control: bool, rounds: usize, why: String) -> Self {
        Self {
            scenario: scenario.to_owned(),
            control,
            rounds,
            broken: Some(why),
            ..Self::default()
        }
    }

    /// Whether it is as it should be: finished, and without a debt; a control with one.
    pub(crate) fn is_good(&self) -> bool {
        // That a history could not be read shows nothing of what a protection is worth.
        let shown = Debts {
            unread: 0,
            ..self.debts
        };
        self.broken.is_none()
            && match self.control {
                true => !shown.is_clean(),
                false => self.debts.is_clean(),
            }
    }

    /// What is wrong, in a line; `None` where nothing is.
    pub(crate) fn wrong(&self) -> Option<String> {
        let name = self.name();
        match &self.broken {
            Some(why) => Some(format!("{name}: not finished: {why}")),
            None if self.is_good() => None,
            None if self.control => Some(format!("{name}: shows no debt")),
            None => Some(format!("{name}: {}", self.debts)),
        }
    }

    fn name(&self) -> String {
        match self.control {
            true => format!("{} (control)", self.scenario),
            false => self.scenario.clone(),
        }
    }

    /// The cells behind the name.
    fn cells(&self) -> [String; 11] {
        [
            self.rounds.to_string(),
            self.receipted.to_string(),
            self.debts.lost.to_string(),
            self.debts.doubled.to_string(),
            self.debts.out_of_order.to_string(),
            self.debts.others().to_string(),
            self.told.to_string(),
            self.interruption.to_string(),
            self.receipt_wait.to_string(),
            self.deliveries.to_string(),
            self.stores.to_string(),
        ]
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let short = |seconds: f64| match seconds {
            ..9.95 => format!("{seconds:.2}"),
            ..99.5 => format!("{seconds:.1}"),
            _ => format!("{seconds:.0}"),
        };
        match (self.median, self.max) {
            (Some(median), Some(max)) => f.pad(&format!("{}/{}", short(median), short(max))),
            _ => f.pad("-"),
        }
    }
}

/// What the columns say, below the table.
const LEGEND: &str = "\
Times are in seconds: the median of the rounds / the longest of all.
told: times that a user who came back was told that not all it had missed can be had (recovered:false).
gap: the longest that any user got nothing while something was due to it.
wait: the longest that any user waited for a RECEIPT, from when the message was due.
until delivered, until stored: from when the fault began to end (a process is started again or woken, the network
  mended, a replica has taken over) until every user got something that was due after that, and something of every
  room was stored. 0.00: nobody had to wait any more by then; gap and wait say how long it was before.
";

const HEADS: [[&str; 2]; 12] = [
    ["", "fault"],
    ["", "rounds"],
    ["", "receipted"],
    ["", "lost"],
    ["", "doubled"],
    ["out of", "order"],
    ["other", "debts"],
    ["", "told"],
    ["longest", "gap"],
    ["longest", "wait"],
    ["until", "delivered"],
    ["until", "stored"],
];

/// Whether the files can be written: hours later would be too late. What they have stays until then.
///
/// # Errors
/// [`Failure::Config`] with the flag and the file.
pub(crate) fn check(json: Option<&Path>, markdown: Option<&Path>) -> Result<(), Failure> {
    for (flag, path) in [("--json", json), ("--markdown", markdown)] {
        if let Some(path) = path {
            check_as(flag, path)?;
        }
    }
    Ok(())
}

/// Whether the file of this flag can be written.
///
/// # Errors
/// [`Failure::Config`] where it cannot.
pub(crate) fn check_as(flag: &str, path: &Path) -> Result<(), Failure> {
    let opened = fs::OpenOptions::new().create(true).append(true).open(path);
    opened
        .map(drop)
        .map_err(|error| Failure::Config(format!("{flag}: {}: {error}", path.display())))
}

/// Prints the table, and writes the files that are asked for.
///
/// # Errors
/// [`Failure::Other`] where a row is not as it should be, or a file cannot be written.
pub(crate) fn publish(
    rows: &[Row],
    json: Option<&Path>,
    in_markdown: Option<&Path>,
) -> Result<(), Failure> {
    let write = |flag: &str, path: &Path, text: String| {
        fs::write(path, text)
            .map_err(|error| Failure::Other(format!("{flag}: {}: {error}", path.display())))
    };
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(rows).expect("a row has no impossible keys");
        write("--json", path, text + "\n")?;
    }
    if let Some(path) = in_markdown {
        write("--markdown", path, markdown(rows))?;
    }
    // Last, since it may go nowhere.
    print(&text(rows))?;
    let wrong = rows.iter().filter_map(Row::wrong).collect::<Vec<_>>();
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Failure::Other(wrong.join("; "))),
    }
}

/// Prints, also where nobody reads on: `| head` is no error.
///
/// # Errors
/// [`Failure::Other`] where the output cannot be written for another reason.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    let printed = output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush());
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Other(format!(
            "the table cannot be printed: {error}"
        ))),
        _ => Ok(()),
    }
}

/// For a terminal: at most 120 columns wide, then what is wrong and the first debts in words.
pub(crate) fn text(rows: &[Row]) -> String {
    let cells = rows.iter().map(Row::cells).collect::<Vec<_>>();
    let width = |column: usize| {
        let head = HEADS[column + 1].iter().map(|head| head.len());
        let below = cells.iter().map(|row| row[column].len());
        head.chain(below).max().unwrap_or(0)
    };
    let widths = (0..11).map(width).collect::<Vec<_>>();
    let names = rows.iter().map(|row| row.name().len());
    let name_width = names.max().unwrap_or(0).clamp(5, NAME_WIDTH);
    let mut text = String::new();
    let mut line = |name: &str, cells: &[&str]| {
        if name.len() > name_width {
            text.push_str(name);
            text.push('\n');
        }
        let name = if name.len() > name_width { "" } else { name };
        text.push_str(&format!("{name:<name_width$}"));
        for (cell, width) in cells.iter().zip(&widths) {
            text.push_str(&format!(" {cell:>width$}"));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    };
    for at in 0..2 {
        let heads = HEADS.map(|head| head[at]);
        line(heads[0], &heads[1..]);
    }
    for (row, cells) in rows.iter().zip(&cells) {
        line(&row.name(), &cells.each_ref().map(|cell| &cell[..]));
    }
    text.push_str(LEGEND);
    for row in rows {
        match row.wrong() {
            Some(wrong) => text.push_str(&format!("WRONG: {wrong}\n")),
            None if row.notes.is_empty() => continue,
            None => text.push_str(&format!("{}:\n", row.name())),
        }
        // Of what a control has to show, an example is enough.
        let shown = if row.is_good() { 2 } else { row.notes.len() };
        for note in row.notes.iter().take(shown) {
            text.push_str(&format!("  {note}\n"));
        }
    }
    text
}

/// For a page: the same table, and what is wrong below it.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "| fault | rounds | receipted | lost | doubled | out of order | other debts | told | longest \
         gap | longest wait | until delivered | until stored |\n\
         | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |\n",
    );
    for row in rows {
        let cells = row.cells().join(" | ");
        let _ = writeln!(text, "| {} | {cells} |", row.name());
    }
    text.push('\n');
    for line in LEGEND.lines() {
        let line = match line.split_once(": ") {
            Some((word, meaning)) if !line.starts_with([' ', 'T']) => {
                format!("- **{word}**: {meaning}")
            }
            _ => line.to_owned(),
        };
        text.push_str(&line);
        text.push('\n');
    }
    for wrong in rows.iter().filter_map(Row::wrong) {
        let _ = writeln!(text, "\n**Wrong:** {wrong}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(scenario: &str) -> Row {
        let seconds = |all: &[f64]| all.iter().map(|s| Duration::from_secs_f64(*s)).collect();
        let interruptions: Vec<_> = seconds(&[0.5, 123.4, 2.25]);
        let recovery = |deliveries| Recovery {
            deliveries,
            ..Recovery::default()
        };
        let longest: Vec<_> = interruptions
            .iter()
            .map(|interruption| Longest {
                interruption: *interruption,
                receipt: *interruption,
            })
            .collect();
        let recoveries = interruptions.iter().copied().map(recovery);
        let outcome = Outcome {
            receipted: 123_456_789,
            ..Outcome::default()
        };
        let recoveries = recoveries.collect::<Vec<_>>();
        Row::finished(scenario, false, &longest, &recoveries, outcome)
    }

    #[test]
    fn the_text_fits_120_columns_whatever_a_fault_is_called() {
        let mut rows = ["short", "a-master-of-the-cluster-is-frozen-for-long"].map(row);
        rows[1].debts.lost = 1_000_000;
        rows[1].stores = rows[1].interruption;
        rows[1].receipts = rows[1].interruption;
        let text = text(&rows);
        assert!(text.contains("2.25/123"), "{text}");
        for line in text.lines() {
            assert!(line.chars().count() <= 120, "{line}");
        }
        for row in &rows {
            assert!(text.contains(&row.scenario), "{text}");
        }
    }

    #[test]
    fn every_row_of_the_markdown_has_every_column() {
        let text = markdown(&[row("short"), Row::broken("other", true, 3, "why".into())]);
        let rows = text.lines().filter(|line| line.starts_with('|'));
        let columns = rows.map(|row| row.matches('|').count()).collect::<Vec<_>>();
        assert_eq!(columns, [13, 13, 13, 13], "{text}");
        assert!(
            text.contains("other (control): not finished: why"),
            "{text}"
        );
    }

    #[test]
    fn a_debt_is_wrong_and_its_absence_is_where_a_control_is_run() {
        let mut row = row("redis-killed");
        assert_eq!(row.wrong(), None);
        row.debts.doubled = 2;
        assert_eq!(row.wrong().unwrap(), "redis-killed: doubled 2");
        row.control = true;
        assert!(row.is_good());
        row.debts = Debts::default();
        assert!(row.wrong().unwrap().ends_with("shows no debt"));
        row.debts.unread = 1;
        assert!(row.wrong().unwrap().ends_with("shows no debt"));
        row.control = false;
        assert_eq!(row.wrong().unwrap(), "redis-killed: rooms unread 1");
    }
}
