//! How a run went on.

use serde::{Deserialize, Serialize};

/// What happened in an interval of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Interval {
    /// Its start, since the load began.
    pub from_seconds: f64,
    /// How long it was.
    pub seconds: f64,
    /// Connections that were open at its end.
    pub connections: u64,
    /// Messages handed to sockets.
    pub sent: u64,
    /// Deliveries.
    pub delivered: u64,
    /// Half of its deliveries took at most this from when they were due; `None` where none came.
    pub receive_p50_us: Option<u64>,
    /// 99 % did.
    pub receive_p99_us: Option<u64>,
    /// All did.
    pub receive_max_us: Option<u64>,
    /// 99 % of its receipts took at most this from when their messages were due.
    pub receipt_p99_us: Option<u64>,
    /// 99 % of its sends were at most so late.
    pub lag_p99_us: Option<u64>,
    /// The processes of the report, in their order, and this program last.
    pub processes: Vec<Sample>,
}

/// What a process had in an interval; `None` where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Cores busy.
    pub cores: Option<f64>,
    /// Resident memory at its end.
    pub rss_bytes: Option<u64>,
    /// Descriptors open at its end.
    pub descriptors: Option<u64>,
}
