//! The light path of a user: a WebSocket of which only what the ledger needs is looked at.
//!
//! Reads go through one buffer for each thread, frames are looked at where they lie, and what is sent
//! is written by whoever sends it. An idle connection holds no buffer at all.

mod dial;
mod glance;
mod link;
mod outlet;
mod websocket;

pub(crate) use dial::{SourceRange, Sources, raise_descriptors};
pub(crate) use glance::{Glance, unescaped};
pub(crate) use link::Link;
pub(crate) use outlet::Outlet;
