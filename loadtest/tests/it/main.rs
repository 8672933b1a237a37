#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a test fails by panicking"
)]
mod killed;

mod command_line;
mod faults;
mod proxy;
