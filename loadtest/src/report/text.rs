//! A report for a terminal.

use std::fmt;

use super::Report;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.scenario)?;
        if let Some(target) = &self.target {
            write!(f, " on {target}")?;
        }
        writeln!(f, ": {}", self.summary())?;
        writeln!(f, "{}\n", self.machine.summary())?;
        writeln!(f, "{}", self.throughput_table().text())?;
        writeln!(f, "{}", self.latency_table().text())?;
        writeln!(f, "{}", self.usage_table().text())?;
        if let Some(kernel) = self.kernel_table() {
            writeln!(f, "{}", kernel.text())?;
        }
        if !self.steps.is_empty() {
            writeln!(f, "{}", self.step_table().text())?;
        }
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        if let Some(why) = &self.generator.bottleneck {
            writeln!(f, "the generator was the bottleneck: {why}")?;
        }
        write!(f, "{}", self.verdict())
    }
}
