//! A report's figures as tables, for whatever shows them.

use std::time::{Duration, UNIX_EPOCH};

use super::table::Table;
use super::unit::{Unit, number};
use super::{KernelMemory, LATE, Latency, Load, Machine, Report, Usage};

/// What is shown for a figure that is not known.
pub(super) const UNKNOWN: &str = "-";

/// A latency of a report.
pub(super) struct Kind {
    /// Its name.
    pub name: &'static str,
    /// Where it is.
    pub of: fn(&Report) -> &Latency,
}

/// All latencies of a report.
pub(super) const KINDS: [Kind; 4] = [
    Kind {
        name: "send → receive",
        of: |report| &report.send_to_receive_us,
    },
    Kind {
        name: "send → receipt",
        of: |report| &report.send_to_receipt_us,
    },
    Kind {
        name: "connect",
        of: |report| &report.connect_us,
    },
    Kind {
        name: "generator's lag",
        of: |report| &report.generator.lag_us,
    },
];

/// A figure, or that it is not known.
pub(super) fn shown(unit: Unit, value: Option<f64>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), |value| unit.show(value))
}

/// Octets, or that they are not known.
pub(super) fn octets(value: Option<u64>) -> String {
    shown(Unit::Bytes, value.map(|octets| octets as f64))
}

impl Report {
    /// In a line: what was loaded, and with what.
    pub(super) fn summary(&self) -> String {
        let Load {
            users,
            rooms,
            gateways,
            body_bytes,
            ..
        } = &self.load;
        let count = |count: usize, one: &str| match count {
            1 => format!("1 {one}"),
            _ => format!("{} {one}s", Unit::Count.show(count as f64)),
        };
        let (users, gateways) = (count(*users, "user"), count(gateways.len(), "gateway"));
        let rooms = count(*rooms, "room");
        format!("{users} in {rooms} over {gateways}, {body_bytes}-octet bodies")
    }

    /// What is promised, and whether it held.
    pub(super) fn verdict(&self) -> String {
        match self.ok {
            true => "nothing lost, doubled, out of order or without receipt".to_owned(),
            false => format!("WRONG: {}", self.wrong.join("; ")),
        }
    }

    /// When the load began, in UTC.
    pub(super) fn started(&self) -> String {
        // What humantime cannot write is no time of a run.
        const LAST: u64 = 253_402_300_799_000;
        let at = UNIX_EPOCH + Duration::from_millis(self.started_ms.min(LAST));
        humantime::format_rfc3339_seconds(at).to_string()
    }

    /// Latencies that were measured, by name.
    pub(super) fn latencies(&self) -> Vec<(&'static str, &Latency)> {
        let all = KINDS.iter().map(|kind| (kind.name, (kind.of)(self)));
        all.filter(|(_, times)| times.count > 0).collect()
    }

    /// Messages and their rates.
    pub(super) fn throughput_table(&self) -> Table {
        let mut table = Table::bare(["messages", "count", "a second", "wanted a second"]);
        let rate = |rate: f64| number(rate, 1);
        let wanted = match self.load.rate {
            0.0 => UNKNOWN.to_owned(),
            wanted => rate(wanted),
        };
        let count = |count: u64| number(count as f64, 0);
        table.row([
            "sent".into(),
            count(self.sent),
            rate(self.sent_per_second),
            wanted,
        ]);
        table.row([
            "delivered".to_owned(),
            count(self.delivered),
            rate(self.delivered_per_second),
        ]);
        let late = format!("sent over {} ms late", LATE / 1000);
        table.row([late, count(self.generator.late_sends)]);
        if let Some(history) = &self.history {
            table.row([
                format!("history of {} rooms", history.rooms),
                count(history.messages),
            ]);
        }
        table
    }

    /// Percentiles of what was measured.
    pub(super) fn latency_table(&self) -> Table {
        let heads = ["latency", "measured", "p50", "p90", "p99", "p99.9", "max"];
        let mut table = Table::bare(heads);
        for (name, times) in self.latencies() {
            let Latency {
                count,
                p50,
                p90,
                p99,
                p999,
                max,
                ..
            } = *times;
            let times = [p50, p90, p99, p999, max];
            let times = times.map(|time| Unit::Microseconds.show(time as f64));
            let cells = [name.to_owned(), number(count as f64, 0)];
            table.row(cells.into_iter().chain(times));
        }
        table
    }

    /// What each process used, this program last.
    pub(super) fn usage_table(&self) -> Table {
        let mut table = Table::bare([
            "process",
            "CPU/delivery",
            "CPU",
            "cores",
            "RSS before",
            "peak",
            "after",
            "PSS after",
            "fds",
        ]);
        for usage in self.processes.iter().chain([&self.generator.usage]) {
            let Usage {
                name,
                cpu_seconds,
                cores,
                us_per_delivery,
                rss_before_bytes,
                rss_peak_bytes,
                rss_after_bytes,
                pss_after_bytes,
                descriptors,
                ..
            } = usage;
            table.row([
                name.clone(),
                shown(Unit::Microseconds, *us_per_delivery),
                shown(Unit::Seconds, *cpu_seconds),
                shown(Unit::Cores, *cores),
                octets(*rss_before_bytes),
                octets(*rss_peak_bytes),
                octets(*rss_after_bytes),
                octets(*pss_after_bytes),
                shown(Unit::Count, descriptors.map(|count| count as f64)),
            ]);
        }
        table
    }

    /// The steps, a column for each figure that any of them has.
    pub(super) fn step_table(&self) -> Table {
        let mut names = Vec::<&str>::new();
        for figure in self.steps.iter().flat_map(|step| &step.figures) {
            if !names.contains(&&figure.name[..]) {
                names.push(&figure.name);
            }
        }
        let heads = ["step"]
            .into_iter()
            .chain(names.iter().copied())
            .chain(["kept"]);
        let mut table = Table::bare(heads);
        for step in &self.steps {
            let figures = names.iter().map(|name| {
                let figure = step.figures.iter().find(|figure| figure.name == **name);
                figure.map_or_else(
                    || UNKNOWN.to_owned(),
                    |figure| figure.unit.show(figure.value),
                )
            });
            let kept = if step.ok { "yes" } else { "NO" };
            let cells = [step.label.clone()].into_iter().chain(figures);
            table.row(cells.chain([kept.to_owned()]));
        }
        table
    }

    /// What the kernel kept for sockets; nothing where it is not known.
    pub(super) fn kernel_table(&self) -> Option<Table> {
        let KernelMemory {
            before,
            peak,
            after,
        } = self.kernel?;
        let mut table = Table::bare(["kernel, whole machine", "before", "peak", "after"]);
        let all = [before, peak, after];
        let mut row = |name: &str, cells: [String; 3]| {
            table.row([name.to_owned()].into_iter().chain(cells));
        };
        row(
            "TCP sockets",
            all.map(|at| number(at.tcp_sockets as f64, 0)),
        );
        row(
            "TCP buffers",
            all.map(|at| octets(Some(at.tcp_buffers_bytes))),
        );
        row("slab", all.map(|at| octets(Some(at.slab_bytes))));
        let kept = all.map(|at| octets(Some(at.slab_unreclaimable_bytes)));
        row("slab, unreclaimable", kept);
        Some(table)
    }

    /// What was asked for, by name. What a scenario has not is left out.
    pub(super) fn load_rows(&self) -> Vec<(String, String)> {
        let Load {
            gateways,
            sources,
            users,
            rooms,
            rate,
            messages,
            duration_seconds,
            body_bytes,
            receipt_after,
            seed,
            prefix,
            settings,
        } = &self.load;
        let count = |count: usize| (count > 0).then(|| number(count as f64, 0));
        let measure = |unit: Unit, value: f64| (value > 0.0).then(|| unit.show(value));
        let rows = [
            ("gateways", Some(gateways.join(", "))),
            ("source addresses", count(*sources)),
            ("users", count(*users)),
            ("rooms", count(*rooms)),
            ("rate", measure(Unit::PerSecond, *rate)),
            ("messages", count(*messages as usize)),
            ("sending", measure(Unit::Seconds, *duration_seconds)),
            ("body", measure(Unit::Bytes, f64::from(*body_bytes))),
            ("receipts after", receipt_after.clone()),
            ("seed", Some(seed.to_string())),
            ("names begin with", Some(prefix.clone())),
        ];
        let rows = rows
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        let rows = rows.filter_map(|(name, value)| Some((name, value?)));
        let settings = settings
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()));
        rows.chain(settings)
            .filter(|(_, value)| !value.is_empty())
            .collect()
    }
}

impl Machine {
    /// In two lines: the hardware, and what runs on it.
    pub(super) fn lines(&self) -> [String; 2] {
        let is_hard = |name: &str| matches!(name, "processor" | "cores" | "memory");
        [true, false].map(|hard| {
            let rows = self
                .rows()
                .into_iter()
                .filter(|(name, _)| is_hard(name) == hard);
            rows.map(|(_, value)| value).collect::<Vec<_>>().join(", ")
        })
    }

    /// What is known of it, by name.
    pub(super) fn rows(&self) -> Vec<(String, String)> {
        let Self {
            cpu,
            cores,
            memory_bytes,
            system,
            kernel,
            hypervisor,
        } = self;
        let rows = [
            ("processor", cpu.clone()),
            (
                "cores",
                match cores {
                    0 => String::new(),
                    1 => "1 core".to_owned(),
                    cores => format!("{cores} cores"),
                },
            ),
            (
                "memory",
                match memory_bytes {
                    0 => String::new(),
                    octets => Unit::Bytes.show(*octets as f64),
                },
            ),
            ("system", system.clone()),
            (
                "kernel",
                match &kernel[..] {
                    "" => String::new(),
                    version => format!("Linux {version}"),
                },
            ),
            (
                "virtual",
                match hypervisor {
                    Some(name) => format!("virtual machine ({name})"),
                    None => "no virtual machine".to_owned(),
                },
            ),
        ];
        let rows = rows
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        rows.filter(|(_, value)| !value.is_empty()).collect()
    }
}
