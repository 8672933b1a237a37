//! Charts as SVG: lines of points over two axes, with a legend, in the colours of the page that they are
//! in. A line is told by the shape of its marks as well as by its colour.

mod draw;
mod frame;
mod thin;
mod ticks;

use super::unit::Unit;

/// How charts look, in both colour schemes and in print.
pub(crate) const STYLE: &str = include_str!("style.css");

/// A chart.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    /// What it shows, in a few words.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// What is drawn.
    pub lines: Vec<Line>,
    /// What should not be exceeded: a name, and where on the vertical axis it is.
    pub bounds: Vec<(String, f64)>,
}

/// An axis.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    /// What it is of, without the unit, which the ticks have.
    pub label: String,
    /// What is counted.
    pub unit: Unit,
    /// How values are spread.
    pub scale: Scale,
}

/// How values are spread over an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Evenly. A vertical axis begins at 0.
    Linear,
    /// Each power of ten as wide as the next. What is not above 0 is not drawn.
    Log,
    /// Values are 1 / (1 - quantile), spread like [`Scale::Log`] and written as percentages.
    Tail,
}

/// A line of points.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Its name in the legend.
    pub name: String,
    /// From left to right. Where a value is no number, the line is broken.
    pub points: Vec<(f64, f64)>,
    /// What is drawn of it.
    pub look: Look,
}

/// What is drawn of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// The points, joined.
    Joined,
    /// The points alone.
    Points,
    /// A thin broken line without points, to compare others with.
    Reference,
}

impl Axis {
    /// An axis of evenly spread values.
    pub(crate) fn linear(label: &str, unit: Unit) -> Self {
        Self {
            label: label.to_owned(),
            unit,
            scale: Scale::Linear,
        }
    }

    /// A logarithmic axis.
    pub(crate) fn log(label: &str, unit: Unit) -> Self {
        Self {
            scale: Scale::Log,
            ..Self::linear(label, unit)
        }
    }

    /// An axis of quantiles, of which the nines have as much room as the rest.
    pub(crate) fn tail(label: &str) -> Self {
        Self {
            scale: Scale::Tail,
            ..Self::linear(label, Unit::Ratio)
        }
    }

    /// A value of it for people.
    fn show(&self, value: f64) -> String {
        match self.scale {
            Scale::Tail => format!("{} %", (100.0 - 100.0 / value).clamp(0.0, 100.0)),
            Scale::Linear | Scale::Log => self.unit.show(value),
        }
    }
}

impl Line {
    /// Joined points.
    pub(crate) fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self {
            name: name.into(),
            points,
            look: Look::Joined,
        }
    }
}

impl Chart {
    /// A chart of nothing yet.
    pub(crate) fn new(title: impl Into<String>, x: Axis, y: Axis) -> Self {
        Self {
            title: title.into(),
            x,
            y,
            lines: Vec::new(),
            bounds: Vec::new(),
        }
    }

    /// The same with one more line.
    pub(crate) fn with(mut self, line: Line) -> Self {
        self.lines.push(line);
        self
    }

    /// As an element of a page that has [`STYLE`].
    pub(crate) fn figure(&self) -> String {
        format!("<figure>{}</figure>\n", draw::svg(self, ""))
    }
}

#[cfg(test)]
mod tests;
