//! What processes use while a load goes on.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{cpu, descriptors, exact, kernel, resident};
use crate::report::{Kernel, KernelMemory, Sample, Usage};

/// How often it is looked how much memory there is.
const LOOKS: Duration = Duration::from_millis(100);

/// Watches processes, and this one as the last of them. A thread of its own looks ten times a second at
/// their memory, so that a peak is found between two samples; it ends when this is dropped.
pub(crate) struct Watch {
    watched: Vec<Watched>,
    kernel_before: Kernel,
    peaks: Arc<Mutex<Peaks>>,
    sampled: Instant,
    began: Instant,
    ended: Option<Instant>,
    /// Its end tells the thread to end.
    _stop: Sender<()>,
}

struct Watched {
    name: String,
    pid: u32,
    rss_before: Option<u64>,
    /// CPU time at the last sample, at the beginning of the load, and at its end.
    sampled: Option<Duration>,
    began: Option<Duration>,
    ended: Option<Duration>,
}

#[derive(Default)]
struct Peaks {
    /// Of each process: octets and descriptors.
    processes: Vec<[Option<u64>; 2]>,
    kernel: Kernel,
}

impl Watch {
    /// Watches from now on; what there is now is what was before the load, which begins now too until
    /// [`Watch::begin`] says otherwise.
    ///
    /// # Errors
    /// When no thread can be started. A process that is not there is none: nothing is known of it.
    pub(crate) fn start(processes: impl IntoIterator<Item = (String, u32)>) -> io::Result<Self> {
        let own = ("loadtest".to_owned(), std::process::id());
        let watched = processes.into_iter().chain([own]).map(|(name, pid)| {
            let used = cpu(pid).ok();
            Watched {
                name,
                pid,
                rss_before: memory(pid).0,
                sampled: used,
                began: used,
                ended: None,
            }
        });
        let watched = watched.collect::<Vec<_>>();
        let pids = watched.iter().map(|process| process.pid);
        let pids = pids.collect::<Vec<_>>();
        let peaks = Arc::new(Mutex::new(Peaks {
            processes: vec![[None; 2]; pids.len()],
            kernel: kernel(),
        }));
        let (stop, stopped) = mpsc::channel::<()>();
        let shared = Arc::clone(&peaks);
        let looking = move || {
            while stopped.recv_timeout(LOOKS) == Err(RecvTimeoutError::Timeout) {
                look(&pids, &shared);
            }
        };
        thread::Builder::new()
            .name("watch".to_owned())
            .spawn(looking)?;
        let now = Instant::now();
        Ok(Self {
            watched,
            kernel_before: kernel(),
            peaks,
            sampled: now,
            began: now,
            ended: None,
            _stop: stop,
        })
    }

    /// The load begins: CPU time is charged to it from now on. Memory before it stays what it was.
    pub(crate) fn begin(&mut self) {
        (self.began, self.sampled, self.ended) = (Instant::now(), Instant::now(), None);
        for process in &mut self.watched {
            let used = cpu(process.pid).ok();
            (process.began, process.sampled, process.ended) = (used, used, None);
        }
    }

    /// What each process has used since the last sample, or the beginning; this program is the last.
    pub(crate) fn sample(&mut self) -> Vec<Sample> {
        let seconds = self.sampled.elapsed().as_secs_f64();
        self.sampled = Instant::now();
        let sample = |process: &mut Watched| {
            let used = cpu(process.pid).ok();
            let since = used.zip(process.sampled);
            process.sampled = used;
            Sample {
                cores: since.map(|(now, then)| now.saturating_sub(then).as_secs_f64() / seconds),
                rss_bytes: resident(process.pid).ok(),
                descriptors: descriptors(process.pid).ok(),
            }
        };
        self.watched.iter_mut().map(sample).collect()
    }

    /// The load has ended: CPU time is not charged to it from now on.
    pub(crate) fn end(&mut self) {
        self.ended = Some(Instant::now());
        for process in &mut self.watched {
            process.ended = cpu(process.pid).ok();
        }
    }

    /// What the processes have used, this program's apart, and what the kernel kept. Memory now is that
    /// after the load; the load ends now where [`Watch::end`] was not called.
    pub(crate) fn close(mut self, delivered: u64) -> (Vec<Usage>, Usage, KernelMemory) {
        if self.ended.is_none() {
            self.end();
        }
        let pids = self.watched.iter().map(|process| process.pid);
        look(&pids.collect::<Vec<_>>(), &self.peaks);
        let ended = self.ended.unwrap_or(self.began);
        let seconds = (ended - self.began).as_secs_f64();
        let peaks = self.peaks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut usages = Vec::new();
        for (process, [peak, descriptors]) in self.watched.iter().zip(&peaks.processes) {
            let (rss_after, pss_after) = memory(process.pid);
            let used = process.ended.zip(process.began);
            let used = used.map(|(ended, began)| ended.saturating_sub(began).as_secs_f64());
            usages.push(Usage {
                name: process.name.clone(),
                pid: process.pid,
                cpu_seconds: used,
                cores: used.filter(|_| seconds > 0.0).map(|used| used / seconds),
                us_per_delivery: used
                    .filter(|_| delivered > 0)
                    .map(|used| used * 1e6 / delivered as f64),
                rss_before_bytes: process.rss_before,
                rss_peak_bytes: (*peak).max(process.rss_before).max(rss_after),
                rss_after_bytes: rss_after,
                pss_after_bytes: pss_after,
                descriptors: *descriptors,
            });
        }
        let own = usages.pop().unwrap_or_default();
        let kernel = KernelMemory {
            before: self.kernel_before,
            peak: peaks.kernel,
            after: kernel(),
        };
        (usages, own, kernel)
    }
}

/// Resident memory and the share of it, as exact as may be known.
fn memory(pid: u32) -> (Option<u64>, Option<u64>) {
    match exact(pid) {
        Ok((rss, pss)) => (Some(rss), Some(pss)),
        Err(_) => (resident(pid).ok(), None),
    }
}

fn look(pids: &[u32], peaks: &Mutex<Peaks>) {
    let now = pids
        .iter()
        .map(|pid| [resident(*pid).ok(), descriptors(*pid).ok()]);
    let (now, kernel) = (now.collect::<Vec<_>>(), kernel());
    let mut peaks = peaks.lock().unwrap_or_else(PoisonError::into_inner);
    for (peak, now) in peaks
        .processes
        .iter_mut()
        .flatten()
        .zip(now.iter().flatten())
    {
        *peak = (*peak).max(*now);
    }
    let peak = &mut peaks.kernel;
    *peak = Kernel {
        tcp_sockets: peak.tcp_sockets.max(kernel.tcp_sockets),
        tcp_buffers_bytes: peak.tcp_buffers_bytes.max(kernel.tcp_buffers_bytes),
        slab_bytes: peak.slab_bytes.max(kernel.slab_bytes),
        slab_unreclaimable_bytes: peak
            .slab_unreclaimable_bytes
            .max(kernel.slab_unreclaimable_bytes),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_charged_from_its_beginning_to_its_end() {
        let busy = || {
            let own = std::process::id();
            let start = cpu(own).unwrap();
            while cpu(own).unwrap() - start < Duration::from_millis(30) {}
        };
        let gone = ("gone".to_owned(), u32::MAX);
        let own = ("own".to_owned(), std::process::id());
        let mut watch = Watch::start([own, gone]).unwrap();
        busy();
        watch.begin();
        busy();
        let samples = watch.sample();
        assert_eq!(samples.len(), 3, "this program is the last");
        assert!(samples[0].cores.unwrap() > 0.0);
        assert_eq!(samples[1], Sample::default());
        watch.end();
        busy();
        let whole = cpu(std::process::id()).unwrap().as_secs_f64();
        let (processes, own, kernel) = watch.close(10);
        let used = processes[0].cpu_seconds.unwrap();
        assert!((0.03..=whole - 0.06).contains(&used), "{used} of {whole}");
        assert_eq!(processes[0].us_per_delivery, Some(used * 1e6 / 10.0));
        assert_eq!(own.name, "loadtest");
        assert!(own.rss_peak_bytes >= own.rss_before_bytes);
        assert!(own.rss_peak_bytes >= own.rss_after_bytes && own.descriptors > Some(0));
        assert!(kernel.peak.slab_bytes > 0);
        let gone = &processes[1];
        assert_eq!((gone.cpu_seconds, gone.rss_peak_bytes), (None, None));
    }
}
