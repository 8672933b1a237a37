#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod binary;
mod failover;
mod fixture;
mod frozen;
mod persist;
mod redis;
mod stop;
