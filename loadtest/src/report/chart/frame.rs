//! The part of a chart that points are drawn into.

use super::ticks::{Tick, step, ticks};
use super::{Axis, Chart, Scale};

/// Width of a chart.
pub(super) const WIDTH: f64 = 640.0;

/// Where the plot begins and ends, below the title and the label of the vertical axis.
pub(super) const TOP: f64 = 64.0;
pub(super) const BOTTOM: f64 = 284.0;

/// The plot's right edge.
pub(super) const RIGHT: f64 = WIDTH - 22.0;

/// Ticks of the vertical axis, at most about.
const ROWS: usize = 6;

/// The least that a logarithmic axis goes over.
const SPAN: f64 = 10.0;

/// What a logarithmic axis can show. Beyond are numbers that cannot be multiplied.
const LEAST: f64 = 1e-290;
const GREATEST: f64 = 1e290;

/// About how wide a character is.
pub(super) const CHARACTER: f64 = 6.9;

/// Space between the labels of two ticks.
const APART: f64 = 14.0;

/// The plot of a chart.
pub(super) struct Frame {
    /// Its left edge.
    pub left: f64,
    /// The horizontal axis's ticks, as many as have room.
    pub columns: Vec<Tick>,
    /// The vertical axis's.
    pub rows: Vec<Tick>,
    x: Range,
    y: Range,
}

struct Range {
    scale: Scale,
    from: f64,
    to: f64,
}

impl Frame {
    /// Of a chart, as large as its points need; `None` where it has none.
    pub(super) fn of(chart: &Chart) -> Option<Self> {
        let lines = chart.lines.iter();
        let points = lines.flat_map(|line| &line.points).filter(|(x, y)| {
            let fits =
                |axis: &Axis, at: f64| at.is_finite() && (axis.scale == Scale::Linear || at > 0.0);
            fits(&chart.x, *x) && fits(&chart.y, *y)
        });
        let points = points.copied().collect::<Vec<_>>();
        if points.is_empty() {
            return None;
        }
        let x = Range::over(&chart.x, points.iter().map(|point| point.0));
        let bounds = chart.bounds.iter().map(|bound| bound.1);
        let bounds =
            bounds.filter(|at| at.is_finite() && (chart.y.scale == Scale::Linear || *at > 0.0));
        let mut y = Range::over(&chart.y, points.iter().map(|point| point.1).chain(bounds));
        if y.scale == Scale::Linear {
            (y.from, y.to) = (y.from.min(0.0), y.to.max(0.0));
            if y.from == y.to {
                y.to = chart.y.unit.multiple(0.0).0;
            }
            let step = step(chart.y.unit, y.from, y.to, ROWS);
            y.to = (y.to / step - 1e-9).ceil() * step;
            y.from = (y.from / step + 1e-9).floor() * step;
        } else {
            (y.from, y.to) = (y.from / 1.15, y.to * 1.15);
        }
        let rows = ticks(y.scale, chart.y.unit, y.from, y.to, ROWS);
        let left = rows
            .iter()
            .map(|tick| width(&tick.label))
            .fold(24.0, f64::max)
            + 20.0;
        let mut frame = Self {
            left,
            columns: Vec::new(),
            rows,
            x,
            y,
        };
        frame.columns = frame.fitting(&chart.x);
        Some(frame)
    }

    /// Where a point is drawn; `None` where it is no number, or cannot be on an axis.
    pub(super) fn place(&self, (x, y): (f64, f64)) -> Option<(f64, f64)> {
        let (across, up) = (self.x.part(x)?, self.y.part(y)?);
        let across = self.left + across * (RIGHT - self.left);
        Some((across, BOTTOM - up * (BOTTOM - TOP)))
    }

    /// The height of a value.
    pub(super) fn height(&self, y: f64) -> Option<f64> {
        Some(BOTTOM - self.y.part(y)? * (BOTTOM - TOP))
    }

    /// How far right a value is.
    pub(super) fn column(&self, x: f64) -> Option<f64> {
        Some(self.left + self.x.part(x)? * (RIGHT - self.left))
    }

    /// The most ticks whose labels do not touch.
    fn fitting(&self, axis: &Axis) -> Vec<Tick> {
        let all = (2..=10)
            .rev()
            .map(|most| ticks(self.x.scale, axis.unit, self.x.from, self.x.to, most));
        let mut fewest = Vec::new();
        for ticks in all {
            let places = ticks
                .iter()
                .filter_map(|tick| Some((self.column(tick.at)?, width(&tick.label))));
            let places = places.collect::<Vec<_>>();
            let touch = places
                .windows(2)
                .any(|pair| pair[1].0 - pair[0].0 < (pair[0].1 + pair[1].1) / 2.0 + APART);
            if !touch {
                return ticks;
            }
            fewest = ticks;
        }
        fewest.truncate(1);
        fewest
    }
}

impl Range {
    /// Over what an axis has; never empty.
    fn over(axis: &Axis, values: impl Iterator<Item = f64>) -> Self {
        let (mut from, mut to) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            (from, to) = (from.min(value), to.max(value));
        }
        match axis.scale {
            Scale::Linear => {}
            Scale::Tail => (from, to) = (1.0, to.max(SPAN)),
            Scale::Log => {
                let lacking = (SPAN / (to / from)).max(1.0).sqrt();
                (from, to) = (from / lacking, to * lacking);
            }
        }
        if axis.scale != Scale::Linear {
            (from, to) = (from.clamp(LEAST, GREATEST), to.clamp(LEAST, GREATEST));
            (from, to) = (from.min(GREATEST / SPAN), to.max(LEAST * SPAN));
        }
        Self {
            scale: axis.scale,
            from,
            to,
        }
    }

    /// Where a value is: 0 at the beginning, 1 at the end.
    fn part(&self, value: f64) -> Option<f64> {
        let part = match self.scale {
            _ if !value.is_finite() => return None,
            // Halves, since a range may be wider than the greatest number.
            Scale::Linear if self.from == self.to => 0.5,
            Scale::Linear => (value / 2.0 - self.from / 2.0) / (self.to / 2.0 - self.from / 2.0),
            Scale::Log | Scale::Tail if value <= 0.0 => return None,
            Scale::Log | Scale::Tail => {
                (value.ln() - self.from.ln()) / (self.to.ln() - self.from.ln())
            }
        };
        part.is_finite().then_some(part.clamp(0.0, 1.0))
    }
}

/// About how wide a text is.
pub(super) fn width(text: &str) -> f64 {
    text.chars().count() as f64 * CHARACTER
}
