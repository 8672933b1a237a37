//! From a SEND or a POST to the answer that its receipt may tell.

use std::sync::Arc;
use std::time::Instant;

use shared::broker::{Accepted, Broker, PublishError};
use shared::message::{Draft, GatewayId};
use shared::metrics::GatewayMetrics;

use crate::config::ReceiptAfter;
use crate::hub::Hub;
use crate::receipts::Receipts;
use crate::session::Published;

/// Publishes for the connections of one gateway.
pub(crate) struct Publisher {
    /// Where messages are accepted.
    pub(crate) broker: Arc<dyn Broker>,
    /// Names this gateway in what waits for the store.
    pub(crate) gateway: GatewayId,
    /// What waits for the store.
    pub(crate) receipts: Arc<Receipts>,
    /// Knows the newest message of each room.
    pub(crate) hub: Arc<Hub>,
    /// Where publishes are counted.
    pub(crate) metrics: Arc<GatewayMetrics>,
}

impl Publisher {
    /// Publishes a draft. Drafts for one room are accepted in the order of the calls.
    ///
    /// The answer is the broker's, or the store's where `until` says so; for what is ephemeral it is
    /// always the broker's.
    ///
    /// # Errors
    /// [`PublishError`], as the broker gives it.
    pub(crate) fn publish(
        &self,
        draft: Draft,
        until: ReceiptAfter,
    ) -> impl Future<Output = Result<Published, PublishError>> + Send + use<> {
        let wait = until == ReceiptAfter::Stored && !draft.ephemeral;
        let accepting = self.accept(draft, until);
        let receipts = Arc::clone(&self.receipts);
        async move {
            let accepted = accepting.await?;
            if wait && !receipts.wait(accepted.id).await {
                return Ok(Published::Withheld);
            }
            Ok(Published::Done(accepted))
        }
    }

    /// The first part of [`publish`](Self::publish): the answer is the broker's. What is to be
    /// [stored](Receipts::wait) is flagged so when it is accepted.
    ///
    /// # Errors
    /// [`PublishError`], as the broker gives it.
    pub(crate) fn accept(
        &self,
        mut draft: Draft,
        until: ReceiptAfter,
    ) -> impl Future<Output = Result<Accepted, PublishError>> + Send + use<> {
        self.metrics.messages_received.inc();
        // What is ephemeral has no place in the order of the room, and no store to tell of it.
        if !draft.ephemeral {
            let notified =
                until == ReceiptAfter::Stored || self.broker.guarantees().shows_stored_only();
            draft.notify = notified.then_some(self.gateway);
            draft.newer_than = self.hub.newest(&draft.room);
        }
        // Where members may see what is accepted, those here need not wait for its copy.
        let guarantees = self.broker.guarantees();
        let at_once = (guarantees.journaled && guarantees.durable && !draft.ephemeral)
            .then(|| (Arc::clone(&self.hub), draft.clone()));
        let whisper = (draft.ephemeral.then(|| self.hub.whisper(&draft.room))).flatten();
        let started = Instant::now();
        let accepting = self.broker.publish(draft);
        let metrics = Arc::clone(&self.metrics);
        async move {
            let answer = accepting.await;
            if let Some(whisper) = whisper {
                whisper.answered(answer.as_ref().ok().map(|accepted| accepted.id));
            }
            let accepted = answer.inspect_err(|error| {
                let reason = match error {
                    PublishError::Full => "journal-full",
                    PublishError::Overloaded => "overloaded",
                    PublishError::Unavailable => "unavailable",
                };
                metrics.publish_failures.with_label_values(&[reason]).inc();
            })?;
            metrics
                .accept_seconds
                .observe(started.elapsed().as_secs_f64());
            if let (Some((hub, draft)), Accepted { prev: Some(_), .. }) = (at_once, accepted) {
                hub.answered(&draft.accepted(accepted.id, accepted.prev));
            }
            Ok(accepted)
        }
    }
}
