#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod clients;
mod crash;
mod disk;
mod file;
mod fixture;
mod memory;
mod process;
