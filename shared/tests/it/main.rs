#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a test fails by panicking"
)]
mod admin;

mod stomp_properties;
mod stomp_vectors;
mod message;
mod store_conformance;
mod store_conformance_mongo;
mod store_conformance_sqlite;
