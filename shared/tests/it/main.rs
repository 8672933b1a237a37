//! What the library promises, from outside.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admin;
mod broker_conformance;
mod message;
mod stomp_examples;
mod stomp_oracle;
mod stomp_properties;
mod stomp_vectors;
mod store_conformance;
mod store_conformance_mongo;
mod store_conformance_mongo_set;
mod store_conformance_sqlite;
mod tls;
