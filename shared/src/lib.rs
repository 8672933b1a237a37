//! What every Roomcast process has: the message model, the STOMP codec, brokers, stores, and the
//! parts of running a service (configuration, telemetry, metrics, the admin server, shutdown).

pub mod message;

pub mod stomp;

pub mod broker;

pub mod store;

pub mod admin;
pub mod backoff;
pub mod config;
pub mod exit;
pub mod listen;
pub mod metrics;
pub mod reload;
pub mod shutdown;
pub mod telemetry;
