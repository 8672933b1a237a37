//! How many publishes of this process wait for their answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The count; clones share it.
#[derive(Clone, Default)]
pub(super) struct Unanswered(Arc<AtomicUsize>);

/// One that is counted until it is dropped.
pub(super) struct Waiting(Unanswered);

impl Unanswered {
    /// Counts one more.
    pub(super) fn wait(&self) -> Waiting {
        self.0.fetch_add(1, Ordering::Relaxed);
        Waiting(self.clone())
    }

    /// Whether there are any.
    pub(super) fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Unanswered(count) = &self.0;
        count.fetch_sub(1, Ordering::Relaxed);
    }
}
