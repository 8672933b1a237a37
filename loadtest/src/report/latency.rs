//! How long something took.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Points of a curve between 1 - q and (1 - q) / 10.
const POINTS_PER_DECADE: i32 = 8;

/// How long something took, in microseconds; all zero when nothing was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    /// How many were measured.
    pub count: u64,
    /// Half are at most this.
    pub p50: u64,
    /// 90 % are at most this.
    pub p90: u64,
    /// 99 % are at most this.
    pub p99: u64,
    /// 99.9 % are at most this.
    pub p999: u64,
    /// All are at most this.
    pub max: u64,
    /// The whole distribution: quantiles, from 0 upwards, and what so many are at most. Its last
    /// quantile is 1, and the one before it is the last that the count can tell from it.
    pub curve: Vec<(f64, u64)>,
}

impl Latency {
    /// Of a histogram in microseconds.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let count = histogram.len();
        let decades = (0..).map(|at| 10f64.powf(-f64::from(at) / f64::from(POINTS_PER_DECADE)));
        let tails = decades.take_while(|tail| tail * count as f64 >= 1.0);
        // So many digits are read back as they were written, and tell 10^9 measurements apart.
        let rounded = |quantile: f64| (quantile * 1e10).round() / 1e10;
        let quantiles = tails.map(|tail| rounded(1.0 - tail)).chain([1.0]);
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self {
            count,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max(),
            curve: quantiles.map(|quantile| (quantile, at(quantile))).collect(),
        }
    }
}
