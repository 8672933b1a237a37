//! Takes what the broker's live link brings to the hub and to the receipts that wait.

use std::sync::Arc;
use std::time::SystemTime;

use shared::broker::{Event, Events, Guarantees};
use tokio_util::sync::CancellationToken;

use crate::hub::Hub;
use crate::receipts::Receipts;
use crate::unstored::Unstored;

/// Runs until `stop`, or until the link is closed.
///
/// Where the broker would forget a message with this process, members see it when the store has
/// it: what was seen must not be gone, and sent again under another id, after a restart. What is
/// ephemeral they see at once.
pub(crate) async fn run(
    mut events: Events,
    guarantees: Guarantees,
    hub: Arc<Hub>,
    receipts: Arc<Receipts>,
    stop: CancellationToken,
) {
    let mut unstored = guarantees.shows_stored_only().then(Unstored::default);
    // What was missed is read from the store alone, which may have it only later.
    let mut missed_until = None;
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = events.next() => event,
        };
        match (event, &mut unstored) {
            (Some(Event::Message(message)), None) => hub.dispatch(&message),
            // The store will never have it.
            (Some(Event::Message(message)), Some(_)) if message.ephemeral => hub.dispatch(&message),
            (Some(Event::Message(message)), Some(unstored)) => unstored.hold(message),
            (Some(Event::Stored(ids)), unstored) => {
                if let Some(unstored) = unstored {
                    for message in unstored.release(&ids) {
                        hub.dispatch(&message);
                    }
                }
                if let Some(time) = missed_until {
                    hub.repair_all();
                    // Messages are stored in the order in which they were accepted.
                    if ids.iter().any(|id| id.created_at() > time) {
                        missed_until = None;
                    }
                }
                receipts.release(&ids);
            }
            (Some(Event::Gap), unstored) => {
                missed_until = unstored.is_some().then(SystemTime::now);
                hub.repair_all();
            }
            (None, _) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shared::broker::handover::handover;
    use shared::broker::{Broker, Earlier, open};
    use shared::config::{
        BrokerSettings, BrokerUrl, Delivery, Retention, StoreSettings, StoreUrl, Without,
    };
    use shared::message::{GatewayId, Message, MessageId, RoomName, Stamp, UserName};
    use shared::metrics::Metrics;
    use shared::stomp::Version;
    use shared::store;

    use super::*;
    use crate::members::Member;
    use crate::outbox::outbox;
    use crate::past::Past;
    use crate::session::output::{Address, Slot};

    const LONG: Duration = Duration::from_secs(60);

    async fn memory(metrics: &Metrics) -> Arc<dyn Broker> {
        let settings = BrokerSettings {
            url: BrokerUrl::Memory,
            delivery: Delivery::AtLeastOnce,
            shards: 1,
            journal_max: 100,
            recent_max: 1,
            recent_ttl: LONG,
            publish_timeout: LONG,
            connect_timeout: LONG,
            takeover_after: LONG,
            replicas: None,
            without: shared::config::Without::NOTHING,
        };
        open(&settings, metrics, Earlier::default()).await.unwrap()
    }

    #[tokio::test]
    async fn what_the_hand_over_dropped_is_shown_once_it_is_stored() {
        let folder = tempfile::tempdir().unwrap();
        let store = StoreSettings {
            url: StoreUrl::Sqlite(folder.path().join("messages.db")),
            connect_timeout: LONG,
            operation_timeout: LONG,
            retention: Retention::Unchanged,
        };
        let store = store::open(&store).await.unwrap();
        let metrics = Metrics::new();
        let broker = memory(&metrics).await;
        let fanout = broker.open_fanout(GatewayId::random()).await.unwrap();
        let past = Arc::new(Past::new(
            Arc::clone(&broker),
            Arc::clone(&store),
            &Without::NOTHING,
        ));
        let gateway = Arc::clone(&metrics.gateway);
        let hub = Arc::new(Hub::new(
            fanout.subscriber,
            past,
            true,
            broker.window(),
            1 << 20,
            Without::NOTHING,
            gateway,
        ));
        let room = RoomName::parse("r").unwrap();
        let (outbox, mut deliveries) = outbox(1 << 20, Arc::clone(&metrics.gateway));
        let member = Member {
            outbox,
            slot: Slot(0),
        };
        let address = Address {
            version: Version::V1_2,
            subscription: Some("s".into()),
            destination: "/topic/rooms/r".into(),
            acknowledged: false,
            text_only: false,
        };
        let membership = hub.join(room.clone(), address, member);
        membership.confirmed().await.unwrap();

        // Too small for any message, and large enough for notices.
        let (link, events) = handover(100, Arc::clone(&metrics.broker));
        let receipts = Arc::new(Receipts::new(LONG, Arc::clone(&metrics.gateway)));
        let stop = CancellationToken::new();
        let relay = run(events, broker.guarantees(), hub, receipts, stop.clone());
        let relay = tokio::spawn(relay);
        let message = Arc::new(Message {
            id: MessageId::new(Stamp { ms: 1, seq: 0 }, 0),
            room,
            sender: UserName::parse("kim").unwrap(),
            content_type: None,
            headers: Vec::new(),
            body: "hi".into(),
            idempotency_key: None,
            prev: None,
            ephemeral: false,
        });
        link.offer(Event::Message(Arc::clone(&message)));
        harness::until("the drop to be counted", async || {
            metrics.broker.handover_dropped.get() == 1
        })
        .await;
        store.insert(&[Arc::clone(&message)]).await.unwrap();
        link.offer(Event::Stored(vec![message.id]));
        let shown = tokio::time::timeout(LONG, deliveries.next()).await;
        assert_eq!(shown.unwrap().encoded.id, message.id);
        stop.cancel();
        relay.await.unwrap();
    }
}
