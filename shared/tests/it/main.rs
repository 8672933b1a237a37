#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a test fails by panicking"
)]
//! What the library promises, from outside.

mod broker_conformance;
