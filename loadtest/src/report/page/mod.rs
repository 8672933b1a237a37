//! Reports as one page that needs nothing else: style and plots are in it, and no script.

use std::fmt::Write as _;

use super::Report;
use super::chart::STYLE as CHARTS;
use super::escape::escape;
use super::tables::UNKNOWN;
use super::unit::{Unit, number};

pub(super) mod plots;

/// How the page looks.
const STYLE: &str = include_str!("style.css");

/// How figures are to be read.
const READING: &str = "Latencies count from the moment at which a message was due, not from when it \
    left: a server that makes the generator wait is charged for the wait (corrected for coordinated \
    omission). The generator's lag is part of them. CPU time is of user and kernel mode, of all \
    threads. RSS is resident memory; PSS charges shared pages by their share.";

/// What a section says that has no figures.
const NOTHING: &str = "<p>Nothing was measured.</p>\n";

/// A page around what is in it, which has to be escaped already.
pub(crate) fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n\
         <meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n\
         <title>{title}</title>\n<style>\n{STYLE}{CHARTS}</style>\n</head>\n<body>\n<main>\n{body}\
         <footer>{}</footer>\n</main>\n</body>\n</html>\n",
        escape(&format!(
            "{READING} Written by loadtest {}.",
            env!("CARGO_PKG_VERSION")
        ))
    )
}

/// A section of a page, with what is in it.
pub(crate) fn section(id: &str, title: &str, body: &str) -> String {
    let (id, title) = (escape(id), escape(title));
    format!("<section id=\"{id}\">\n<h2>{title}</h2>\n{body}</section>\n")
}

/// A list of names and values.
pub(super) fn pairs(rows: &[(String, String)]) -> String {
    let mut html = String::from("<dl>\n");
    for (name, value) in rows {
        let _ = writeln!(html, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(value));
    }
    html + "</dl>\n"
}

impl Report {
    /// As a page.
    pub(crate) fn page(&self) -> String {
        let title = self.title();
        let mut body = format!(
            "<header>\n<h1>{}</h1>\n<p>{} · {}</p>\n</header>\n",
            escape(&title),
            escape(&self.summary()),
            escape(&self.started())
        );
        body += &self.verdict_section();
        body += &section(
            "figures",
            "Figures",
            &(self.throughput_table().html() + &self.latency_table().html()),
        );
        let latency = match self.latencies().is_empty() {
            true => NOTHING.to_owned(),
            false => grid(&[plots::distribution(self)]),
        };
        body += &section("latency", "Latency", &latency);
        let time = match self.series.is_empty() {
            true => NOTHING.to_owned(),
            false => grid(&plots::over_time(self)),
        };
        body += &section("time", "Over time", &time);
        if !self.steps.is_empty() {
            let plot = plots::steps(self).map(|chart| grid(&[chart]));
            let steps = self.step_table().html() + &plot.unwrap_or_default();
            body += &section("steps", "Steps", &steps);
        }
        let kernel = self.kernel_table().map(|table| table.html());
        let usages = self.usage_table().html() + &kernel.unwrap_or_default();
        body += &section("processes", "Processes", &usages);
        body += &section("load", "Load", &pairs(&self.load_rows()));
        body += &section("machine", "Machine", &pairs(&self.machine.rows()));
        page(&title, &body)
    }

    /// The scenario, and what it was played on.
    pub(super) fn title(&self) -> String {
        match &self.target {
            Some(target) => format!("{} on {target}", self.scenario),
            None => self.scenario.clone(),
        }
    }

    fn verdict_section(&self) -> String {
        let mut html = String::from("<section id=\"verdict\">\n");
        let _ = match self.ok {
            true => writeln!(
                html,
                "<p class=\"verdict good\">✓ {}</p>",
                escape(&self.verdict())
            ),
            false => {
                html.push_str("<div class=\"verdict bad\"><p>✗ Something went wrong</p><ul>\n");
                for wrong in &self.wrong {
                    let _ = writeln!(html, "<li>{}</li>", escape(wrong));
                }
                writeln!(html, "</ul></div>")
            }
        };
        if let Some(why) = &self.generator.bottleneck {
            let why = escape(why);
            let _ = writeln!(
                html,
                "<p class=\"verdict doubtful\">⚠ The generator was the bottleneck, so these are no \
                 figures of the server: {why}</p>"
            );
        }
        for note in &self.notes {
            let _ = writeln!(html, "<p>{}</p>", escape(note));
        }
        let time = |time: u64, count: u64| match count {
            0 => UNKNOWN.to_owned(),
            _ => Unit::Microseconds.show(time as f64),
        };
        let receive = &self.send_to_receive_us;
        let each = self
            .processes
            .iter()
            .filter_map(|usage| usage.us_per_delivery);
        let each = each.reduce(|sum, each| sum + each);
        html.push_str("<ul class=\"tiles\">\n");
        for (value, name) in [
            (number(self.sent_per_second, 0), "messages sent a second"),
            (number(self.delivered_per_second, 0), "deliveries a second"),
            (time(receive.p50, receive.count), "send → receive, p50"),
            (time(receive.p99, receive.count), "send → receive, p99"),
            (
                each.map_or_else(|| UNKNOWN.to_owned(), |each| Unit::Microseconds.show(each)),
                "CPU of all servers for each delivery",
            ),
        ] {
            let value = escape(&value);
            let _ = writeln!(html, "<li><strong>{value}</strong> {name}</li>");
        }
        html + "</ul>\n</section>\n"
    }
}

/// Charts beside each other, where there is room.
pub(super) fn grid(charts: &[super::Chart]) -> String {
    let charts = charts.iter().map(super::Chart::figure);
    format!(
        "<div class=\"grid\">\n{}</div>\n",
        charts.collect::<String>()
    )
}
