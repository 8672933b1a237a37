//! The CPU time that processes have used, from `/proc`.

use std::fs;
use std::io;
use std::time::Duration;

/// Linux counts in hundredths of a second towards programs, whatever the kernel's own tick.
const TICKS_PER_SECOND: u64 = 100;

/// What a process has used so far, in user and kernel mode, all threads together; `"self"` is this
/// one. To 10 ms.
///
/// # Errors
/// When there is no such process, or no `/proc`.
pub(crate) fn used(process: &str) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    ticks(&stat)
        .map(|ticks| Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/PID/stat is not as known"))
}

/// Fields 14 and 15 of proc_pid_stat(5). The second one, the name, is in parentheses and may hold
/// anything.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user = fields.next()?.parse::<u64>().ok()?;
    let system = fields.next()?.parse::<u64>().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_may_be_called_anything() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 5 0";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("7 (a) S 1"), None);
        assert!(used("self").is_ok());
    }
}
