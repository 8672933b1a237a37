//! How a cost grows with a parameter.

use super::chart::{Axis, Chart, Line, Look};
use super::unit::Unit;

/// A cost at several values of a parameter.
#[derive(Clone, Debug)]
pub(crate) struct Growth {
    /// What was measured, such as `gateway's CPU`.
    pub name: String,
    /// The parameter's name, such as `connections`.
    pub parameter: String,
    /// What the cost counts.
    pub unit: Unit,
    /// The parameter and the cost, from the least parameter to the greatest.
    pub points: Vec<(f64, f64)>,
    /// The power of the parameter that the cost grows with: 1 is linear, 0 is constant. `None` where
    /// fewer than two values of the parameter have a cost above 0.
    pub exponent: Option<f64>,
}

impl Growth {
    /// Fits the exponent, by least squares of the logarithms.
    pub(crate) fn fit(
        name: &str,
        parameter: &str,
        unit: Unit,
        mut points: Vec<(f64, f64)>,
    ) -> Self {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let positive = points.iter().filter(|(x, y)| *x > 0.0 && *y > 0.0);
        let logs = positive.map(|(x, y)| (x.ln(), y.ln()));
        let logs = logs.filter(|(x, y)| x.is_finite() && y.is_finite());
        let logs = logs.collect::<Vec<_>>();
        let count = logs.len() as f64;
        let mean_x = logs.iter().map(|point| point.0).sum::<f64>() / count;
        let mean_y = logs.iter().map(|point| point.1).sum::<f64>() / count;
        let spread = logs.iter().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>();
        let common = logs.iter().map(|(x, y)| (x - mean_x) * (y - mean_y));
        let common = common.sum::<f64>();
        Self {
            name: name.to_owned(),
            parameter: parameter.to_owned(),
            unit,
            points,
            // Where all logarithms are one but for rounding, there is nothing to fit.
            exponent: (spread > 1e-12).then_some(common / spread),
        }
    }

    /// The name and the exponent.
    pub(crate) fn legend(&self) -> String {
        match self.exponent {
            Some(exponent) => {
                // No minus before what is 0 when it is shown.
                let shown = (exponent * 100.0).round() / 100.0 + 0.0;
                format!("{} (exponent {shown:.2})", self.name)
            }
            None => self.name.clone(),
        }
    }

    /// Costs of one unit over one parameter, both logarithmic, with what is linear to compare them with.
    pub(crate) fn chart(title: &str, all: &[Self]) -> Chart {
        let (parameter, unit) = match all.first() {
            Some(growth) => (&growth.parameter[..], growth.unit),
            None => ("", Unit::Count),
        };
        let x = Axis::log(parameter, Unit::Count);
        let mut chart = Chart::new(title, x, Axis::log("cost", unit));
        for growth in all {
            let line = Line::new(growth.legend(), growth.points.clone());
            chart.lines.push(line);
        }
        // From the first cost of the dearest, so that it lies above the others.
        let firsts = all.iter().filter_map(|growth| {
            let mut points = growth.points.iter();
            points.find(|(x, y)| *x > 0.0 && *y > 0.0 && y.is_finite())
        });
        let first = firsts.max_by(|a, b| a.1.total_cmp(&b.1));
        let last = all.iter().filter_map(|growth| growth.points.last());
        let last = last.map(|point| point.0).fold(0.0, f64::max);
        if let Some(&(x, y)) = first
            && last > x
        {
            chart.lines.push(Line {
                look: Look::Reference,
                ..Line::new("linear (exponent 1)", vec![(x, y), (last, y * last / x)])
            });
        }
        chart
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exponent(points: &[(f64, f64)]) -> Option<f64> {
        Growth::fit("cost", "n", Unit::Count, points.to_vec()).exponent
    }

    #[test]
    fn the_exponent_of_a_power_is_that_power() {
        for power in [0.0, 0.5, 1.0, 2.0, -1.0] {
            let points = [400.0, 100.0, 200.0, 3200.0].map(|n: f64| (n, 7.0 * n.powf(power)));
            let fitted = exponent(&points).unwrap();
            assert!((fitted - power).abs() < 1e-9, "{fitted} for {power}");
        }
    }

    #[test]
    fn noise_on_both_sides_of_a_line_does_not_bend_it() {
        let points = [
            (10.0, 11.0),
            (100.0, 91.0),
            (1000.0, 911.0),
            (10_000.0, 11_000.0),
        ];
        let fitted = exponent(&points).unwrap();
        assert!((fitted - 1.0).abs() < 0.01, "{fitted}");
    }

    #[test]
    fn nothing_is_fitted_to_one_value_of_the_parameter() {
        for points in [
            &[][..],
            &[(10.0, 5.0)],
            &[(10.0, 5.0), (10.0, 6.0)],
            &[
                (10.0, 5.0),
                (0.0, 6.0),
                (20.0, 0.0),
                (30.0, f64::NAN),
                (40.0, f64::INFINITY),
            ],
        ] {
            assert_eq!(exponent(points), None, "{points:?}");
            let growth = Growth::fit("cost", "n", Unit::Count, points.to_vec());
            assert!(
                Growth::chart("growth", &[growth])
                    .figure()
                    .contains("</svg>")
            );
        }
    }

    #[test]
    fn the_reference_is_linear_and_as_long_as_the_series() {
        let points = vec![(10.0, 3.0), (1000.0, 50.0)];
        let growth = Growth::fit("cost", "n", Unit::Count, points);
        let cheap = Growth::fit("cheap", "n", Unit::Count, vec![(10.0, 1.0), (100.0, 1.0)]);
        let chart = Growth::chart("growth", &[growth.clone(), cheap]);
        // It begins at the dearest, above the others.
        assert_eq!(chart.lines[2].points, [(10.0, 3.0), (1000.0, 300.0)]);
        let chart = Growth::chart("growth", &[growth]);
        assert_eq!(chart.lines[1].points, [(10.0, 3.0), (1000.0, 300.0)]);
        assert!(
            chart.lines[0].name.starts_with("cost (exponent 0.6"),
            "{chart:?}"
        );
    }
}
