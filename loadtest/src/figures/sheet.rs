//! What a set of figures has shown: tables, targets and plots, as data and as Markdown.

use std::fmt;

use serde::Serialize;

pub(crate) use crate::report::Table;
use crate::report::{Axis, Chart, Growth, Line, Report, Unit};

/// The result of a set.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Sheet {
    /// The set's name.
    pub name: String,
    /// What it shows.
    pub about: String,
    /// Its tables.
    pub tables: Vec<Table<Cell>>,
    /// What it was to show.
    pub targets: Vec<Target>,
    /// Its plots.
    pub plots: Vec<Plot>,
    /// What the reader has to know beside that, and what went wrong, each in a line.
    pub notes: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

/// A cell of a table.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Cell {
    /// A name.
    Text(String),
    /// A figure.
    Figure(Spread),
    /// Nothing that could be measured.
    Nothing(()),
}

/// What was measured several times.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// Half of them are at most this.
    pub median: f64,
    /// All, in the order in which they were measured.
    pub all: Vec<f64>,
}

/// What a figure was to be.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Target {
    /// Which figure, with its unit.
    pub what: String,
    /// What it has to be: at most this, or at least.
    pub bound: Bound,
    /// What it is; `None` where it could not be measured.
    pub found: Option<f64>,
    /// Whether the loads that it was found in went as they should have.
    pub clean: bool,
    /// Whether it is as it has to be, in such loads.
    pub met: bool,
}

/// A limit for a figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
    /// Less than this.
    Below(f64),
}

/// A plot.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Plot {
    /// What it shows.
    pub title: String,
    /// What goes to the right.
    pub x: (String, Unit),
    /// What goes up.
    pub y: (String, Unit),
    /// Whether both axes are logarithmic, as for growth: with exponents, and what is linear.
    pub logarithmic: bool,
    /// The lines: a name and points.
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
}

impl Sheet {
    /// Adds a target and whether it is met. What could not be measured is not.
    pub(crate) fn target(&mut self, what: impl Into<String>, bound: Bound, found: Option<f64>) {
        self.target_of(what, bound, found, true);
    }

    /// The same of loads that may not be `clean`: what such a one has shown meets no target.
    pub(crate) fn target_of(
        &mut self,
        what: impl Into<String>,
        bound: Bound,
        found: Option<f64>,
        clean: bool,
    ) {
        let found = found.filter(|found| found.is_finite());
        self.targets.push(Target {
            what: what.into(),
            bound,
            found,
            clean,
            met: clean && found.is_some_and(|found| bound.holds(found)),
        });
    }

    /// Says so where a load did not go as it should have.
    pub(crate) fn wrong(&mut self, system: &str, load: &str, report: &Report) {
        if !report.ok {
            self.note(format!("{load}, {system}: {}", report.wrong.join("; ")));
        }
        if let Some(reason) = &report.generator.bottleneck {
            self.note(format!("{load}, {system}: the generator decided: {reason}"));
        }
    }

    /// Its tables, that of the targets last.
    pub(crate) fn all_tables(&self) -> Vec<Table<Cell>> {
        let mut tables = self.tables.clone();
        if !self.targets.is_empty() {
            let mut table = Table::new("Targets:", &["figure", "wanted", "found", "target"]);
            for target in &self.targets {
                let found = target.found.map_or("nothing".to_owned(), plain);
                let met = match target {
                    Target { met: true, .. } => "met",
                    Target { clean: false, .. } => "not met, a load went wrong",
                    _ => "not met",
                };
                table.row([
                    Cell::from(&target.what[..]),
                    target.bound.to_string().into(),
                    found.into(),
                    met.into(),
                ]);
            }
            tables.push(table);
        }
        tables
    }

    /// Adds a line for the reader.
    pub(crate) fn note(&mut self, line: impl Into<String>) {
        self.notes.push(line.into());
    }
}

impl Spread {
    /// Of these; `None` of none.
    pub(crate) fn of(all: impl IntoIterator<Item = f64>) -> Option<Self> {
        let all = all.into_iter().collect::<Vec<_>>();
        let mut sorted = all.clone();
        sorted.sort_by(f64::total_cmp);
        let median = match sorted.len() {
            0 => return None,
            count if count % 2 == 1 => sorted[count / 2],
            count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
        };
        Some(Self { median, all })
    }

    /// Each of these divided by that of the same repeat.
    pub(crate) fn ratio(&self, other: &Self) -> Option<Self> {
        let pairs = self.all.iter().zip(&other.all);
        Self::of(
            pairs
                .filter(|(_, other)| **other > 0.0)
                .map(|(own, other)| own / other),
        )
    }
}

impl Plot {
    /// As it is drawn.
    pub(crate) fn chart(&self) -> Chart {
        let (x, y) = (&self.x, &self.y);
        if self.logarithmic {
            let fit =
                |(name, points): &(String, Vec<_>)| Growth::fit(name, &x.0, y.1, points.clone());
            let growths = self.lines.iter().map(fit).collect::<Vec<_>>();
            let mut chart = Growth::chart(&self.title, &growths);
            chart.y.label.clone_from(&y.0);
            return chart;
        }
        let (x, y) = (Axis::linear(&x.0, x.1), Axis::linear(&y.0, y.1));
        let mut chart = Chart::new(&self.title[..], x, y);
        for (name, points) in &self.lines {
            chart = chart.with(Line::new(&name[..], points.clone()));
        }
        chart
    }
}

impl Bound {
    fn holds(self, found: f64) -> bool {
        match self {
            Self::AtMost(most) => found <= most,
            Self::AtLeast(least) => found >= least,
            Self::Below(limit) => found < limit,
        }
    }
}

impl Default for Cell {
    fn default() -> Self {
        Self::Nothing(())
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Option<Spread>> for Cell {
    fn from(spread: Option<Spread>) -> Self {
        spread.map_or(Self::Nothing(()), Self::Figure)
    }
}

impl From<f64> for Cell {
    fn from(value: f64) -> Self {
        Spread::of([value]).into()
    }
}

impl fmt::Display for Sheet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### {}\n\n{}\n", self.name, self.about)?;
        for table in self.all_tables() {
            writeln!(f, "{}\n\n{}", table.caption, table.markdown())?;
        }
        for note in &self.notes {
            writeln!(f, "- {note}")?;
        }
        match self.notes.is_empty() {
            true => Ok(()),
            false => writeln!(f),
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Figure(spread) => spread.fmt(f),
            Self::Nothing(()) => f.write_str("–"),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&plain(self.median))?;
        let least = self.all.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        match self.all.len() > 1 && plain(least) != plain(most) {
            true if least < 0.0 => write!(f, " ({} to {})", plain(least), plain(most)),
            true => write!(f, " ({}–{})", plain(least), plain(most)),
            false => Ok(()),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "≤ {}", plain(*most)),
            Self::AtLeast(least) => write!(f, "≥ {}", plain(*least)),
            Self::Below(limit) => write!(f, "< {}", plain(*limit)),
        }
    }
}

/// A number with three digits that count, and commas between thousands.
pub(crate) fn plain(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 => 0,
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    // What is rounded to nothing has no sign.
    let text = match text.strip_prefix('-') {
        Some(rest) if !rest.contains(|c: char| c.is_ascii_digit() && c != '0') => rest.to_owned(),
        _ => text,
    };
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, format!(".{fraction}")),
        None => (&text[..], String::new()),
    };
    let (sign, digits) = match whole.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", whole),
    };
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_of_figures_of_the_same_repeat() {
        let own = Spread::of([4.0, 6.0, 20.0]).unwrap();
        let floor = Spread::of([2.0, 2.0, 10.0]).unwrap();
        let ratio = own.ratio(&floor).unwrap();
        assert_eq!((ratio.median, &ratio.all[..]), (2.0, &[2.0, 3.0, 2.0][..]));
        assert_eq!(Spread::of([1.0, 4.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of([]), None);
        let shown = [-0.001, -1234.0, 0.0, 1.234, 12.34].map(plain);
        assert_eq!(shown, ["0.00", "-1,234", "0", "1.23", "12.3"]);
    }

    #[test]
    fn a_sheet_is_markdown_that_says_which_targets_are_met() {
        let mut sheet = Sheet {
            name: "speed".into(),
            about: "How fast.".into(),
            ..Sheet::default()
        };
        let mut table = Table::new("Rooms of 10:", &["system", "µs", "p99"]);
        table.row([
            Cell::from("floor"),
            Spread::of([1234.0, 1234.4, 999.0]).into(),
        ]);
        sheet.tables.push(table);
        sheet.target("ratio", Bound::AtMost(1.5), Some(1.6));
        sheet.target("ratio", Bound::AtLeast(1.5), Some(1.5));
        sheet.target_of("ratio", Bound::AtMost(1.5), Some(1.0), false);
        sheet.target("missing", Bound::Below(1.0), None);
        let text = sheet.to_string();
        for line in [
            "| system | µs | p99 |\n| --- | ---: | ---: |\n| floor | 1,234 (999–1,234) | – |\n",
            "| ratio | ≤ 1.50 | 1.60 | not met |\n",
            "| ratio | ≥ 1.50 | 1.50 | met |\n",
            "| ratio | ≤ 1.50 | 1.00 | not met, a load went wrong |\n",
            "| missing | < 1.00 | nothing | not met |\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
