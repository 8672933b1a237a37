//! Persisters as processes of their own, on one Redis and one MongoDB.

use harness::{Mongo, Process, Redis, until};
use mongodb::Client;
use mongodb::bson::{Document, doc};
use shared::config::{Delivery, StoreUrl};

use crate::fixture::{
    Persister, assert_stored, mongo_url, on, open_store, process, publish, settled, stored, taken,
};

#[tokio::test]
async fn what_a_killed_process_had_taken_is_taken_over() {
    let redis = Redis::start().await;
    let mongo = Mongo::start().await;
    let url = mongo_url(&mongo);
    let store = open_store(url.clone()).await;
    let broker = on(&redis, Delivery::AtLeastOnce).await;
    let mut first = process(&redis.url(), &url).await;
    let mut ids = publish(&broker, 0..100).await;
    settled(&broker).await;
    mongo.pause().await;
    ids.extend(publish(&broker, 100..600).await);
    until("it has taken a batch", async || taken(&redis).await > 0).await;
    first.kill().await;
    assert!(taken(&redis).await > 0);
    mongo.resume().await;

    let _second = process(&redis.url(), &url).await;
    settled(&broker).await;
    assert_stored(&store, &ids).await;
}

#[tokio::test]
async fn a_process_that_is_told_to_end_leaves_nothing_half_done() {
    let redis = Redis::start().await;
    let mongo = Mongo::shared().await;
    let url = mongo_url(mongo);
    let store = open_store(url.clone()).await;
    let broker = on(&redis, Delivery::AtLeastOnce).await;
    let mut first = process(&redis.url(), &url).await;
    let ids = publish(&broker, 0..2000).await;
    first.terminate().await;
    let status = first.wait().await;
    assert!(status.success(), "{status}: {}", first.output());
    assert_eq!(taken(&redis).await, 0);
    let in_store = stored(&store).await.len();
    let left = usize::try_from(broker.backlog().await.unwrap()).unwrap();
    assert_eq!(in_store + left, 2000);

    let _second = process(&redis.url(), &url).await;
    settled(&broker).await;
    assert_stored(&store, &ids).await;
}

#[tokio::test]
async fn a_second_signal_ends_a_process_that_waits_for_its_store() {
    let redis = Redis::start().await;
    let mongo = Mongo::start().await;
    let url = mongo_url(&mongo);
    let store = open_store(url.clone()).await;
    let broker = on(&redis, Delivery::AtLeastOnce).await;
    let mut first = process(&redis.url(), &url).await;
    mongo.pause().await;
    let ids = publish(&broker, 0..50).await;
    until("it has taken a batch", async || taken(&redis).await > 0).await;
    first.terminate().await;
    first.line(|line| line.contains("a second signal")).await;
    first.terminate().await;
    // 128 and the number of SIGTERM.
    assert_eq!(first.wait().await.code(), Some(143), "{}", first.output());
    mongo.resume().await;

    let _second = process(&redis.url(), &url).await;
    settled(&broker).await;
    assert_stored(&store, &ids).await;
}

#[tokio::test]
async fn a_redis_that_may_forget_is_warned_of() {
    let forgetful = ["--appendonly", "no", "--maxmemory-policy", "allkeys-lru"];
    let redis = Redis::start_with(&forgetful).await;
    let url = mongo_url(Mongo::shared().await);
    let process = process(&redis.url(), &url).await;
    for setting in ["appendonly", "maxmemory-policy"] {
        let warned = |line: &str| line.contains("WARN") && line.contains(setting);
        process.line(warned).await;
    }
}

#[tokio::test]
async fn what_is_no_message_is_a_dead_letter() {
    let redis = Redis::start().await;
    let url = mongo_url(Mongo::shared().await);
    let store = open_store(url.clone()).await;
    let broker = on(&redis, Delivery::AtLeastOnce).await;
    let mut connection = redis.connection().await;
    let ids = publish(&broker, 0..5).await;
    for (field, value) in [("m", "\u{1}\u{2} garbage"), ("other", "field")] {
        let mut add = redis::cmd("XADD");
        add.arg("rc:{1}:journal").arg("*").arg(field).arg(value);
        add.query_async::<()>(&mut connection).await.unwrap();
    }
    let persister = Persister::start(&broker, &store);
    settled(&broker).await;
    assert_stored(&store, &ids).await;
    assert_eq!(persister.counts(), (5, 0, 2));
    let StoreUrl::Mongo { url, database } = &url else {
        panic!("no MongoDB")
    };
    let database = Client::with_uri_str(url).await.unwrap().database(database);
    let letters = database.collection::<Document>("dead_letters");
    assert_eq!(
        letters
            .count_documents(doc! { "raw": { "$exists": true } })
            .await
            .unwrap(),
        2
    );
}

#[tokio::test]
async fn a_broker_that_is_away_is_waited_for() {
    let mut redis = Redis::start().await;
    let store = open_store(mongo_url(Mongo::shared().await)).await;
    let broker = on(&redis, Delivery::AtLeastOnce).await;
    let persister = Persister::start(&broker, &store);
    let mut ids = publish(&broker, 0..30).await;
    settled(&broker).await;
    redis.kill();
    until("it says that it is not ready", async || {
        !persister.readiness.is_ready()
    })
    .await;
    redis.restart().await;
    ids.extend(publish(&broker, 30..60).await);
    settled(&broker).await;
    assert_stored(&store, &ids).await;
    persister.is_ready().await;
    assert!(
        persister
            .metrics
            .persister
            .retries
            .with_label_values(&["feed"])
            .get()
            > 0
    );
}

#[tokio::test]
async fn at_most_once_stores_what_is_published_while_it_listens() {
    let redis = Redis::start().await;
    let store = open_store(mongo_url(Mongo::shared().await)).await;
    let broker = on(&redis, Delivery::AtMostOnce).await;
    let persister = Persister::start(&broker, &store);
    persister.is_ready().await;
    publish(&broker, 0..50).await;
    until("all are stored", async || stored(&store).await.len() == 50).await;
    assert_eq!(persister.counts(), (50, 0, 0));
}

#[tokio::test]
async fn a_journal_that_nobody_stores_is_warned_of() {
    let redis = Redis::start().await;
    let broker = on(&redis, Delivery::AtLeastOnce).await;
    publish(&broker, 0..3).await;
    let StoreUrl::Mongo { url, .. } = mongo_url(Mongo::shared().await) else {
        panic!("no MongoDB");
    };
    let args = [
        "--broker",
        &redis.url(),
        "--store",
        &url,
        "--shards",
        "4",
        "--delivery",
        "at-most-once",
        "--admin-listen",
        "127.0.0.1:0",
    ];
    let program = env!("CARGO_BIN_EXE_persister");
    let process = Process::run(program, args, [("RUST_LOG", "info")]);
    let warning = process
        .line(|line| line.contains("messages wait in the journal"))
        .await;
    assert!(
        warning.contains("WARN") && warning.contains("backlog=3"),
        "{warning}"
    );
    assert_eq!(broker.backlog().await.unwrap(), 3);
}
