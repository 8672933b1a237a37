//! Connections that read beside the one that writes.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use super::failure;
use crate::store::StoreError;

/// The most reads that run at the same time.
const MAX: usize = 4;

/// A pool of connections that only read, made when they are first needed.
pub(super) struct Readers {
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
}

struct Shared {
    path: PathBuf,
    busy_timeout: Duration,
    idle: Mutex<Vec<Connection>>,
    /// Whether it was said that somebody has to see to the file: callers only count failures.
    said: AtomicBool,
}

impl Readers {
    pub(super) fn new(path: &Path, busy_timeout: Duration) -> Self {
        let idle = Mutex::new(Vec::with_capacity(MAX));
        Self {
            shared: Arc::new(Shared {
                path: path.to_owned(),
                busy_timeout,
                idle,
                said: AtomicBool::new(false),
            }),
            permits: Arc::new(Semaphore::new(MAX)),
        }
    }

    /// Reads in a thread where blocking does no harm.
    pub(super) async fn run<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let permits = Arc::clone(&self.permits);
        let permit = permits
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let shared = Arc::clone(&self.shared);
        let read = move || {
            // The permit is given back when the read ends, not when its caller gives up.
            let _permit = permit;
            shared.read(read).map_err(|error| {
                let error = failure(&shared.path, error);
                let is_new = || !shared.said.swap(true, Ordering::Relaxed);
                if matches!(error, StoreError::Misconfigured(_)) && is_new() {
                    tracing::error!(%error, "what is stored cannot all be read");
                }
                error
            })
        };
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|error| StoreError::Unavailable(error.to_string()))?
    }
}

impl Shared {
    fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let outcome = read(&connection)?;
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(connection);
        Ok(outcome)
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(self.busy_timeout)?;
        Ok(connection)
    }
}
