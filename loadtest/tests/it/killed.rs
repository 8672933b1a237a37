//! Two gateways and two persisters on a real Redis and a real MongoDB, and a persister that dies.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bson::{Document, doc};
use futures_util::TryStreamExt;
use harness::{Mongo, Process, Redis, StompClient, StompOptions};
use mongodb::{Client, Collection};
use shared::message::MessageId;
use shared::stomp::Command;

const ROOMS: usize = 20;
const CLIENTS_PER_ROOM: usize = 2;
const EACH: usize = 500;
const TOTAL: usize = ROOMS * CLIENTS_PER_ROOM * EACH;
/// How many of its messages a client has in flight.
const WINDOW: usize = 25;
const WAIT: Duration = Duration::from_secs(60);

/// What one client knows at the end.
struct Ledger {
    room: String,
    /// The ids in its receipts.
    receipted: Vec<String>,
    /// The ids of its room's messages, as they came.
    seen: Vec<String>,
}

async fn chat(url: String, room: String, name: String) -> Ledger {
    let mut client = StompClient::connect(&url, StompOptions::login(&name))
        .await
        .unwrap();
    client
        .subscribe("s", &format!("/topic/rooms/{room}"), &[("history", "200")])
        .await
        .unwrap();
    let mut ledger = Ledger {
        room,
        receipted: Vec::new(),
        seen: Vec::new(),
    };
    let destination = format!("/app/rooms/{}", ledger.room);
    let mut sent = 0;
    while ledger.receipted.len() < EACH || ledger.seen.len() < EACH * CLIENTS_PER_ROOM {
        while sent < EACH && sent < ledger.receipted.len() + WINDOW {
            let receipt = format!("m{sent}");
            let headers = [
                ("receipt", receipt.as_str()),
                ("idempotency-key", receipt.as_str()),
            ];
            client
                .send(&destination, format!("{name} {sent}"), &headers)
                .await
                .unwrap();
            sent += 1;
        }
        let frame = client.next_frame(WAIT).await.unwrap_or_else(|failure| {
            let Ledger {
                receipted, seen, ..
            } = &ledger;
            let (receipted, seen) = (receipted.len(), seen.len());
            panic!("{name}: {failure} after {receipted} receipts of {sent} and {seen} messages")
        });
        let id = frame.header("message-id").map(str::to_owned);
        match frame.command {
            Command::Receipt => ledger.receipted.push(id.unwrap()),
            Command::Message => ledger.seen.push(id.unwrap()),
            other => panic!("{name}: {other:?} {:?}", frame.header("message")),
        }
    }
    ledger
}

async fn stored(messages: &Collection<Document>, room: &str) -> Vec<String> {
    let found = messages
        .find(doc! { "room": room })
        .sort(doc! { "_id": 1 })
        .await
        .unwrap();
    let documents: Vec<Document> = found.try_collect().await.unwrap();
    documents
        .iter()
        .map(|document| {
            let bson::Bson::Binary(id) = document.get("_id").unwrap() else {
                panic!("no UUID")
            };
            let uuid = id.to_uuid().unwrap();
            MessageId::from_uuid(uuid::Uuid::from_bytes(uuid.bytes()))
                .unwrap()
                .to_string()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_receipted_message_is_stored_once_and_in_order_although_a_persister_is_killed() {
    let redis = Redis::start().await;
    let mongo = Mongo::start().await;
    let database = Mongo::database();
    let (broker, store) = (redis.url(), mongo.url(&database));
    let common = [
        "--broker",
        &broker,
        "--store",
        &store,
        "--admin-listen",
        "127.0.0.1:0",
    ];
    let persister = || {
        let flags = ["--takeover-after", "2s", "--batch-max", "50"];
        Process::spawn("persister", common.iter().chain(&flags))
    };
    let gateway = || Process::spawn("gateway", common.iter().chain(&["--listen", "127.0.0.1:0"]));
    let mut doomed = persister();
    let survivor = persister();
    let gateways = [gateway(), gateway()];
    let mut urls = Vec::new();
    for gateway in &gateways {
        urls.push(format!("ws://{}/ws", gateway.ready().await));
    }
    doomed.line(|line| line.contains("is ready")).await;
    survivor.line(|line| line.contains("is ready")).await;

    let clients: Vec<_> = (0..ROOMS * CLIENTS_PER_ROOM)
        .map(|number| {
            let room = format!("room-{}", number % ROOMS);
            let url = urls[number / ROOMS].clone();
            tokio::spawn(chat(url, room, format!("client-{number}")))
        })
        .collect();
    let client = Client::with_uri_str(&store).await.unwrap();
    let messages: Collection<Document> = client.database(&database).collection("messages");
    let half = harness::until("half of the messages to be stored", async || {
        messages.estimated_document_count().await.unwrap() >= TOTAL as u64 / 2
    });
    half.await;
    doomed.kill().await;

    let mut ledgers: BTreeMap<String, Vec<Ledger>> = BTreeMap::new();
    for client in clients {
        let ledger = client.await.unwrap();
        ledgers.entry(ledger.room.clone()).or_default().push(ledger);
    }
    harness::until("the rest to be stored", async || {
        messages.count_documents(doc! {}).await.unwrap() >= TOTAL as u64
    })
    .await;
    for (room, members) in ledgers {
        let stored = stored(&messages, &room).await;
        let receipted: BTreeSet<String> = members
            .iter()
            .flat_map(|ledger| ledger.receipted.iter().cloned())
            .collect();
        assert_eq!(
            receipted.len(),
            EACH * CLIENTS_PER_ROOM,
            "{room}: a receipt names a message"
        );
        assert_eq!(
            stored,
            Vec::from_iter(receipted),
            "{room}: stored once, each that was receipted"
        );
        for ledger in &members {
            assert_eq!(
                ledger.seen, stored,
                "{room}: seen in the order in which it is stored"
            );
        }
    }
    assert_eq!(
        messages.count_documents(doc! {}).await.unwrap(),
        TOTAL as u64
    );
}
