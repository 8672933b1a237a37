//! The servers and clients that Roomcast's tests start.
//!
//! Servers and processes fail by panicking with what the reader of a failed test needs to know, and
//! whatever was started ends with the test, also when the test is killed.

pub mod binary;
pub mod process;
pub mod stomp;

pub use process::Process;
pub use stomp::{StompClient, StompFailure, StompOptions};
