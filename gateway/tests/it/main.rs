#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod access;
mod affinity;
mod answers;
mod attach;
mod auth;
mod binary;
mod ephemeral;
mod fetch;
mod front;
mod gaps;
mod guard;
mod history;
mod http;
mod http_oracle;
mod large;
mod leaks;
mod openapi;
mod outages;
mod parsers_oracle;
mod post;
mod post_refused;
mod posting;
mod queues;
mod receipts;
mod restart;
mod rewritten;
mod running;
mod serving;
mod session;
mod session_access;
mod session_acknowledgements;
mod session_auth;
mod session_limits;
mod session_oracle;
mod session_properties;
mod session_revoked;
mod session_transactions;
mod slow;
mod strange;
mod upgrade;
mod virtual_client;
mod websocket;
mod wire;
