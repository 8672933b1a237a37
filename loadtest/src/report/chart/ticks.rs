//! Where an axis has its ticks.

use super::Scale;
use crate::report::unit::{Unit, number};

/// A tick of an axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    /// The value that it marks.
    pub at: f64,
    /// What is written beside it.
    pub label: String,
}

/// The ticks between two values, both included; about as many as `most` at most.
pub(super) fn ticks(scale: Scale, unit: Unit, from: f64, to: f64, most: usize) -> Vec<Tick> {
    match scale {
        Scale::Linear => linear(unit, from, to, most),
        Scale::Log => logarithmic(unit, from, to, most),
        Scale::Tail => tail(to, most),
    }
}

/// The step of a linear axis: 1, 2 or 5 times a power of ten of the multiple that its greatest value is
/// shown in.
pub(super) fn step(unit: Unit, from: f64, to: f64, most: usize) -> f64 {
    let (divisor, _) = unit.multiple(from.abs().max(to.abs()));
    let raw = (to - from) / divisor / most.max(1) as f64;
    if !(raw.is_finite() && raw > 0.0) {
        return divisor;
    }
    let power = 10f64.powf(raw.log10().floor());
    let nice = [1.0, 2.0, 5.0, 10.0].into_iter().map(|nice| nice * power);
    // What is less by rounding alone is enough.
    let step = nice.into_iter().find(|step| *step >= raw * 0.999_999);
    step.unwrap_or(power * 10.0) * divisor
}

fn linear(unit: Unit, from: f64, to: f64, most: usize) -> Vec<Tick> {
    let (divisor, suffix) = unit.multiple(from.abs().max(to.abs()));
    let step = step(unit, from, to, most);
    let decimals = (-(step / divisor).log10() - 1e-9).ceil().clamp(0.0, 9.0) as usize;
    let first = (from / step - 1e-9).ceil();
    let at = (0..=2 * most + 2).map(|count| (first + count as f64) * step);
    at.take_while(|at| *at <= to + step * 1e-9)
        .map(|at| Tick {
            at,
            label: match at {
                0.0 => "0".to_owned(),
                _ => number(at / divisor, decimals) + suffix,
            },
        })
        .collect()
}

fn logarithmic(unit: Unit, from: f64, to: f64, most: usize) -> Vec<Tick> {
    let (base, minor): (f64, &[f64]) = match unit {
        Unit::Bytes => (2.0, &[1.0]),
        _ => (10.0, &[1.0, 2.0, 5.0]),
    };
    let powers = (from.log(base) - 1e-9).floor() as i32..=(to.log(base) + 1e-9).ceil() as i32;
    let all = |digits: &[f64], every: i32| {
        let powers = powers.clone().filter(|power| power.rem_euclid(every) == 0);
        let values =
            powers.flat_map(|power| digits.iter().map(move |digit| digit * base.powi(power)));
        let inside = values.filter(|at| *at >= from * 0.999_999 && *at <= to * 1.000_001);
        inside.collect::<Vec<_>>()
    };
    let fine = all(minor, 1);
    let at = match fine.len() <= most {
        true => fine,
        false => {
            let coarse = (1..).map(|every| all(&[1.0], every));
            coarse
                .into_iter()
                .find(|at| at.len() <= most.max(1))
                .unwrap_or_default()
        }
    };
    let tick = |at: f64| {
        let (divisor, suffix) = unit.multiple(at * 1.000_001);
        let shown = at / divisor;
        let decimals = (-shown.log10() - 1e-9).ceil().clamp(0.0, 9.0) as usize;
        Tick {
            at,
            label: number(shown, decimals) + suffix,
        }
    };
    at.into_iter().map(tick).collect()
}

/// Of 1 / (1 - quantile): a half, and as many numbers of nines as are wanted, to ten.
fn tail(to: f64, most: usize) -> Vec<Tick> {
    let nines = |every: usize| {
        let all = (1..=10).filter(move |nines| nines % every == 0);
        all.take_while(|nines| 10f64.powi(*nines as i32) <= to * 1.000_001)
    };
    let every = (1..10).find(|every| nines(*every).count() < most);
    let decades = nines(every.unwrap_or(10)).map(|nines| {
        let label = match nines {
            1 => "90 %".to_owned(),
            2 => "99 %".to_owned(),
            more => format!("99.{} %", "9".repeat(more - 2)),
        };
        (10f64.powi(nines as i32), label)
    });
    let half = [(2.0, "50 %".to_owned())];
    let all = half.into_iter().chain(decades);
    all.map(|(at, label)| Tick { at, label }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale, unit: Unit, from: f64, to: f64) -> Vec<String> {
        let ticks = ticks(scale, unit, from, to, 6);
        ticks.into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn linear_ticks_are_round_in_what_they_are_shown_in() {
        let linear = |unit, from, to| labels(Scale::Linear, unit, from, to).join("|");
        assert_eq!(linear(Unit::Count, 0.0, 1000.0), "0|200|400|600|800|1,000");
        assert_eq!(
            linear(Unit::Microseconds, 0.0, 2500.0),
            "0|0.5 ms|1.0 ms|1.5 ms|2.0 ms|2.5 ms"
        );
        assert_eq!(
            linear(Unit::Bytes, 0.0, 50_000_000.0),
            "0|10 MiB|20 MiB|30 MiB|40 MiB"
        );
        assert_eq!(
            linear(Unit::Seconds, 0.0, 600.0),
            "0|2 min|4 min|6 min|8 min|10 min"
        );
        assert_eq!(
            linear(Unit::Count, 100_000.0, 100_003.0),
            "100,000.0|100,000.5|100,001.0|100,001.5|100,002.0|100,002.5|100,003.0"
        );
        assert_eq!(
            linear(Unit::Cores, 0.0, 0.03),
            "0|0.005|0.010|0.015|0.020|0.025|0.030"
        );
    }

    #[test]
    fn logarithmic_ticks_thin_out_where_there_are_many_decades() {
        let log = |unit, from, to| labels(Scale::Log, unit, from, to).join("|");
        assert_eq!(log(Unit::Count, 9.0, 220.0), "10|20|50|100|200");
        assert_eq!(
            log(Unit::Microseconds, 50.0, 2_000_000.0),
            "100 µs|1 ms|10 ms|100 ms|1 s"
        );
        assert_eq!(
            log(Unit::Microseconds, 1.0, 1e12),
            "1 µs|1 ms|1 s|1,000 s|1,000,000 s"
        );
        assert_eq!(
            log(Unit::Bytes, 1024.0, 17_000_000.0),
            "4 KiB|32 KiB|256 KiB|2 MiB|16 MiB"
        );
        assert_eq!(log(Unit::Cores, 0.009, 0.11), "0.01|0.02|0.05|0.1");
    }

    #[test]
    fn a_tail_is_read_in_nines() {
        let tail = |to| labels(Scale::Tail, Unit::Ratio, 1.0, to).join("|");
        assert_eq!(tail(123_456.0), "50 %|90 %|99 %|99.9 %|99.99 %|99.999 %");
        assert_eq!(tail(3e9), "50 %|99 %|99.99 %|99.9999 %|99.999999 %");
    }

    #[test]
    fn an_axis_of_anything_has_a_bounded_number_of_ticks() {
        for (from, to) in [(0.0, f64::MAX), (0.0, 1e-300), (-1e300, 1e300), (5.0, 5.0)] {
            assert!(
                ticks(Scale::Linear, Unit::Count, from, to, 6).len() <= 15,
                "{to}"
            );
        }
        assert!(ticks(Scale::Log, Unit::Count, 1e-300, 1e300, 6).len() <= 6);
    }
}
