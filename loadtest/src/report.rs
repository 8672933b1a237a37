//! What a run has shown, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use shared::exit::Failure;

use crate::ledger::Faults;

/// A send this much later than it was due is counted as late, in microseconds.
pub(crate) const LATE: u64 = 10_000;

/// The result of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// What was asked for.
    pub load: Load,
    /// Whether everything arrived, once and in order, with its receipt.
    pub ok: bool,
    /// Messages handed to sockets.
    pub sent: u64,
    /// Sent messages a second, from the first to the last.
    pub sent_per_second: f64,
    /// Deliveries, of all members together.
    pub delivered: u64,
    /// Deliveries a second, from the first send to the last delivery.
    pub delivered_per_second: f64,
    /// From when a message was due to its delivery, in microseconds.
    pub send_to_receive_us: Percentiles,
    /// From when a message was due to its receipt, in microseconds.
    pub send_to_receipt_us: Percentiles,
    /// From when a message was due to its being sent, in microseconds: what this program adds.
    pub generator_lag_us: Percentiles,
    /// Sends more than 10 ms late.
    pub late_sends: u64,
    /// What went wrong with messages.
    pub faults: Faults,
    /// Users who were cut off, by reason.
    pub cut_off: BTreeMap<String, u64>,
    /// What the history had, where it was compared.
    pub history: Option<History>,
    /// CPU time of processes while the load ran, this program's last.
    pub cpu: Vec<Cpu>,
}

/// What was asked for.
#[derive(Debug, Serialize)]
pub(crate) struct Load {
    /// Gateway URLs.
    pub gateways: Vec<String>,
    /// Users.
    pub users: usize,
    /// Rooms.
    pub rooms: usize,
    /// Messages a second.
    pub rate: f64,
    /// Messages to send.
    pub messages: u64,
    /// Seconds of sending.
    pub duration_seconds: f64,
    /// Octets of a body.
    pub body_bytes: u32,
    /// What receipts were to wait for; nothing where the gateway decided.
    pub receipt_after: Option<&'static str>,
    /// The seed.
    pub seed: u64,
    /// The prefix of the rooms' and users' names.
    pub prefix: String,
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Percentiles {
    /// How many were measured.
    pub count: u64,
    /// Half are at most this.
    pub p50: u64,
    /// 99 % are at most this.
    pub p99: u64,
    /// 99.9 % are at most this.
    pub p999: u64,
    /// All are at most this.
    pub max: u64,
}

/// What the history had.
#[derive(Debug, Serialize)]
pub(crate) struct History {
    /// Rooms that were read to their end.
    pub rooms: usize,
    /// Messages in them.
    pub messages: u64,
    /// Rooms that could not be read, by reason.
    pub unread: BTreeMap<String, u64>,
}

/// What a process used.
#[derive(Debug, Serialize)]
pub(crate) struct Cpu {
    /// Its name.
    pub name: String,
    /// Seconds of CPU time; nothing when the process was gone at the end.
    pub seconds: Option<f64>,
    /// Microseconds of CPU time for each delivery.
    pub us_per_delivery: Option<f64>,
}

impl Percentiles {
    /// Of a histogram in microseconds; all zero when it is empty.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            count: histogram.len(),
            p50: histogram.value_at_quantile(0.5),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        }
    }
}

impl Cpu {
    /// Charges what a process used to the deliveries.
    pub(crate) fn charge(name: &str, used: Option<Duration>, delivered: u64) -> Self {
        let seconds = used.map(|used| used.as_secs_f64());
        let each = seconds
            .filter(|_| delivered > 0)
            .map(|all| all * 1e6 / delivered as f64);
        Self {
            name: name.to_owned(),
            seconds,
            us_per_delivery: each,
        }
    }
}

impl Report {
    /// Writes it as JSON.
    ///
    /// # Errors
    /// [`Failure`] when the file cannot be written.
    pub(crate) fn save(&self, path: &Path) -> Result<(), Failure> {
        let json = serde_json::to_string_pretty(self).expect("a report has no impossible keys");
        fs::write(path, json + "\n")
            .map_err(|error| Failure::Other(format!("--json: {}: {error}", path.display())))
    }

    /// What went wrong, in one line; empty when nothing did.
    pub(crate) fn wrong(&self) -> String {
        let mut wrong = Vec::new();
        let faults = serde_json::to_value(self.faults).unwrap_or_default();
        for (name, count) in faults.as_object().into_iter().flatten() {
            if count.as_u64() != Some(0) {
                wrong.push(format!("{} {count}", name.replace('_', " ")));
            }
        }
        let wanted = self.load.messages;
        if self.sent < wanted {
            wrong.push(format!("not sent {}", wanted - self.sent));
        }
        for (reason, count) in &self.cut_off {
            wrong.push(format!("users cut off {count} ({reason})"));
        }
        for (reason, count) in self.history.iter().flat_map(|history| &history.unread) {
            wrong.push(format!("rooms without history {count} ({reason})"));
        }
        wrong.join("; ")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Load {
            users,
            rooms,
            gateways,
            rate,
            body_bytes,
            ..
        } = &self.load;
        writeln!(
            f,
            "{users} users in {rooms} rooms over {} gateway(s), {body_bytes}-octet bodies",
            gateways.len(),
        )?;
        writeln!(
            f,
            "sent              {:>10}   {:.1}/s (wanted {rate}/s)",
            self.sent, self.sent_per_second,
        )?;
        writeln!(
            f,
            "delivered         {:>10}   {:.1}/s",
            self.delivered, self.delivered_per_second,
        )?;
        writeln!(
            f,
            "milliseconds      {:>10} {:>10} {:>10} {:>10}",
            "p50", "p99", "p99.9", "max",
        )?;
        for (name, times) in [
            ("send → receive", self.send_to_receive_us),
            ("send → receipt", self.send_to_receipt_us),
            ("generator's lag", self.generator_lag_us),
        ] {
            write!(f, "{name:<18}")?;
            for time in [times.p50, times.p99, times.p999, times.max] {
                write!(f, "{:>10.3} ", time as f64 / 1000.0)?;
            }
            writeln!(f)?;
        }
        writeln!(
            f,
            "late sends        {:>10}   (more than {} ms after they were due)",
            self.late_sends,
            LATE / 1000,
        )?;
        for Cpu {
            name,
            seconds,
            us_per_delivery,
        } in &self.cpu
        {
            match (seconds, us_per_delivery) {
                (Some(all), Some(each)) => {
                    writeln!(f, "CPU {name:<14}{each:>10.1} µs per delivery ({all:.2} s)")?;
                }
                _ => writeln!(f, "CPU {name:<14}{:>10}", "unknown")?,
            }
        }
        if let Some(History {
            rooms, messages, ..
        }) = &self.history
        {
            writeln!(f, "history           {messages:>10}   in {rooms} rooms")?;
        }
        match self.wrong() {
            wrong if wrong.is_empty() => {
                write!(f, "nothing lost, doubled, out of order or without receipt")
            }
            wrong => write!(f, "WRONG: {wrong}"),
        }
    }
}
