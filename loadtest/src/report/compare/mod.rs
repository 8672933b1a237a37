//! Runs beside each other.

use std::path::Path;

use shared::exit::Failure;

use super::chart::{Axis, Chart};
use super::page::plots::{distributions, runs_over_time};
use super::page::{grid, page, section};
use super::series::{Interval, Sample};
use super::table::Table;
use super::tables::{KINDS, Kind};
use super::{Growth, Report, Unit, write};
use crate::chaos::table::print;
use crate::config::CompareArgs;

mod figures;
mod grown;

/// Runs, each with the name that columns and legends have for it.
struct Compared {
    runs: Vec<(String, Report)>,
    growths: Vec<Growth>,
}

/// Prints the comparison, and writes the files that are asked for.
///
/// # Errors
/// [`Failure::Config`] when a report cannot be read, [`Failure::Other`] when a file cannot be written.
pub(crate) fn compare(args: &CompareArgs) -> Result<(), Failure> {
    let reports = args.reports.iter().map(|path| Report::open(path));
    let reports = reports.collect::<Result<Vec<_>, _>>()?;
    if let [report] = &reports[..] {
        report.save(None, args.html.as_deref())?;
        if let Some(path) = &args.markdown {
            write("--markdown", path, report.markdown())?;
        }
        return print(&format!("{report}\n"));
    }
    let names = args.reports.iter().enumerate();
    let names = names.map(|(at, path)| letter(at) + " " + &stem(path));
    let growths = grown::growths(&reports, args.over);
    if args.over.is_some() && growths.is_empty() {
        return Err(Failure::Config(
            "--over: it is the same in all runs, or they have no cost".into(),
        ));
    }
    let compared = Compared {
        runs: names.zip(reports).collect(),
        growths,
    };
    if let Some(path) = &args.html {
        write("--html", path, compared.page())?;
    }
    if let Some(path) = &args.markdown {
        let tables = compared.tables();
        let tables = tables
            .iter()
            .map(|(title, table)| format!("## {title}\n\n{}", table.markdown()));
        let notes = compared.notes().into_iter().map(|note| note + "\n");
        let parts = tables.chain(notes).collect::<Vec<_>>();
        write("--markdown", path, parts.join("\n"))?;
    }
    let tables = compared.tables().into_iter().map(|(_, table)| table.text());
    let notes = compared.notes().into_iter().map(|note| note + "\n");
    print(&tables.chain(notes).collect::<Vec<_>>().join("\n"))
}

impl Compared {
    /// All that is written, with titles.
    fn tables(&self) -> Vec<(&'static str, Table)> {
        let differences = figures::differences(&self.runs);
        let mut tables = vec![
            ("Runs", self.run_table()),
            ("Figures", figures::side_by_side(&self.runs)),
        ];
        if !differences.rows.is_empty() {
            tables.push(("Loads and machines that differ", differences));
        }
        if !self.growths.is_empty() {
            tables.push(("Growth", grown::table(&self.growths)));
        }
        tables
    }

    fn run_table(&self) -> Table {
        let mut table = Table::bare(["run", "scenario", "users", "rooms", "rate", "at", "verdict"]);
        for (name, report) in &self.runs {
            let verdict = match (report.ok, &report.generator.bottleneck) {
                (true, None) => "ok",
                (true, Some(_)) => "generator's bottleneck",
                (false, _) => "WRONG",
            };
            let load = &report.load;
            table.row([
                name.clone(),
                report.title(),
                Unit::Count.show(load.users as f64),
                Unit::Count.show(load.rooms as f64),
                Unit::PerSecond.show(load.rate),
                report.started(),
                verdict.to_owned(),
            ]);
        }
        table
    }

    /// What the reader must not overlook.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for (name, report) in &self.runs {
            if !report.ok {
                notes.push(format!("{name}: {}", report.verdict()));
            }
            let why = report.generator.bottleneck.iter();
            notes.extend(why.map(|why| format!("{name}: the generator was the bottleneck: {why}")));
        }
        let mut machines = self.runs.iter().map(|(_, report)| &report.machine);
        let first = machines.next();
        if machines.any(|machine| Some(machine) != first) {
            notes.push("The runs were made on machines that are not alike.".to_owned());
        }
        notes
    }

    fn page(&self) -> String {
        let title = format!("Comparison of {} runs", self.runs.len());
        let mut body = format!("<header>\n<h1>{title}</h1>\n</header>\n");
        for (title, table) in self.tables() {
            let id = title.to_lowercase().replace(' ', "-");
            let mut html = table.html();
            match title {
                "Runs" => html += &notes(&self.notes()),
                "Growth" => html += &grid(&grown::charts(&self.growths)),
                _ => {}
            }
            body += &section(&id, title, &html);
        }
        body += &section("latency", "Latency", &grid(&self.latencies()));
        body += &section("time", "Over time", &grid(&self.over_time()));
        page(&title, &body)
    }

    /// The runs' distributions, each kind that any of them has.
    fn latencies(&self) -> Vec<Chart> {
        let charts = KINDS.into_iter().filter_map(|Kind { name, of }| {
            let times = self.runs.iter().map(|(name, report)| (name, of(report)));
            let is_measured = times.clone().any(|(_, times)| times.count > 0);
            is_measured.then(|| distributions(name, times))
        });
        charts.collect()
    }

    fn over_time(&self) -> Vec<Chart> {
        let runs = self
            .runs
            .iter()
            .map(|(name, report)| (name.clone(), report));
        let runs = runs.collect::<Vec<_>>();
        let rates = Axis::linear("a second", Unit::PerSecond);
        let times = Axis::log("latency", Unit::Microseconds);
        let cores = Axis::linear("cores busy", Unit::Cores);
        let memory = Axis::linear("resident memory", Unit::Bytes);
        vec![
            runs_over_time("Deliveries", rates, &runs, &|at| {
                Some(at.delivered as f64 / at.seconds)
            }),
            runs_over_time("Send → receive, p99", times, &runs, &|at| {
                at.receive_p99_us.map(|time| time as f64)
            }),
            runs_over_time("CPU of all servers", cores, &runs, &|at| {
                servers(at, |sample| sample.cores)
            }),
            runs_over_time("Memory of all servers", memory, &runs, &|at| {
                servers(at, |sample| sample.rss_bytes.map(|octets| octets as f64))
            }),
        ]
    }
}

/// The sum over all processes but the generator, the last; `None` where nothing is known of one.
fn servers(interval: &Interval, of: fn(&Sample) -> Option<f64>) -> Option<f64> {
    let (_, servers) = interval.processes.split_last()?;
    let all = servers.iter().map(of).collect::<Option<Vec<_>>>()?;
    all.into_iter().reduce(|sum, one| sum + one)
}

fn notes(notes: &[String]) -> String {
    let notes = notes.iter().map(|note| {
        format!(
            "<p class=\"verdict doubtful\">⚠ {}</p>\n",
            super::escape::escape(note)
        )
    });
    notes.collect()
}

/// What a run is called in columns.
fn letter(at: usize) -> String {
    match u8::try_from(at) {
        Ok(at @ 0..26) => char::from(b'A' + at).to_string(),
        _ => format!("R{}", at + 1),
    }
}

/// A file's name without what stands behind its last dot.
fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or(path.as_os_str());
    stem.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
