//! Roomcast's gateway.

pub mod close;
pub mod config;
mod destination;
mod origin;
pub mod websocket;
