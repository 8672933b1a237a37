//! What is accepted is stored, whatever goes wrong on the way.

use std::sync::Arc;

use harness::until::DEADLINE;
use harness::{Mongo, Redis, until};
use mongodb::bson::{Document, doc};
use mongodb::{Client, Database};
use shared::broker::{Broker, Event};
use shared::config::{BrokerUrl, Delivery, StoreUrl};
use shared::message::GatewayId;
use tokio::time::timeout;

use crate::fixture::{
    Persister, assert_stored, draft, mongo_url, open_broker, open_store, publish, settled,
};

macro_rules! on_every_broker {
    ($($promise:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $promise() {
                let broker = super::open_broker(
                    super::BrokerUrl::Memory, super::Delivery::AtLeastOnce);
                super::$promise(broker.await).await;
            })*
        }

        mod redis {
            $(#[tokio::test]
            async fn $promise() {
                let redis = super::Redis::start().await;
                let url = super::BrokerUrl::Redis(redis.url());
                let broker = super::open_broker(url, super::Delivery::AtLeastOnce);
                super::$promise(broker.await).await;
            })*
        }
    };
}

on_every_broker!(
    what_is_accepted_is_stored_and_leaves_the_journal,
    persisters_share_the_work,
    what_a_dead_persister_had_taken_is_taken_over,
    the_journal_holds_what_is_accepted_while_the_store_is_away,
    what_the_store_refuses_is_a_dead_letter,
    a_gateway_hears_what_is_stored_and_only_that,
);

async fn database(url: &StoreUrl) -> Database {
    let StoreUrl::Mongo { url, database } = url else {
        panic!("no MongoDB");
    };
    Client::with_uri_str(url).await.unwrap().database(database)
}

async fn what_is_accepted_is_stored_and_leaves_the_journal(broker: Arc<dyn Broker>) {
    let store = open_store(mongo_url(Mongo::shared().await)).await;
    let persister = Persister::start(&broker, &store);
    let ids = publish(&broker, 0..200).await;
    settled(&broker).await;
    assert_stored(&store, &ids).await;
    assert_eq!(persister.counts(), (200, 0, 0));
    let metrics = &persister.metrics.persister;
    assert!(
        metrics.batch_size.get_sample_count() >= 20,
        "batches of ten at most"
    );
    assert!((metrics.batch_size.get_sample_sum() - 200.0).abs() < 0.5);
    assert_eq!(metrics.lag_seconds.get_sample_count(), 200);
    until("the backlog's metric is 0", async || {
        metrics.backlog.get() == 0
    })
    .await;
}

async fn persisters_share_the_work(broker: Arc<dyn Broker>) {
    let store = open_store(mongo_url(Mongo::shared().await)).await;
    let two = [(); 2].map(|()| Persister::start(&broker, &store));
    for persister in &two {
        persister.is_ready().await;
    }
    let ids = publish(&broker, 0..1000).await;
    settled(&broker).await;
    assert_stored(&store, &ids).await;
    let [one, other] = two.map(|persister| persister.counts().0);
    assert_eq!(one + other, 1000);
    assert!(one > 0 && other > 0, "{one} and {other}");
}

async fn what_a_dead_persister_had_taken_is_taken_over(broker: Arc<dyn Broker>) {
    let mongo = Mongo::start().await;
    let store = open_store(mongo_url(&mongo)).await;
    let dead = Persister::start(&broker, &store);
    dead.is_ready().await;
    mongo.pause().await;
    let ids = publish(&broker, 0..50).await;
    let begun = &dead.metrics.persister.batch_size;
    until("it has taken a batch", async || {
        begun.get_sample_count() > 0
    })
    .await;
    dead.task.abort();
    assert!(dead.task.await.unwrap_err().is_cancelled());
    mongo.resume().await;

    let peer = Persister::start(&broker, &store);
    settled(&broker).await;
    assert_stored(&store, &ids).await;
    let (stored, duplicates, dead_letters) = peer.counts();
    // MongoDB may have written what the dead one sent, when it went on.
    assert_eq!((stored + duplicates, dead_letters), (50, 0));
}

async fn the_journal_holds_what_is_accepted_while_the_store_is_away(broker: Arc<dyn Broker>) {
    let mut mongo = Mongo::start().await;
    let store = open_store(mongo_url(&mongo)).await;
    let persister = Persister::start(&broker, &store);
    let mut ids = publish(&broker, 0..30).await;
    settled(&broker).await;
    mongo.kill().await;
    ids.extend(publish(&broker, 30..100).await);
    until("it says that it is not ready", async || {
        !persister.readiness.is_ready()
    })
    .await;
    assert_eq!(persister.readiness.unmet(), ["persister"]);
    assert_eq!(broker.backlog().await.unwrap(), 70);
    let backlog = &persister.metrics.persister.backlog;
    until("the backlog's metric is 70", async || backlog.get() == 70).await;

    mongo.restart().await;
    settled(&broker).await;
    assert_stored(&store, &ids).await;
    persister.is_ready().await;
    let retries = &persister.metrics.persister.retries;
    assert!(retries.with_label_values(&["store"]).get() > 0);
    assert_eq!(persister.counts().2, 0);
}

async fn what_the_store_refuses_is_a_dead_letter(broker: Arc<dyn Broker>) {
    let url = mongo_url(Mongo::shared().await);
    let database = database(&url).await;
    let store = open_store(url).await;
    let rule = doc! { "body": { "$ne": "body 7" } };
    let change = doc! { "collMod": "messages", "validator": rule };
    database.run_command(change).await.unwrap();
    let persister = Persister::start(&broker, &store);
    let ids = publish(&broker, 0..20).await;
    settled(&broker).await;
    assert_eq!(persister.counts(), (19, 0, 1));
    let mut others: Vec<_> = ids.iter().copied().filter(|id| *id != ids[7]).collect();
    let mut found = store.stored(&ids).await.unwrap();
    others.sort();
    found.sort();
    assert_eq!(found, others);
    let letters = database.collection::<Document>("dead_letters");
    assert_eq!(letters.count_documents(doc! {}).await.unwrap(), 1);
    let letter = letters.find_one(doc! {}).await.unwrap().unwrap();
    assert_eq!(letter.get_str("body").unwrap(), "body 7");
    assert!(
        letter
            .get_str("reason")
            .unwrap()
            .contains("failed validation")
    );
}

async fn a_gateway_hears_what_is_stored_and_only_that(broker: Arc<dyn Broker>) {
    let url = mongo_url(Mongo::shared().await);
    let database = database(&url).await;
    let store = open_store(url).await;
    let rule = doc! { "body": { "$ne": "body 1" } };
    let change = doc! { "collMod": "messages", "validator": rule };
    database.run_command(change).await.unwrap();
    let gateway = GatewayId::random();
    let mut fanout = broker.open_fanout(gateway).await.unwrap();
    let mut ids = Vec::new();
    for number in 0..4 {
        let mut draft = draft(number);
        // The third nobody waits for, the second is refused.
        draft.notify = (number != 2).then_some(gateway);
        ids.push(broker.publish(draft).await.unwrap().id);
    }
    let _persister = Persister::start(&broker, &store);
    settled(&broker).await;
    let mut heard = Vec::new();
    while heard.len() < 2 {
        match timeout(DEADLINE, fanout.events.next()).await.unwrap() {
            Some(Event::Stored(stored)) => heard.extend(stored),
            Some(_) => {}
            None => panic!("the link has ended"),
        }
    }
    let mut expected = [ids[0], ids[3]];
    expected.sort();
    heard.sort();
    assert_eq!(heard, expected);
}
