//! The servers and clients that Roomcast's tests start.

pub mod stomp;

pub use stomp::{StompClient, StompFailure, StompOptions};
