//! Limits, each with its ERROR, close code and metric.
