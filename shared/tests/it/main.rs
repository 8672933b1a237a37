#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a test fails by panicking"
)]
mod admin;

mod stomp_properties;
mod stomp_vectors;
