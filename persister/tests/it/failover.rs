//! A store that fails over, or is away for long, under persisters that work.

use std::sync::Arc;
use std::time::Duration;

use harness::{Mongo, MongoSet, Redis, until};
use mongodb::Client;
use mongodb::bson::{Document, doc};
use persister::Settings;
use shared::broker::{Broker, PublishError};
use shared::config::{BrokerSettings, BrokerUrl, Delivery, StoreUrl};
use shared::message::MessageId;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fixture::{
    Persister, assert_stored, broker_settings, draft, mongo_url, on, open_broker_with, open_store,
    process, publish, settled,
};

/// Publishes without a pause until it is told to stop.
struct Load {
    stop: CancellationToken,
    task: JoinHandle<Vec<MessageId>>,
}

impl Load {
    fn start(broker: &Arc<dyn Broker>) -> Self {
        let stop = CancellationToken::new();
        let (broker, until) = (Arc::clone(broker), stop.clone());
        let task = tokio::spawn(async move {
            let mut ids = Vec::new();
            while !until.is_cancelled() {
                ids.extend(publish(&broker, ids.len()..ids.len() + 5).await);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            ids
        });
        Self { stop, task }
    }

    async fn stop(self) -> Vec<MessageId> {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

/// Puts something into the journal that is no message.
async fn poison(redis: &Redis) {
    let mut add = redis::cmd("XADD");
    add.arg("rc:{1}:journal").arg("*").arg("m").arg("garbage");
    let mut connection = redis.connection().await;
    add.query_async::<()>(&mut connection).await.unwrap();
}

#[tokio::test]
async fn a_failover_of_the_store_loses_nothing_and_doubles_nothing() {
    let redis = Redis::start().await;
    let mut set = MongoSet::start().await;
    let database = Mongo::database();
    let url = StoreUrl::Mongo {
        url: set.url(&database),
        database: database.clone(),
    };
    let store = open_store(url.clone()).await;
    let broker = on(&redis, Delivery::AtLeastOnce).await;
    let _first = process(&redis.url(), &url).await;
    let _second = process(&redis.url(), &url).await;
    let load = Load::start(&broker);
    poison(&redis).await;
    set.kill_primary().await;
    poison(&redis).await;
    set.restart_dead().await;
    set.step_down().await;
    poison(&redis).await;
    set.pause_primary().await;
    poison(&redis).await;
    set.resume().await;
    let ids = load.stop().await;
    settled(&broker).await;
    assert_stored(&store, &ids).await;

    let client = Client::with_uri_str(set.url(&database)).await.unwrap();
    let letters = client
        .database(&database)
        .collection::<Document>("dead_letters");
    assert_eq!(letters.count_documents(doc! {}).await.unwrap(), 4);
}

#[tokio::test]
async fn a_journal_that_is_full_refuses_until_the_store_is_back_and_is_then_emptied_in_large_batches()
 {
    let redis = Redis::start().await;
    let mut mongo = Mongo::start().await;
    let store = open_store(mongo_url(&mongo)).await;
    let settings = BrokerSettings {
        // Of four shards, of which five rooms use some.
        journal_max: 1600,
        ..broker_settings(BrokerUrl::Redis(redis.url()), Delivery::AtLeastOnce)
    };
    let broker = open_broker_with(settings).await;
    let settings = Settings {
        batch_max: 200,
        ..Persister::settings()
    };
    let persister = Persister::start_with(&broker, &store, settings);
    persister.is_ready().await;
    mongo.kill().await;
    let mut ids = Vec::new();
    let full = loop {
        match broker.publish(draft(ids.len())).await {
            Ok(accepted) => ids.push(accepted.id),
            Err(error) => break error,
        }
    };
    assert_eq!(full, PublishError::Full);
    let held = ids.len();
    let retries = &persister.metrics.persister.retries;
    until("it has tried again and again", async || {
        retries.with_label_values(&["store"]).get() >= 3
    })
    .await;
    assert_eq!(
        broker.publish(draft(0)).await.unwrap_err(),
        PublishError::Full
    );
    mongo.restart().await;
    until("messages are accepted again", async || {
        let accepted = broker.publish(draft(ids.len())).await;
        ids.extend(accepted.map(|accepted| accepted.id));
        ids.len() > held
    })
    .await;
    settled(&broker).await;
    assert_stored(&store, &ids).await;
    let batches = persister.metrics.persister.batch_size.get_sample_count();
    assert!(
        batches <= 20,
        "{batches} batches for {} messages",
        ids.len()
    );
}
