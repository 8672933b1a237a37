//! What attacks have shown, as a table of text, of Markdown, and as JSON.

use std::fmt::Write as _;
use std::path::Path;

use shared::exit::Failure;

use super::honest::Seen;
use super::row::Row;
use crate::chaos::table::print;
use crate::report::Latency;

/// How many ways in which connections ended are told.
const ENDS: usize = 4;

/// Columns behind the kind's name.
const COLUMNS: usize = 11;

const HEADS: [[&str; 2]; COLUMNS + 1] = [
    ["", "kind"],
    ["open at", "once"],
    ["MiB", "before"],
    ["MiB", "peak"],
    ["MiB", "held"],
    ["MiB", "after"],
    ["KiB", "each"],
    ["busy cores", "peace/att."],
    ["descriptors", "bef./held/after"],
    ["p99 ms", "peace/att."],
    ["p99", "ratio"],
    ["connect p99", "ms peace/att."],
];

/// What the columns say, below the table.
const LEGEND: &str = "\
open at once: hostile connections that the server had at the same time, at most.
MiB: the server's resident memory before the attack, at most while it lasted, half of the time while all connections
  were held, and when they were released and it had given back what it does. each: (peak - before) / open at once.
p99 ms: from when an honest message was due to its delivery, before the attack and while it lasted; ratio: of the two.
connect: from when an honest newcomer was due to CONNECTED.
";

/// Prints the table, and writes the files that are asked for.
///
/// # Errors
/// [`Failure::Other`] where an attack had an effect that it must not have, or a file cannot be written.
pub(super) fn publish(
    rows: &[Row],
    json: Option<&Path>,
    in_markdown: Option<&Path>,
) -> Result<(), Failure> {
    let write = |flag: &str, path: &Path, text: String| {
        std::fs::write(path, text)
            .map_err(|error| Failure::Other(format!("{flag}: {}: {error}", path.display())))
    };
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(rows).expect("a row has no impossible keys");
        write("--json", path, text + "\n")?;
    }
    let printed = match in_markdown {
        Some(path) if path == Path::new("-") => markdown(rows),
        Some(path) => {
            write("--markdown", path, markdown(rows))?;
            text(rows)
        }
        None => text(rows),
    };
    // Last, since it may go nowhere.
    print(&printed)?;
    let wrong = rows.iter().filter_map(Row::wrong).collect::<Vec<_>>();
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Failure::Other(wrong.join("\n"))),
    }
}

/// For a terminal: at most 132 columns wide, then how connections ended, and what is wrong.
fn text(rows: &[Row]) -> String {
    let cells = rows.iter().map(cells).collect::<Vec<_>>();
    let width = |column: usize| {
        let head = HEADS[column].iter().map(|head| head.len());
        let below = cells.iter().map(|row| row[column].len());
        head.chain(below).max().unwrap_or(0)
    };
    let widths = (0..=COLUMNS).map(width).collect::<Vec<_>>();
    let mut text = String::new();
    let mut line = |cells: &[&str]| {
        let mut line = format!("{:<1$}", cells[0], widths[0]);
        for (cell, width) in cells[1..].iter().zip(&widths[1..]) {
            let _ = write!(line, " {cell:>width$}");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    for at in 0..2 {
        line(&HEADS.map(|head| head[at]));
    }
    for row in &cells {
        line(&row.each_ref().map(|cell| &cell[..]));
    }
    text.push_str(LEGEND);
    for row in rows {
        let _ = writeln!(text, "{}: {}", row.kind, ends(row));
        if let Some(limit) = &row.limited {
            let _ = writeln!(text, "  the generator was the bottleneck: {limit}");
        }
    }
    for wrong in rows.iter().filter_map(Row::wrong) {
        let _ = writeln!(text, "WRONG: {wrong}");
    }
    text
}

/// For a page: the same table with how connections ended, and what is wrong below it.
fn markdown(rows: &[Row]) -> String {
    let mut text = String::new();
    let heads = HEADS.map(|[above, below]| format!("{above} {below}").trim().to_owned());
    let _ = writeln!(text, "| {} | how they ended |", heads.join(" | "));
    let _ = writeln!(text, "| --- |{} --- |", " --: |".repeat(COLUMNS));
    for row in rows {
        let _ = writeln!(text, "| {} | {} |", cells(row).join(" | "), ends(row));
    }
    text.push('\n');
    text.push_str(LEGEND);
    for row in rows {
        if let Some(limit) = &row.limited {
            let _ = writeln!(
                text,
                "\n{}: the generator was the bottleneck: {limit}",
                row.kind
            );
        }
    }
    for wrong in rows.iter().filter_map(Row::wrong) {
        let _ = writeln!(text, "\n**Wrong:** {wrong}");
    }
    text
}

fn cells(row: &Row) -> [String; COLUMNS + 1] {
    let mib = |octets: Option<u64>| {
        octets.map_or_else(none, |octets| format!("{:.1}", octets as f64 / 1_048_576.0))
    };
    let memory = row.memory;
    let pair = |of: fn(&Seen) -> &Latency| {
        let [peace, attacked] = [&row.peace, &row.attacked].map(|seen| {
            let times = seen.as_ref().map(of).filter(|times| times.count > 0);
            times.map_or_else(none, |times| milliseconds(times.p99))
        });
        format!("{peace}/{attacked}")
    };
    [
        row.kind.clone(),
        row.hostile.most.to_string(),
        mib(memory.map(|memory| memory.before)),
        mib(memory.map(|memory| memory.peak)),
        mib(memory.map(|memory| memory.plateau)),
        mib(memory.map(|memory| memory.after)),
        row.each()
            .map_or_else(none, |octets| format!("{:.1}", octets as f64 / 1024.0)),
        row.cpu
            .map_or_else(none, |cpu| format!("{:.2}/{:.2}", cpu.peace, cpu.attacked)),
        row.descriptors.map_or_else(none, |all| {
            format!("{}/{}/{}", all.before, all.during, all.after)
        }),
        pair(|seen| &seen.send_to_receive_us),
        row.ratio().map_or_else(none, |ratio| format!("{ratio:.2}")),
        pair(|seen| &seen.connect_us),
    ]
}

/// How hostile connections ended, the most frequent way first.
fn ends(row: &Row) -> String {
    let hostile = &row.hostile;
    let mut ends = hostile.ends.iter().collect::<Vec<_>>();
    ends.sort_by_key(|(_, end)| std::cmp::Reverse(end.count));
    let more = ends.len().saturating_sub(ENDS);
    let mut parts = ends
        .iter()
        .take(ENDS)
        .map(|(how, end)| {
            let (mean, max) = (end.mean_seconds, end.max_seconds);
            format!("{} {how} (mean {mean:.1} s, max {max:.1} s)", end.count)
        })
        .collect::<Vec<_>>();
    if more > 0 {
        parts.push(format!("and {more} other ways"));
    }
    if hostile.open > 0 {
        parts.push(format!("{} still open when released", hostile.open));
    }
    let refused = hostile.refused.iter();
    parts.extend(refused.map(|(why, count)| format!("{count} not connected ({why})")));
    match parts.is_empty() {
        true => "all went by themselves".to_owned(),
        false => parts.join(", "),
    }
}

fn milliseconds(micros: u64) -> String {
    let ms = micros as f64 / 1000.0;
    match ms {
        ..9.95 => format!("{ms:.2}"),
        ..99.5 => format!("{ms:.1}"),
        _ => format!("{ms:.0}"),
    }
}

fn none() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::{COLUMNS, Row, markdown, text};
    use crate::attack::Kind;
    use crate::attack::row::Memory;

    fn row(after: u64) -> Row {
        let mib = |count: u64| count << 20;
        let mut row = Row::new(Kind::Silent, 1000);
        row.hostile.most = 1000;
        row.memory = Some(Memory {
            before: mib(20),
            peak: mib(1020),
            plateau: mib(1000),
            after: mib(after),
            bound: mib(520),
        });
        row
    }

    #[test]
    fn what_a_connection_costs_is_the_peak_over_all_of_them() {
        assert_eq!(row(100).each(), Some(1 << 20));
        assert!(text(&[row(100)]).contains("1024.0"));
    }

    #[test]
    fn memory_that_is_kept_is_wrong() {
        assert_eq!(row(520).wrong(), None);
        let text = text(&[row(521)]);
        assert!(text.contains("WRONG: silent: memory is kept"), "{text}");
    }

    #[test]
    fn every_row_of_the_markdown_has_every_column() {
        let text = markdown(&[row(1), Row::new(Kind::HeaderBomb, 1)]);
        let rows = text.lines().filter(|line| line.starts_with('|'));
        let columns = rows.map(|row| row.matches('|').count()).collect::<Vec<_>>();
        assert_eq!(columns, [COLUMNS + 3; 4], "{text}");
    }
}
