#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod affinity;
mod attach;
mod binary;
mod ephemeral;
mod gaps;
mod history;
mod http;
mod openapi;
mod outages;
mod post;
mod post_refused;
mod posting;
mod queues;
mod receipts;
mod running;
mod serving;
mod session;
mod session_properties;
mod slow;
mod upgrade;
mod virtual_client;
mod websocket;
mod wire;
