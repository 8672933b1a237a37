#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod attack;
mod chaos;
mod chaos_load;
mod command_line;
mod faults;
mod killed;
mod pass;
mod processes;
mod proxy;
mod report;
mod scenarios;
