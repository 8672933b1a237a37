//! The threads of the generator that listen.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use shared::exit::Failure;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

use crate::heart::Heart;

/// Threads with a runtime each. What runs on them ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Crew {
    lanes: Vec<Lane>,
    stop: CancellationToken,
}

/// One thread. What runs on it never waits for what runs on another.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Where tasks are started.
    pub handle: Handle,
    /// Who shows servers that its connections live.
    pub heart: Arc<Heart>,
    task: String,
    thread: Option<JoinHandle<()>>,
}

impl Crew {
    /// So many threads; half the cores where it is not said how many.
    ///
    /// # Errors
    /// [`Failure::Other`] where the system gives no thread or no epoll.
    pub(crate) fn start(threads: Option<u16>) -> Result<Self, Failure> {
        let threads = threads.map_or_else(default_threads, usize::from);
        let mut crew = Self {
            lanes: Vec::new(),
            stop: CancellationToken::new(),
        };
        for _ in 0..threads {
            let lane = lane(crew.stop.clone());
            let lane = lane.map_err(|error| Failure::Other(format!("no thread: {error}")))?;
            crew.lanes.push(lane);
        }
        Ok(crew)
    }

    /// The threads.
    pub(crate) fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// CPU time that each thread has used so far.
    pub(crate) fn used(&self) -> Vec<Duration> {
        let used = |lane: &Lane| used(&lane.task).unwrap_or_default();
        self.lanes.iter().map(used).collect()
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.stop.cancel();
        for lane in &mut self.lanes {
            if let Some(thread) = lane.thread.take() {
                // A thread that panicked has said so already.
                let _ = thread.join();
            }
        }
    }
}

/// Threads that listen where it is not said how many: half the cores, at least one.
pub(crate) fn default_threads() -> usize {
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    (cores / 2).clamp(1, 64)
}

/// CPU time of a task, such as `self/task/4711` or `thread-self`; `None` where the kernel does not
/// say.
pub(crate) fn used(task: &str) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/{task}/schedstat")).ok()?;
    let nanos = text.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

fn lane(stop: CancellationToken) -> io::Result<Lane> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (tell, told) = mpsc::channel();
    let heart = Arc::new(Heart::default());
    let beating = Arc::clone(&heart);
    let thread = thread::Builder::new().name("listener".into());
    let thread = thread.spawn(move || {
        let link = fs::read_link("/proc/thread-self").unwrap_or_default();
        // Nobody listens where the crew has been given up already.
        let _ = tell.send(link.to_string_lossy().into_owned());
        runtime.spawn(async move { beating.beat().await });
        runtime.block_on(stop.cancelled());
    })?;
    let task = told.recv().unwrap_or_default();
    Ok(Lane {
        handle,
        heart,
        task,
        thread: Some(thread),
    })
}
