//! The steps of a run: rates of a ramp, cycles of a storm or of idle connections.

use serde::{Deserialize, Serialize};

use super::unit::Unit;

/// A step of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Step {
    /// Its name, such as `1000/s` or `cycle 3`.
    pub label: String,
    /// Whether it kept what was wanted of it.
    pub ok: bool,
    /// What it has shown. All steps of a run have the same figures in the same order, where they have
    /// them.
    pub figures: Vec<Figure>,
}

/// A figure of a step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// Its name, without the unit.
    pub name: String,
    /// What it counts.
    pub unit: Unit,
    /// So much.
    pub value: f64,
}

/// Which figures of the steps are plotted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StepPlot {
    /// The name of the figure on the horizontal axis; the steps' numbers where it is `None`.
    pub x: Option<String>,
    /// The names of those on the vertical axis, all of one unit.
    pub y: Vec<String>,
    /// What they should not exceed.
    pub bound: Option<f64>,
}

impl Step {
    /// A step that kept what was wanted of it, without figures.
    pub(crate) fn new(label: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            ok: true,
            figures: Vec::new(),
        }
    }

    /// The same with one more figure.
    pub(crate) fn with(mut self, name: &str, unit: Unit, value: f64) -> Self {
        self.figures.push(Figure {
            name: name.to_owned(),
            unit,
            value,
        });
        self
    }

    /// A figure's value.
    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        let figure = self.figures.iter().find(|figure| figure.name == name)?;
        Some(figure.value)
    }
}
