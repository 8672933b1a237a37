//! A report for a terminal.

use std::fmt;

use super::{History, LATE, Load, Report, Usage};

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
            ("send → receive", &self.send_to_receive_us),
            ("send → receipt", &self.send_to_receipt_us),
            ("generator's lag", &self.generator.lag_us),
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
            self.generator.late_sends,
            LATE / 1000,
        )?;
        for usage in self.processes.iter().chain([&self.generator.usage]) {
            let Usage { name, .. } = usage;
            match (usage.cpu_seconds, usage.us_per_delivery) {
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
        match self.ok {
            true => write!(f, "nothing lost, doubled, out of order or without receipt"),
            false => write!(f, "WRONG: {}", self.wrong.join("; ")),
        }
    }
}
