#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a test fails by panicking"
)]
mod admin;

mod message;
mod stomp_properties;
mod stomp_vectors;
mod store_conformance;
mod store_conformance_mongo;
mod store_conformance_sqlite;
//! What the library promises, from outside.

mod broker_conformance;
