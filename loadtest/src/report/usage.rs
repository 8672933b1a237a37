//! What processes and the kernel used.

use serde::{Deserialize, Serialize};

use super::latency::Latency;

/// What this program added to the latencies, and used itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Generator {
    /// From when a message was due to its being handed to the socket. It is part of the other
    /// latencies.
    pub lag_us: Latency,
    /// Sends more than 10 ms late.
    pub late_sends: u64,
    /// What it used.
    pub usage: Usage,
    /// Why it, and not the server, decided the figures, where it did.
    pub bottleneck: Option<String>,
}

/// What a process used. What is not known is `None`: its process had ended, or may not be looked at.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Its name in the report.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// Seconds of CPU time while the load ran, of all its threads.
    pub cpu_seconds: Option<f64>,
    /// Cores that it had busy in the mean.
    pub cores: Option<f64>,
    /// Microseconds of CPU time for each delivery.
    pub us_per_delivery: Option<f64>,
    /// Resident memory before the load, or before the connections where they are the load.
    pub rss_before_bytes: Option<u64>,
    /// The most that was seen while the load ran.
    pub rss_peak_bytes: Option<u64>,
    /// After the load.
    pub rss_after_bytes: Option<u64>,
    /// Resident memory after the load in which pages that are shared count for each process by their
    /// share.
    pub pss_after_bytes: Option<u64>,
    /// The most descriptors that were seen open.
    pub descriptors: Option<u64>,
}

/// What the kernel kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct KernelMemory {
    /// Before the load, or before the connections where they are the load.
    pub before: Kernel,
    /// The most of each that was seen while the load ran.
    pub peak: Kernel,
    /// After the load.
    pub after: Kernel,
}

/// What the kernel keeps at one time, of the whole machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kernel {
    /// TCP sockets in use, both ends where both are on this machine.
    pub tcp_sockets: u64,
    /// What waits in TCP buffers.
    pub tcp_buffers_bytes: u64,
    /// Slab memory: socket, inode and file structures are in it.
    pub slab_bytes: u64,
    /// Of it, what cannot be given back under pressure.
    pub slab_unreclaimable_bytes: u64,
}
