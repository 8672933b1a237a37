//! How many descriptors the process may have, and how many of them are for clients.

use std::fs;

use rlimit::Resource;

/// Descriptors that are left for others than clients, where there are enough: operators' connections,
/// and those to the broker and the store that are made again.
const SPARE: usize = 128;

/// Raises the limit of descriptors as far as this process may, and gives how many of them there are
/// for clients; `None` where the system has no limit.
pub(crate) fn for_clients(wanted: usize) -> Option<usize> {
    let limit = match raised() {
        Ok(limit) if limit == rlimit::INFINITY => return None,
        Ok(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
        Err(reason) => {
            tracing::warn!(%reason, "how many descriptors there may be is unknown");
            return None;
        }
    };
    // Where they cannot be counted, SPARE is for those too.
    let taken = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let free = limit.saturating_sub(taken);
    let clients = (free - SPARE.min(free / 4)).max(1);
    if clients < wanted {
        tracing::warn!(
            limit,
            clients,
            "the limit of descriptors (ulimit -n) leaves fewer connections than --max-connections \
             names: beyond them, accepting pauses"
        );
    }
    Some(clients)
}

fn raised() -> std::io::Result<u64> {
    let (soft, hard) = Resource::NOFILE.get()?;
    if soft < hard && Resource::NOFILE.set(hard, hard).is_ok() {
        return Ok(hard);
    }
    Ok(soft)
}
