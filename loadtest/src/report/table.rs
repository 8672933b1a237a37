//! A table of figures for a terminal, for Markdown and for a page.

use std::fmt::Write as _;

use super::escape::escape;

/// A table. Its first column has names and stands left, the others have figures and stand right.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    /// What the columns are.
    pub heads: Vec<String>,
    /// As many cells in each row as there are heads.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new<T: Into<String>>(heads: impl IntoIterator<Item = T>) -> Self {
        Self {
            heads: heads.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; cells that it lacks are empty.
    pub(crate) fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let mut cells = cells.into_iter().map(Into::into).collect::<Vec<_>>();
        cells.resize(self.heads.len(), String::new());
        self.rows.push(cells);
    }

    /// For a terminal, as wide as it has to be.
    pub(crate) fn text(&self) -> String {
        let lines = || [&self.heads].into_iter().chain(&self.rows);
        let width = |column: usize| {
            let cells = lines().map(|cells| cells[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let widths = (0..self.heads.len()).map(width).collect::<Vec<_>>();
        let mut text = String::new();
        for cells in lines() {
            let mut line = String::new();
            for (at, (cell, &width)) in cells.iter().zip(&widths).enumerate() {
                let _ = match at {
                    0 => write!(line, "{cell:<width$}"),
                    _ => write!(line, "  {cell:>width$}"),
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
                cell.replace('<', "&lt;")
            });
            let cells = cells.collect::<Vec<_>>();
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        };
        line(&self.heads);
        let rules = (0..self.heads.len()).map(|at| if at == 0 { "---" } else { "--:" });
        line(&rules.map(str::to_owned).collect::<Vec<_>>());
        for row in &self.rows {
            line(row);
        }
        text
    }

    /// For a page.
    pub(crate) fn html(&self) -> String {
        let mut text = String::from("<div class=\"scroll\"><table>\n<thead><tr>");
        for head in &self.heads {
            let _ = write!(text, "<th scope=\"col\">{}</th>", escape(head));
        }
        text.push_str("</tr></thead>\n<tbody>\n");
        for row in &self.rows {
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
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn a_table_is_the_same_everywhere() {
        let mut table = Table::new(["name", "p99"]);
        table.row(["a|b", "1 ms"]);
        table.row(["<i>", "100 µs"]);
        table.row(["short"]);
        assert_eq!(
            table.text(),
            "name      p99\na|b      1 ms\n<i>    100 µs\nshort\n"
        );
        assert_eq!(
            table.markdown(),
            "| name | p99 |\n| --- | --: |\n| a\\|b | 1 ms |\n| &lt;i> | 100 µs |\n| short |  |\n"
        );
        let html = table.html();
        assert!(
            html.contains("<th scope=\"row\">&lt;i&gt;</th><td>100 µs</td>"),
            "{html}"
        );
    }
}
