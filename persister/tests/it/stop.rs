//! How a persister ends.

use std::time::Duration;

use harness::until::DEADLINE;
use harness::{Mongo, until};
use persister::Settings;
use shared::config::{BrokerUrl, Delivery};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::fixture::{
    Persister, assert_stored, file_in, mongo_url, open_broker, open_store, publish,
};

#[tokio::test]
async fn what_a_broker_in_this_process_holds_is_stored_before_the_end() {
    let folder = TempDir::new().unwrap();
    let store = open_store(file_in(&folder)).await;
    let broker = open_broker(BrokerUrl::Memory, Delivery::AtLeastOnce).await;
    let persister = Persister::start(&broker, &store);
    persister.is_ready().await;
    let ids = publish(&broker, 0..500).await;
    persister.stop.cancel();
    timeout(DEADLINE, persister.task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(broker.backlog().await.unwrap(), 0);
    assert_stored(&store, &ids).await;
}

#[tokio::test]
async fn a_store_that_stays_away_does_not_keep_it_from_ending() {
    let mongo = Mongo::start().await;
    let store = open_store(mongo_url(&mongo)).await;
    let broker = open_broker(BrokerUrl::Memory, Delivery::AtLeastOnce).await;
    let settings = Settings {
        drain_timeout: Duration::from_millis(200),
        ..Persister::settings()
    };
    let persister = Persister::start_with(&broker, &store, settings);
    mongo.pause().await;
    publish(&broker, 0..20).await;
    let begun = &persister.metrics.persister.batch_size;
    until("it has taken a batch", async || {
        begun.get_sample_count() > 0
    })
    .await;
    persister.stop.cancel();
    timeout(DEADLINE, persister.task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(broker.backlog().await.unwrap(), 20);
    assert!(!persister.readiness.is_ready());
}
