//! A report for a terminal, and for Markdown.

use std::fmt;

use super::Report;
use super::table::Table;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.scenario)?;
        if let Some(target) = &self.target {
            write!(f, " on {target}")?;
        }
        writeln!(f, ": {}", self.summary())?;
        for line in self.machine.lines() {
            writeln!(f, "{line}")?;
        }
        writeln!(f)?;
        for table in self.tables() {
            writeln!(f, "{}", table.text())?;
        }
        for note in self.remarks() {
            writeln!(f, "{note}")?;
        }
        write!(f, "{}", self.verdict())
    }
}

impl Report {
    /// For Markdown: the same.
    pub(super) fn markdown(&self) -> String {
        let heads = [
            self.title(),
            self.summary(),
            self.machine.lines().join("\n"),
        ];
        let tables = self.tables().into_iter().map(|table| table.markdown());
        let remarks = self.remarks().into_iter().chain([self.verdict()]);
        let parts = heads.into_iter().chain(tables).chain(remarks);
        let parts = parts.map(|part| part.trim_end().to_owned());
        parts.collect::<Vec<_>>().join("\n\n") + "\n"
    }

    /// All that it has, in the order in which it is read.
    fn tables(&self) -> Vec<Table> {
        let mut tables = vec![self.throughput_table(), self.latency_table()];
        tables.push(self.usage_table());
        tables.extend(self.kernel_table());
        tables.extend(Some(self.step_table()).filter(|table| !table.rows.is_empty()));
        tables
    }

    fn remarks(&self) -> Vec<String> {
        let why = self.generator.bottleneck.iter();
        let why = why.map(|why| format!("the generator was the bottleneck: {why}"));
        self.notes.iter().cloned().chain(why).collect()
    }
}
