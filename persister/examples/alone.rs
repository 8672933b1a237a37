//! What a persister makes of a MongoDB, beside a bare `insert_many` loop with the same documents in
//! batches of the same size, both acknowledged by a majority and in its journal.
//!
//! `cargo run --release -p persister --example alone -- MESSAGES ROUNDS [PERSISTER-FLAG…]`

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use futures_util::TryStreamExt;
use futures_util::future::join_all;
use harness::mongo::Mongo;
use harness::redis::Redis;
use harness::until::until;
use mongodb::bson::{RawDocumentBuf, doc};
use mongodb::options::{Acknowledgment, WriteConcern};
use mongodb::{Client, Collection, IndexModel};
use persister::config::Args;
use shared::admin::Readiness;
use shared::broker::{Broker, Earlier};
use shared::message::{Draft, RoomName, Series, UserName};
use shared::metrics::Metrics;
use shared::{broker, store};
use tokio_util::sync::CancellationToken;

/// How many messages are published at a time, and to how many rooms.
const AT_ONCE: usize = 4000;
const ROOMS: usize = 250;

#[tokio::main]
async fn main() {
    let mut given = std::env::args().skip(1);
    let mut number = |otherwise| match given.next() {
        Some(text) => text.parse().expect("a number"),
        None => otherwise,
    };
    let (messages, rounds): (usize, usize) = (number(50_000), number(3));
    let flags: Vec<String> = given.collect();
    let (redis, mongo) = (Redis::start().await, Mongo::start().await);
    for round in 1..=rounds {
        let database = Mongo::database();
        let (broker_url, store_url) = (redis.url(), mongo.url(&database));
        let urls = ["persister", "--broker", &broker_url, "--store", &store_url];
        let flags = flags.iter().map(String::as_str);
        let args = Args::parse_from(urls.into_iter().chain(flags));
        let metrics = Metrics::new();
        let broker_settings = args.common.broker_settings(None).expect("they are right");
        let store_settings = args.common.store_settings(None).expect("they are right");
        let broker = broker::open(&broker_settings, &metrics, Earlier::default())
            .await
            .expect("Redis answers");
        let store = store::open(&store_settings).await.expect("it answers");
        publish(&broker, messages).await;

        let begun = Instant::now();
        let stop = CancellationToken::new();
        let settings = args
            .persister
            .settings(&args.common, Duration::from_millis(20));
        let batch = settings.batch_max;
        let persister = tokio::spawn(persister::run(
            Arc::clone(&broker),
            store,
            settings,
            metrics,
            Readiness::new().latch("persister"),
            stop.clone(),
        ));
        until("everything is stored", || async {
            broker.backlog().await.is_ok_and(|backlog| backlog == 0)
        })
        .await;
        let alone = messages as f64 / begun.elapsed().as_secs_f64();
        stop.cancel();
        persister
            .await
            .expect("it ends")
            .expect("it has read the journals");
        let bare = bare(&store_url, &database, batch).await;
        println!(
            "round {round}: persister {alone:.0}/s, insert_many by {batch} {bare:.0}/s, {:.0} %",
            100.0 * alone / bare
        );
    }
}

async fn publish(broker: &Arc<dyn Broker>, messages: usize) {
    for from in (0..messages).step_by(AT_ONCE) {
        let drafts = (from..messages.min(from + AT_ONCE)).map(|n| {
            broker.publish(Draft {
                room: RoomName::parse(&format!("room-{}", n % ROOMS)).expect("it is a name"),
                sender: UserName::parse("ann").expect("it is a name"),
                content_type: Some("text/plain".into()),
                headers: Vec::new(),
                body: format!("{n:0128}").into(),
                idempotency_key: None,
                newer_than: None,
                notify: None,
                series: Series::default(),
                ephemeral: false,
            })
        });
        for accepted in join_all(drafts).await {
            accepted.expect("there is room in the journal");
        }
    }
}

/// Writes the same documents again, to a collection with the same index.
async fn bare(url: &str, database: &str, batch: usize) -> f64 {
    let database = Client::with_uri_str(url)
        .await
        .expect("it answers")
        .database(database);
    let stored: Collection<RawDocumentBuf> = database.collection("messages");
    let found = stored.find(doc! {}).await.expect("it answers");
    let documents: Vec<RawDocumentBuf> = found.try_collect().await.expect("it answers");
    let majority = WriteConcern::builder()
        .w(Acknowledgment::Majority)
        .journal(true)
        .build();
    let bare: Collection<RawDocumentBuf> = database.collection("bare");
    let index = IndexModel::builder()
        .keys(doc! { "room": 1, "_id": 1 })
        .build();
    bare.create_index(index).await.expect("it is made");
    let begun = Instant::now();
    for documents in documents.chunks(batch) {
        bare.insert_many(documents)
            .ordered(false)
            .write_concern(majority.clone())
            .await
            .expect("they are written");
    }
    documents.len() as f64 / begun.elapsed().as_secs_f64()
}
