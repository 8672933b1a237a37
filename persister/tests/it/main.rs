#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod binary;
mod fixture;
mod persist;
mod redis;
mod stop;
