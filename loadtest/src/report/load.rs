//! What was asked for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What was asked for. What a scenario has not is 0 or empty.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Load {
    /// Gateway URLs.
    pub gateways: Vec<String>,
    /// Source addresses that connections leave from; 0 where the kernel chose.
    pub sources: usize,
    /// Users, each with one connection.
    pub users: usize,
    /// Rooms.
    pub rooms: usize,
    /// Messages a second.
    pub rate: f64,
    /// Messages to send.
    pub messages: u64,
    /// Seconds of sending.
    pub duration_seconds: f64,
    /// Octets of a body.
    pub body_bytes: u32,
    /// What receipts were to wait for; nothing where the gateway decided.
    pub receipt_after: Option<String>,
    /// The seed.
    pub seed: u64,
    /// The prefix of the rooms' and users' names.
    pub prefix: String,
    /// What else shapes the load, by name: a bound, a step, heart-beats. No secret belongs here.
    pub settings: BTreeMap<String, String>,
}
