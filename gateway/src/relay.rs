//! Takes what the broker's live link brings to the hub and to the receipts that wait.

use std::sync::Arc;

use shared::broker::{Event, Events};
use tokio_util::sync::CancellationToken;

use crate::hub::Hub;
use crate::receipts::Receipts;

/// Runs until `stop`, or until the link is closed.
pub(crate) async fn run(
    mut events: Events,
    hub: Arc<Hub>,
    receipts: Arc<Receipts>,
    stop: CancellationToken,
) {
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = events.next() => event,
        };
        match event {
            Some(Event::Message(message)) => hub.dispatch(&message),
            Some(Event::Stored(ids)) => receipts.release(&ids),
            Some(Event::Gap) => hub.repair_all(),
            None => return,
        }
    }
}
