//! The servers and clients that Roomcast's tests start.

pub mod redis;
