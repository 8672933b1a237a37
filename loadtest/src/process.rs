//! What a process and the kernel use, from `/proc` and the process's own clock.

use std::fs;
use std::io;
use std::time::Duration;

use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

use crate::report::Kernel;

mod watch;

pub(crate) use watch::Watch;

/// The kernel counts what waits in TCP buffers in pages of this size, on all machines that we run on.
const PAGE_BYTES: u64 = 4096;

/// Linux numbers processes below this, `PID_MAX_LIMIT` of proc_sys_kernel(5).
const MAX_PID: u32 = 1 << 22;

/// The CPU time that a process has used so far, in user and kernel mode, by all its threads, those that have
/// ended too. It is the process's CPU-time clock (clock_getcpuclockid(3)): exact to the nanosecond,
/// where `/proc/PID/stat` has hundredths of a second and `/proc/PID/schedstat` one thread.
///
/// # Errors
/// When there is no such process.
pub(crate) fn cpu(pid: u32) -> io::Result<Duration> {
    // A clock of pid 0 is the caller's, and a number that is too large makes one of another process.
    let known = (1..=MAX_PID).contains(&pid).then_some(pid as i32);
    let pid = Pid::from_raw(known.ok_or(io::ErrorKind::NotFound)?);
    let now = clock_getcpuclockid(pid).and_then(|clock| clock.now())?;
    Ok(Duration::from(now))
}

/// What of a process is in memory, in octets: `VmRSS` of proc_pid_status(5), which the kernel keeps to
/// some 100 KiB. A process that has ended, and was not waited for, has none.
///
/// # Errors
/// When there is no such process.
pub(crate) fn resident(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    kib(&status, "VmRSS:").ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it has ended"))
}

/// The same as exact as the kernel can tell, in octets, and the process's share of it where pages are
/// shared. It takes milliseconds for each gigabyte, which the process waits for where it maps memory.
///
/// # Errors
/// When there is no such process, or another user's.
pub(crate) fn exact(pid: u32) -> io::Result<(u64, u64)> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let both = kib(&rollup, "Rss:").zip(kib(&rollup, "Pss:"));
    both.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it has ended"))
}

/// The descriptors that a process has open.
///
/// # Errors
/// When there is no such process, or another user's.
pub(crate) fn descriptors(pid: u32) -> io::Result<u64> {
    let folder = format!("/proc/{pid}/fd");
    // Since Linux 6.2 the folder's size is their number, whose entries take milliseconds to list when
    // there are thousands. Before, it is 0.
    match fs::metadata(&folder)?.len() {
        0 => Ok(fs::read_dir(&folder)?.count() as u64),
        count => Ok(count),
    }
}

/// What the kernel keeps now, of the whole machine; 0 where it does not say.
pub(crate) fn kernel() -> Kernel {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let octets = |name: &str| kib(&meminfo, name).unwrap_or_default();
    let [mut tcp_sockets, mut pages] = [0; 2];
    for file in ["/proc/net/sockstat", "/proc/net/sockstat6"] {
        let text = fs::read_to_string(file).unwrap_or_default();
        let (sockets, memory) = sockstat(&text);
        tcp_sockets += sockets;
        pages += memory;
    }
    Kernel {
        tcp_sockets,
        tcp_buffers_bytes: pages * PAGE_BYTES,
        slab_bytes: octets("Slab:"),
        slab_unreclaimable_bytes: octets("SUnreclaim:"),
    }
}

/// The sockets and the pages of the line for TCP, such as `TCP: inuse 19 orphan 0 tw 0 alloc 20 mem 144`.
fn sockstat(text: &str) -> (u64, u64) {
    let of = |line: &str, name: &str| {
        let mut words = line.split(' ').skip_while(|word| *word != name).skip(1);
        words.next()?.parse::<u64>().ok()
    };
    let mut lines = text.lines().filter(|line| line.starts_with("TCP"));
    let line = lines.next().unwrap_or_default();
    let [sockets, pages] = ["inuse", "mem"].map(|name| of(line, name).unwrap_or_default());
    (sockets, pages)
}

/// The value of a line such as `VmRSS:     1234 kB`, in octets.
fn kib(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib = value.trim().strip_suffix(" kB")?.trim().parse::<u64>();
    Some(kib.ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_threads_have_used_is_not_lost() {
        let own = std::process::id();
        let before = cpu(own).unwrap();
        let busy = std::thread::spawn(|| {
            let id = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
            while Duration::from(id.now().unwrap()) < Duration::from_millis(5) {}
        });
        busy.join().unwrap();
        let used = cpu(own).unwrap() - before;
        assert!(used >= Duration::from_millis(5), "{used:?}");
    }

    #[test]
    fn a_process_has_memory_and_descriptors_and_none_that_is_not_there_has() {
        let own = std::process::id();
        assert!(resident(own).unwrap() > 100_000);
        let (rss, pss) = exact(own).unwrap();
        assert!(rss >= pss && pss > 100_000, "{rss} {pss}");
        let listed = fs::read_dir(format!("/proc/{own}/fd")).unwrap().count();
        assert!(listed > 0 && descriptors(own).unwrap() > 0);
        for pid in [0, u32::MAX, i32::MAX as u32] {
            assert!(cpu(pid).is_err() && resident(pid).is_err(), "{pid}");
            assert!(exact(pid).is_err() && descriptors(pid).is_err(), "{pid}");
        }
    }

    #[test]
    fn descriptors_are_counted_as_they_are_opened() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .stdin(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let folder = format!("/proc/{}/fd", child.id());
        let listed = fs::read_dir(folder).unwrap().count() as u64;
        assert_eq!(descriptors(child.id()).unwrap(), listed);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn the_kernels_memory_of_sockets_is_read() {
        let text =
            "sockets: used 38\nTCP: inuse 19 orphan 0 tw 8037 alloc 20 mem 144\nUDP: mem 3\n";
        assert_eq!(sockstat(text), (19, 144));
        assert_eq!(sockstat("TCP6: inuse 2\n"), (2, 0));
        assert_eq!(sockstat(""), (0, 0));
        assert!(kernel().slab_bytes >= kernel().slab_unreclaimable_bytes);
    }
}
