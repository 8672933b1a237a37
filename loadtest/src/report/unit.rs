//! What figures count, and how they are shown.

use serde::{Deserialize, Serialize};

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    /// Things.
    #[default]
    Count,
    /// Things a second.
    PerSecond,
    /// Microseconds.
    Microseconds,
    /// Seconds.
    Seconds,
    /// Octets.
    Bytes,
    /// Cores that are busy.
    Cores,
    /// One figure divided by another.
    Ratio,
}

/// From here on a number is written with an exponent.
const LARGE: f64 = 1e12;

impl Unit {
    /// A value for people: three digits and a multiple of the unit; `-` for what is no number.
    pub(crate) fn show(self, value: f64) -> String {
        if !value.is_finite() {
            return "-".to_owned();
        }
        let (divisor, suffix) = self.multiple(value);
        let shown = value / divisor;
        let magnitude = shown.abs();
        let is_whole = matches!(self, Self::Count) && divisor == 1.0 && value.fract() == 0.0;
        let decimals = match magnitude {
            _ if is_whole || magnitude == 0.0 => 0,
            _ if matches!(self, Self::Ratio) && magnitude < 10.0 => 2,
            100.0.. => 0,
            10.0.. => 1,
            1.0.. => 2,
            _ => (2.0 - magnitude.log10().floor()).clamp(0.0, 6.0) as usize,
        };
        number(shown, decimals) + suffix
    }

    /// By what a value is divided to be shown, and what stands behind it then.
    pub(crate) fn multiple(self, value: f64) -> (f64, &'static str) {
        let value = value.abs();
        let multiples: &[(f64, &str)] = match self {
            Self::Count => &[(1e9, " G"), (1e6, " M"), (1.0, "")],
            Self::PerSecond => &[(1e9, " G/s"), (1e6, " M/s"), (1.0, "/s")],
            Self::Microseconds => &[(1e6, " s"), (1e3, " ms"), (1.0, " µs")],
            Self::Seconds if value >= 10_800.0 => &[(3600.0, " h")],
            Self::Seconds if value >= 180.0 => &[(60.0, " min")],
            Self::Seconds => &[(1.0, " s")],
            Self::Bytes => &[
                (1_099_511_627_776.0, " TiB"),
                (1_073_741_824.0, " GiB"),
                (1_048_576.0, " MiB"),
                (1024.0, " KiB"),
                (1.0, " B"),
            ],
            Self::Cores => &[(1.0, "")],
            Self::Ratio => &[(1.0, " ×")],
        };
        let fits = multiples.iter().find(|(divisor, _)| value >= *divisor);
        let least = multiples.last().copied().unwrap_or((1.0, ""));
        fits.copied().unwrap_or(least)
    }
}

/// A number with its thousands apart; with an exponent where it is large, and `-` where it is none.
pub(crate) fn number(value: f64, decimals: usize) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    if value.abs() >= LARGE {
        return format!("{value:.1e}");
    }
    let plain = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let mut text = String::new();
    if value < 0.0 {
        text.push('-');
    }
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_a_multiple() {
        for (unit, value, shown) in [
            (Unit::Count, 0.0, "0"),
            (Unit::Count, 150_000.0, "150,000"),
            (Unit::Count, 2_500_000.0, "2.50 M"),
            (Unit::Count, 1e30, "1.0e21 G"),
            (Unit::Count, 2e21, "2.0e12 G"),
            (Unit::PerSecond, 1234.5, "1,234/s"),
            (Unit::PerSecond, 0.25, "0.250/s"),
            (Unit::Microseconds, 7.0, "7.00 µs"),
            (Unit::Microseconds, 12_345.0, "12.3 ms"),
            (Unit::Microseconds, 3_600_000_000.0, "3,600 s"),
            (Unit::Seconds, 90.0, "90.0 s"),
            (Unit::Seconds, 300.0, "5.00 min"),
            (Unit::Seconds, 7200.0, "120 min"),
            (Unit::Seconds, 86_400.0, "24.0 h"),
            (Unit::Bytes, 8192.0, "8.00 KiB"),
            (Unit::Bytes, 1e9, "954 MiB"),
            (Unit::Cores, 1.234, "1.23"),
            (Unit::Ratio, 0.5, "0.50 ×"),
            (Unit::Ratio, f64::NAN, "-"),
            (Unit::Count, f64::INFINITY, "-"),
            (Unit::Bytes, -2048.0, "-2.00 KiB"),
        ] {
            assert_eq!(unit.show(value), shown, "{unit:?} {value}");
        }
    }
}
