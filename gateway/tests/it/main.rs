#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod attach;
mod receipts;
mod running;
mod session;
mod session_properties;
mod slow;
mod virtual_client;
mod history;
mod http;
mod serving;
mod upgrade;
mod websocket;
