//! A table of figures for a terminal, for Markdown and for a page.

use std::fmt::{Display, Write as _};

use serde::Serialize;

use super::escape::escape;

/// A table. Its first column has names and stands left, as do others with a cell that begins with a
/// letter; figures stand right.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Table<C = String> {
    /// What it is about, in a line; empty where its place says so.
    pub caption: String,
    /// What the columns are.
    pub columns: Vec<String>,
    /// As many cells in each row as there are columns.
    pub rows: Vec<Vec<C>>,
}

impl<C: Display + Default> Table<C> {
    /// A table without rows.
    pub(crate) fn new(caption: impl Into<String>, columns: &[&str]) -> Self {
        Self {
            caption: caption.into(),
            ..Self::bare(columns.iter().copied())
        }
    }

    /// The same without a caption.
    pub(crate) fn bare<T: Into<String>>(columns: impl IntoIterator<Item = T>) -> Self {
        Self {
            caption: String::new(),
            columns: columns.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; cells that it lacks are empty.
    pub(crate) fn row<T: Into<C>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let mut cells = cells.into_iter().map(Into::into).collect::<Vec<_>>();
        cells.resize_with(self.columns.len(), C::default);
        self.rows.push(cells);
    }

    /// For a terminal, as wide as it has to be.
    pub(crate) fn text(&self) -> String {
        let rows = self.shown();
        let lines = || [&self.columns].into_iter().chain(&rows);
        let width = |column: usize| {
            let cells = lines().map(|cells| cells[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let columns = 0..self.columns.len();
        let columns = columns.map(|column| (width(column), is_left(&rows, column)));
        let columns = columns.collect::<Vec<_>>();
        let mut text = String::new();
        for cells in lines() {
            let mut line = String::new();
            for (at, (cell, &(width, is_left))) in cells.iter().zip(&columns).enumerate() {
                let gap = if at == 0 { "" } else { "  " };
                let _ = match is_left {
                    true => write!(line, "{gap}{cell:<width$}"),
                    false => write!(line, "{gap}{cell:>width$}"),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// For Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        let mut line = |cells: &[String]| {
            let cells = cells.iter().map(|cell| {
                let cell = cell.replace('\\', "\\\\").replace('|', "\\|");
                let cell = cell.replace(['\n', '\r'], " ");
                // What a blank follows begins no tag.
                cell.replace('<', "&lt;").replace("&lt; ", "< ")
            });
            let cells = cells.collect::<Vec<_>>();
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        };
        let rows = self.shown();
        line(&self.columns);
        let columns = 0..self.columns.len();
        let rules = columns.map(|at| if is_left(&rows, at) { "---" } else { "---:" });
        line(&rules.map(str::to_owned).collect::<Vec<_>>());
        for row in &rows {
            line(row);
        }
        text
    }

    /// For a page.
    pub(crate) fn html(&self) -> String {
        let mut text = String::from("<div class=\"scroll\"><table>\n<thead><tr>");
        for head in &self.columns {
            let _ = write!(text, "<th scope=\"col\">{}</th>", escape(head));
        }
        text.push_str("</tr></thead>\n<tbody>\n");
        for row in self.shown() {
            text.push_str("<tr>");
            for (at, cell) in row.iter().enumerate() {
                let cell = escape(cell);
                let _ = match at {
                    0 => write!(text, "<th scope=\"row\">{cell}</th>"),
                    _ => write!(text, "<td>{cell}</td>"),
                };
            }
            text.push_str("</tr>\n");
        }
        text.push_str("</tbody></table></div>\n");
        text
    }

    fn shown(&self) -> Vec<Vec<String>> {
        let rows = self.rows.iter();
        rows.map(|row| row.iter().map(ToString::to_string).collect())
            .collect()
    }
}

fn is_left(rows: &[Vec<String>], column: usize) -> bool {
    let mut cells = rows.iter().map(|row| &row[column]);
    column == 0 || cells.any(|cell| cell.starts_with(char::is_alphabetic))
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn a_table_is_the_same_everywhere() {
        let mut table = Table::<String>::bare(["name", "p99", "is"]);
        table.row(["a|b", "1 ms", "well"]);
        table.row(["<i>", "100 µs", "< 1"]);
        table.row(["short"]);
        assert_eq!(
            table.text(),
            "name      p99  is\na|b      1 ms  well\n<i>    100 µs  < 1\nshort\n"
        );
        assert_eq!(
            table.markdown(),
            "| name | p99 | is |\n| --- | ---: | --- |\n| a\\|b | 1 ms | well |\n\
             | &lt;i> | 100 µs | < 1 |\n| short |  |  |\n"
        );
        let html = table.html();
        assert!(
            html.contains("<th scope=\"row\">&lt;i&gt;</th><td>100 µs</td>"),
            "{html}"
        );
    }
}
