//! Every metric of every process: the one file that spells their names. Label values come from
//! closed sets; a room's or user's name is never one.

use std::sync::Arc;

use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};

/// Seconds from 100 µs to about 13 s, doubling: latencies inside one data centre.
fn seconds() -> Vec<f64> {
    (0..18)
        .map(|power| 0.0001 * f64::from(1 << power))
        .collect()
}

/// The metrics of one process. Cloning shares them.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// What a gateway counts.
    pub gateway: Arc<GatewayMetrics>,
    /// What every user of a broker counts.
    pub broker: Arc<BrokerMetrics>,
    /// What a persister counts.
    pub persister: Arc<PersisterMetrics>,
}

/// What a gateway counts.
#[derive(Debug)]
pub struct GatewayMetrics {
    /// Connections open now.
    pub connections: IntGauge,
    /// Connections ever, by `transport`.
    pub connections_total: IntCounterVec,
    /// Connections closed, by `reason`: the labels of the gateway's close-reason table.
    pub disconnects: IntCounterVec,
    /// Messages that clients and back ends asked to publish.
    pub messages_received: IntCounter,
    /// MESSAGE frames of live messages handed to a socket.
    pub messages_delivered: IntCounter,
    /// Seconds from a message's acceptance to its last octet being handed to a member's socket.
    pub fanout_seconds: Histogram,
    /// Seconds from a SEND or POST to the broker's answer.
    pub accept_seconds: Histogram,
    /// Octets queued for sockets now.
    pub outbox_bytes: IntGauge,
    /// Rooms for which something missed was fetched.
    pub gaps_repaired: IntCounter,
    /// Rooms for which something missed could not be fetched, so that subscribers were cut off.
    pub gaps_unrepaired: IntCounter,
    /// Publishes that the broker did not accept, by `reason`.
    pub publish_failures: IntCounterVec,
    /// Receipts withheld because the store had not answered within the deadline.
    pub receipts_withheld: IntCounter,
    /// Rooms with a member now.
    pub rooms: IntGauge,
    /// HTTP requests answered, by `code` class (`2xx`, `4xx`, `5xx`).
    pub http_requests: IntCounterVec,
    /// Connections on which no request ever came (`timeout`, `broken`), that spoke no HTTP (`broken`), no
    /// TLS (`tls`), or whose proxy did not say whose they are (`proxy`), by `reason`. A client that has
    /// asked and then goes or falls silent is none.
    pub http_failures: IntCounterVec,
    /// Tokens that were not accepted, by `reason` (`missing`, `invalid`, `expired`, `unavailable`).
    pub auth_failures: IntCounterVec,
    /// Attempts to read the keys for tokens anew, by `outcome` (`ok`, `failed`).
    pub key_refreshes: IntCounterVec,
    /// Decisions about what a user may do, by `outcome` (`granted`, `refused`, `unavailable`).
    pub access_decisions: IntCounterVec,
    /// Seconds that the store or the application's back end took for one of them.
    pub access_seconds: Histogram,
    /// Connections and requests that were turned away, by `reason` (`connections`, `memory`,
    /// `address`, `user`, `rate`).
    pub turned_away: IntCounterVec,
    /// Times that a client was slowed down, by the `scope` of the limit (`connection`, `user`,
    /// `address`).
    pub slowed: IntCounterVec,
    /// Times that accepting paused because the system had no descriptor or memory left.
    pub accept_pauses: IntCounter,
    /// Octets of memory that the process has, where that is measured.
    pub memory_bytes: IntGauge,
    /// Attempts to read the certificate anew, by `outcome` (`ok`, `failed`).
    pub tls_reloads: IntCounterVec,
}

/// What every user of a broker counts.
#[derive(Debug)]
pub struct BrokerMetrics {
    /// Connections to the broker that had to be made again, by `link` (`fanout`, `publish`, `feed`).
    pub reconnects: IntCounterVec,
    /// Deliveries dropped because the hand-over was at its bound; each is a gap, which is repaired
    /// unless delivery is at-most-once.
    pub handover_dropped: IntCounter,
    /// Messages of at-most-once delivery that no persister took in time: they are lost.
    pub feed_dropped: IntCounter,
    /// Keys that the broker's servers evicted while this process looked.
    pub evicted_keys: IntCounter,
}

/// What a persister counts.
#[derive(Debug)]
pub struct PersisterMetrics {
    /// Messages per batch.
    pub batch_size: Histogram,
    /// Seconds that the store took for a batch.
    pub store_seconds: Histogram,
    /// Seconds from a message's acceptance to its being stored.
    pub lag_seconds: Histogram,
    /// Messages accepted and not stored, over all shards.
    pub backlog: IntGauge,
    /// Messages stored for the first time.
    pub stored: IntCounter,
    /// Messages that were in the store already.
    pub duplicates: IntCounter,
    /// Messages that can never be stored.
    pub dead_letters: IntCounter,
    /// Attempts that failed and are repeated, by `operation` (`feed`, `store`, `settle`).
    pub retries: IntCounterVec,
}

impl Metrics {
    /// All metrics at zero, in a registry of their own.
    pub fn new() -> Self {
        let registry = Registry::new_custom(Some("roomcast".into()), None)
            .expect("a non-empty prefix is valid");
        let r = &registry;
        Self {
            gateway: Arc::new(GatewayMetrics::new(r)),
            broker: Arc::new(BrokerMetrics::new(r)),
            persister: Arc::new(PersisterMetrics::new(r)),
            registry,
        }
    }

    /// The metrics in Prometheus's text format, version 0.0.4.
    pub fn encode(&self) -> Vec<u8> {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("writing to memory does not fail");
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl GatewayMetrics {
    fn new(r: &Registry) -> Self {
        Self {
            connections: gauge(r, "gateway_connections", "Connections open now"),
            connections_total: counters(
                r,
                "gateway_connections_total",
                "Connections accepted",
                &["transport"],
            ),
            disconnects: counters(
                r,
                "gateway_disconnects_total",
                "Connections closed, by reason",
                &["reason"],
            ),
            messages_received: counter(
                r,
                "gateway_messages_received_total",
                "Messages that clients and back ends asked to publish",
            ),
            messages_delivered: counter(
                r,
                "gateway_messages_delivered_total",
                "MESSAGE frames of live messages handed to a socket",
            ),
            fanout_seconds: histogram(
                r,
                "gateway_fanout_seconds",
                "From a message's acceptance to its being written to a member's socket",
                seconds(),
            ),
            accept_seconds: histogram(
                r,
                "gateway_accept_seconds",
                "From a SEND or POST to the broker's answer",
                seconds(),
            ),
            outbox_bytes: gauge(r, "gateway_outbox_bytes", "Octets queued for sockets now"),
            gaps_repaired: counter(
                r,
                "gateway_gaps_repaired_total",
                "Rooms for which something missed was fetched and delivered",
            ),
            gaps_unrepaired: counter(
                r,
                "gateway_gaps_unrepaired_total",
                "Rooms whose members were cut off because something missed could not be fetched",
            ),
            publish_failures: counters(
                r,
                "gateway_publish_failures_total",
                "Publishes that the broker did not accept",
                &["reason"],
            ),
            receipts_withheld: counter(
                r,
                "gateway_receipts_withheld_total",
                "Receipts withheld because the store did not have the message in time",
            ),
            rooms: gauge(
                r,
                "gateway_rooms",
                "Rooms with a member on this gateway now",
            ),
            http_requests: counters(
                r,
                "gateway_http_requests_total",
                "HTTP requests answered, by class of status",
                &["code"],
            ),
            http_failures: counters(
                r,
                "gateway_http_failures_total",
                "Connections whose request never came, or was no HTTP",
                &["reason"],
            ),
            auth_failures: counters(
                r,
                "gateway_auth_failures_total",
                "Tokens that were not accepted",
                &["reason"],
            ),
            key_refreshes: counters(
                r,
                "gateway_key_refreshes_total",
                "Attempts to read the keys for tokens anew",
                &["outcome"],
            ),
            access_decisions: counters(
                r,
                "gateway_access_decisions_total",
                "Decisions about what a user may do",
                &["outcome"],
            ),
            access_seconds: histogram(
                r,
                "gateway_access_seconds",
                "What the store or the application's back end took for a decision",
                seconds(),
            ),
            turned_away: counters(
                r,
                "gateway_turned_away_total",
                "Connections and requests that were turned away",
                &["reason"],
            ),
            slowed: counters(
                r,
                "gateway_slowed_total",
                "Times that a client was slowed down, by the scope of the limit",
                &["scope"],
            ),
            accept_pauses: counter(
                r,
                "gateway_accept_pauses_total",
                "Times that accepting paused because the system had no descriptor or memory left",
            ),
            memory_bytes: gauge(
                r,
                "gateway_memory_bytes",
                "Octets of memory that the process has, where --max-memory is given",
            ),
            tls_reloads: counters(
                r,
                "gateway_tls_reloads_total",
                "Attempts to read the certificate anew",
                &["outcome"],
            ),
        }
    }
}

impl BrokerMetrics {
    fn new(r: &Registry) -> Self {
        Self {
            reconnects: counters(
                r,
                "broker_reconnects_total",
                "Connections to the broker that were made again",
                &["link"],
            ),
            handover_dropped: counter(
                r,
                "broker_handover_dropped_total",
                "Deliveries dropped at a full hand-over, each of them a gap",
            ),
            feed_dropped: counter(
                r,
                "broker_feed_dropped_total",
                "Messages of at-most-once delivery that were not taken in time and are lost",
            ),
            evicted_keys: counter(
                r,
                "broker_evicted_keys_total",
                "Keys that Redis evicted: accepted messages may be lost",
            ),
        }
    }
}

impl PersisterMetrics {
    fn new(r: &Registry) -> Self {
        let sizes = (0..12).map(|power| f64::from(1 << power)).collect();
        Self {
            batch_size: histogram(r, "persister_batch_size", "Messages per batch", sizes),
            store_seconds: histogram(
                r,
                "persister_store_seconds",
                "What the store took for a batch",
                seconds(),
            ),
            lag_seconds: histogram(
                r,
                "persister_lag_seconds",
                "From a message's acceptance to its being stored",
                seconds(),
            ),
            backlog: gauge(r, "persister_backlog", "Messages accepted and not stored"),
            stored: counter(
                r,
                "persister_stored_total",
                "Messages stored for the first time",
            ),
            duplicates: counter(
                r,
                "persister_duplicates_total",
                "Messages that were in the store already",
            ),
            dead_letters: counter(
                r,
                "persister_dead_letters_total",
                "Messages that can never be stored, kept as dead letters",
            ),
            retries: counters(
                r,
                "persister_retries_total",
                "Attempts that failed and are repeated",
                &["operation"],
            ),
        }
    }
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    registered(registry, IntGauge::new(name, help))
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    registered(registry, IntCounter::new(name, help))
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    registered(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: Vec<f64>) -> Histogram {
    registered(
        registry,
        Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)),
    )
}

fn registered<C>(registry: &Registry, collector: prometheus::Result<C>) -> C
where
    C: prometheus::core::Collector + Clone + 'static,
{
    let collector = collector.expect("the names in this file are valid");
    registry
        .register(Box::new(collector.clone()))
        .expect("the names in this file are unique");
    collector
}
