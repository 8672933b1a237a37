//! Slow and strange peers: each meets its limit, its ERROR or close code and its metric, while the
//! other clients of the gateway talk on.

mod breaches;
mod floods;
mod silent;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gateway::close::CloseReason;
use harness::StompClient;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::running::{Backend, Running, backend};

/// A gateway on which two clients talk all the while.
struct Watched {
    gateway: Running,
    storing: JoinHandle<()>,
    /// How many messages have come, each in its turn.
    heard: Arc<AtomicUsize>,
    enough: CancellationToken,
    talking: JoinHandle<()>,
    _backend: Backend,
}

impl Watched {
    /// Starts a gateway with these flags, and the two on it.
    async fn start(flags: &[&str]) -> Self {
        let backend = backend(&["--recent-max", "1"]).await;
        let storing = backend.storing().await;
        let gateway = backend.gateway(flags).await;
        let mut reader = gateway.client("reader").await;
        reader
            .subscribe("w", "/topic/rooms/witness", &[])
            .await
            .unwrap();
        let writer = gateway.client("writer").await;
        let (heard, enough) = (Arc::default(), CancellationToken::new());
        let talking = talk(writer, reader, Arc::clone(&heard), enough.clone());
        let talking = tokio::spawn(talking);
        let _backend = backend;
        Self {
            gateway,
            storing,
            heard,
            enough,
            talking,
            _backend,
        }
    }

    /// So many connections must end for these reasons and no other, and the two go on talking.
    async fn ended(self, reasons: &[(&str, u64)]) {
        let metrics = &self.gateway.metrics.gateway;
        let gone = |reason: &str| metrics.disconnects.with_label_values(&[reason]).get();
        let wanted: u64 = reasons.iter().map(|(_, times)| times).sum();
        harness::until(&format!("the end of {reasons:?}"), async || {
            CloseReason::ALL
                .iter()
                .map(|reason| gone(reason.label()))
                .sum::<u64>()
                >= wanted
        })
        .await;
        let heard = self.heard.load(Ordering::Relaxed);
        harness::until("the others to talk on", async || {
            assert!(!self.talking.is_finished(), "they stopped");
            self.heard.load(Ordering::Relaxed) > heard + 5
        })
        .await;
        for reason in CloseReason::ALL {
            let label = reason.label();
            let wanted = reasons.iter().find(|(reason, _)| *reason == label);
            assert_eq!(
                gone(label),
                wanted.map_or(0, |(_, times)| *times),
                "{label}"
            );
        }
        assert_eq!(metrics.connections.get(), 2);
        self.enough.cancel();
        self.talking.await.unwrap();
        self.storing.abort();
    }
}

/// Says a number, and hears it before the next.
async fn talk(
    mut writer: StompClient,
    mut reader: StompClient,
    heard: Arc<AtomicUsize>,
    enough: CancellationToken,
) {
    for number in 0.. {
        let body = number.to_string();
        writer
            .send("/app/rooms/witness", body.clone(), &[("receipt", &body)])
            .await
            .unwrap();
        assert_eq!(reader.message().await.unwrap().body, body);
        writer.receipt(&body).await.unwrap();
        heard.fetch_add(1, Ordering::Relaxed);
        if enough.is_cancelled() {
            return;
        }
    }
}
