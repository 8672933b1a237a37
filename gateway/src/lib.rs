//! Roomcast's gateway.

mod answer;
pub mod close;
pub mod config;
mod destination;
pub mod handshake;
mod history;
mod origin;
pub mod outbox;
mod pages;
pub mod past;
pub mod server;
pub mod session;
pub mod websocket;
