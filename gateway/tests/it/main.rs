#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod attach;
mod binary;
mod gaps;
mod history;
mod http;
mod outages;
mod receipts;
mod running;
mod serving;
mod session;
mod session_acknowledgements;
mod session_limits;
mod session_oracle;
mod session_properties;
mod session_transactions;
mod slow;
mod upgrade;
mod virtual_client;
mod websocket;
mod wire;
