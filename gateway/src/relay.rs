//! Takes what the broker's live link brings to the hub and to the receipts that wait.

use std::sync::Arc;

use shared::broker::{Event, Events, Guarantees};
use tokio_util::sync::CancellationToken;

use crate::hub::Hub;
use crate::receipts::Receipts;
use crate::unstored::Unstored;

/// Runs until `stop`, or until the link is closed.
///
/// Where the broker would forget a message with this process, members see it when the store has
/// it: what was seen must not be gone, and sent again under another id, after a restart.
pub(crate) async fn run(
    mut events: Events,
    guarantees: Guarantees,
    hub: Arc<Hub>,
    receipts: Arc<Receipts>,
    stop: CancellationToken,
) {
    let mut unstored = guarantees.shows_stored_only().then(Unstored::default);
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = events.next() => event,
        };
        match (event, &mut unstored) {
            (Some(Event::Message(message)), None) => hub.dispatch(&message),
            (Some(Event::Message(message)), Some(unstored)) => unstored.hold(message),
            (Some(Event::Stored(ids)), unstored) => {
                if let Some(unstored) = unstored {
                    for message in unstored.release(&ids) {
                        hub.dispatch(&message);
                    }
                }
                receipts.release(&ids);
            }
            (Some(Event::Gap), _) => hub.repair_all(),
            (None, _) => return,
        }
    }
}
