//! What a client's connection occupies.

use std::sync::Arc;

use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::guard::{Seat, TurnedAway};

/// A connection's place among those that there may be. It is given back when the connection and
/// everything that answers on it has ended.
#[derive(Debug)]
pub struct Place {
    permit: OwnedSemaphorePermit,
    /// One of the descriptors that clients may have, where those are counted.
    #[expect(dead_code, reason = "holding it is its use")]
    descriptor: Option<OwnedSemaphorePermit>,
    /// Among the connections of its address, where those are counted. One that carries the requests of
    /// many addresses has none.
    pub(crate) seat: Option<Seat>,
    /// All that the connection is for is to be told this.
    pub(crate) refusal: Option<TurnedAway>,
    cut: Notify,
}

impl Place {
    /// The place of a connection that is served.
    pub fn new(permit: OwnedSemaphorePermit) -> Arc<Self> {
        Arc::new(Self::admitted(permit, None, None))
    }

    /// The same, and what else it takes.
    pub(crate) fn admitted(
        permit: OwnedSemaphorePermit,
        descriptor: Option<OwnedSemaphorePermit>,
        seat: Option<Seat>,
    ) -> Self {
        Self {
            permit,
            descriptor,
            seat,
            refusal: None,
            cut: Notify::new(),
        }
    }

    /// The place of a connection that is refused. It has its permit `instead` of one among those that
    /// are served, where that is given.
    pub(crate) fn refused(self, instead: Option<OwnedSemaphorePermit>, why: TurnedAway) -> Self {
        Self {
            permit: instead.unwrap_or(self.permit),
            refusal: Some(why),
            ..self
        }
    }

    /// Whether a connection that is served is counted with no address.
    pub(crate) fn is_uncounted(&self) -> bool {
        self.seat.is_none() && self.refusal.is_none()
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
