//! What a client's connection occupies.

use std::sync::Arc;

use tokio::sync::{Notify, OwnedSemaphorePermit};

/// A connection's place among those that there may be. It is given back when the connection and
/// everything that answers on it has ended.
#[derive(Debug)]
pub struct Place {
    #[expect(dead_code, reason = "holding it is its use")]
    permit: OwnedSemaphorePermit,
    /// All that the connection is for is to be told that there is no room.
    pub(crate) is_refusal: bool,
    cut: Notify,
}

impl Place {
    /// The place of a connection that is served.
    pub fn new(permit: OwnedSemaphorePermit) -> Arc<Self> {
        Self::with(permit, false)
    }

    /// The place of a connection that is told that there is no room.
    pub(crate) fn refusal(permit: OwnedSemaphorePermit) -> Arc<Self> {
        Self::with(permit, true)
    }

    fn with(permit: OwnedSemaphorePermit, is_refusal: bool) -> Arc<Self> {
        Arc::new(Self {
            permit,
            is_refusal,
            cut: Notify::new(),
        })
    }

    /// Asks whoever drives the connection to drop it: the client takes nothing any more.
    pub(crate) fn cut(&self) {
        self.cut.notify_one();
    }

    /// Resolves when the connection is to be dropped. Who drives an HTTP connection awaits this
    /// beside it.
    pub async fn until_cut(&self) {
        self.cut.notified().await;
    }

    /// Whether an answer is being streamed on the connection, however long that takes.
    pub fn is_streaming(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1
    }
}
