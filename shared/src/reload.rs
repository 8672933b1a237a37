//! How a process is told to read its files anew.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGHUP, as one part of a process hears it. Every part that has files to read anew has its own,
/// and each hears every signal.
#[derive(Debug)]
pub struct Reload(Signal);

impl Reload {
    /// Hears SIGHUP from here on, which no longer ends the process. To be called inside the runtime.
    pub fn listen() -> Self {
        Self(signal(SignalKind::hangup()).expect("every Unix lets a process handle SIGHUP"))
    }

    /// Resolves when files are to be read anew. Signals that come while nobody awaits this are one,
    /// and none is lost; it may be dropped at any time.
    pub async fn asked(&mut self) {
        if self.0.recv().await.is_none() {
            // The runtime is ending, and nobody can ask any more.
            std::future::pending().await
        }
    }
}
