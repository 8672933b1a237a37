#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod stomp_properties;
mod stomp_vectors;
mod admin;
