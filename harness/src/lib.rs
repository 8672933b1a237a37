//! The servers and clients that Roomcast's tests start.
//!
//! Everything here fails by panicking with what the reader of a failed test needs to know, and
//! whatever it started ends with the test, also when the test is killed.

pub mod binary;
pub mod cache;
pub mod certificate;
pub mod cluster;
pub mod haproxy;
pub mod mongo;
pub mod mongo_set;
pub mod port;
pub mod process;
pub mod rabbitmq;
pub mod redis;
pub mod sentinel;
pub mod stomp;
pub mod token;
pub mod until;

pub use certificate::Authority;
pub use cluster::Cluster;
pub use haproxy::Haproxy;
pub use mongo::Mongo;
pub use mongo_set::MongoSet;
pub use process::Process;
pub use rabbitmq::Rabbitmq;
pub use redis::Redis;
pub use sentinel::Sentinel;
pub use stomp::{StompClient, StompFailure, StompOptions};
pub use token::{Issuer, KeyServer};
pub use until::until;
