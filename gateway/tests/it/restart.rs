//! What clients notice of gateways and of a store that are away for a while.

use std::time::Duration;

use futures_util::future::join_all;
use harness::{Mongo, Redis, StompClient};
use shared::message::{RoomName, Span};
use shared::stomp::{Command, Frame};

use crate::running::{Running, backend, mongo_backend, redis_backend};

const ROOMS: usize = 10;

/// Clients in rooms, each with the newest message that it has seen.
async fn members(gateway: &Running, count: usize) -> Vec<(String, StompClient)> {
    let members = (0..count).map(async |number| {
        let topic = format!("/topic/rooms/r{}", number % ROOMS);
        let mut client = gateway.client("kim").await;
        client.subscribe("s", &topic, &[]).await.unwrap();
        (topic, client)
    });
    join_all(members).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_asks_nothing_of_the_store_where_the_window_has_it() {
    let redis = Redis::start().await;
    let mongo = Mongo::start().await;
    let backend = mongo_backend(&redis, &mongo, &[]).await;
    let storing = backend.storing().await;
    let gateways = [backend.gateway(&[]).await, backend.gateway(&[]).await];
    let mut members = members(&gateways[0], 200).await;
    let mut sender = gateways[1].client("sender").await;
    for text in ["1", "2"] {
        for room in 0..ROOMS {
            let room = format!("/app/rooms/r{room}");
            sender.send(&room, text, &[]).await.unwrap();
        }
    }
    let mut seen = Vec::new();
    for (topic, client) in &mut members {
        let first = client.message().await.unwrap();
        client.message().await.unwrap();
        let id = first.header("message-id").unwrap().to_owned();
        seen.push((topic.clone(), id));
    }
    harness::until("everything to be stored", async || {
        backend
            .broker
            .backlog()
            .await
            .is_ok_and(|backlog| backlog == 0)
    })
    .await;
    storing.abort();

    gateways[0].stop.cancel();
    for (_, client) in &mut members {
        assert_eq!(client.close_code().await.unwrap(), Some(1012));
    }
    // Whatever asked the store now would fail.
    mongo.pause().await;
    let back = seen.iter().map(async |(topic, id)| {
        let mut client = gateways[1].client("kim").await;
        let after = [("after", id.as_str())];
        let told = client.subscribe("s", topic, &after).await.unwrap();
        assert_eq!(told.header("recovered"), Some("true"));
        assert_eq!(client.message().await.unwrap().body, "2");
    });
    join_all(back).await;
    mongo.resume().await;
}

#[tokio::test]
async fn a_room_that_was_quiet_is_served_while_the_store_is_away() {
    let redis = Redis::start().await;
    let mongo = Mongo::start().await;
    let flags = ["--recent-ttl", "300ms", "--shards", "1"];
    let backend = mongo_backend(&redis, &mongo, &flags).await;
    let gateway = backend.gateway(&[]).await;
    let mut client = gateway.client("kim").await;
    client.subscribe("s", "/topic/rooms/r", &[]).await.unwrap();
    client.send("/app/rooms/r", "1", &[]).await.unwrap();
    assert_eq!(client.message().await.unwrap().body, "1");
    let mut connection = redis.connection().await;
    harness::until("the window to expire", async || {
        let mut exists = redis::cmd("EXISTS");
        exists.arg("rc:{0}:recent:r");
        exists.query_async::<u64>(&mut connection).await.unwrap() == 0
    })
    .await;
    mongo.pause().await;
    client.send("/app/rooms/r", "2", &[]).await.unwrap();
    let second = client.message().await.unwrap();
    assert_eq!((&*second.body, second.header("prev")), (&b"2"[..], None));
    mongo.resume().await;
}

#[tokio::test]
async fn a_busy_room_is_repaired_while_the_store_is_away() {
    let redis = Redis::start().await;
    let mongo = Mongo::start().await;
    let backend = mongo_backend(&redis, &mongo, &["--recent-max", "10"]).await;
    let gateway = backend.gateway(&[]).await;
    let mut client = gateway.client("kim").await;
    client.subscribe("s", "/topic/rooms/r", &[]).await.unwrap();
    // Far more than the window keeps, and all of them lately.
    for number in 0..400 {
        let text = number.to_string();
        client
            .send("/app/rooms/r", text.clone(), &[])
            .await
            .unwrap();
        assert_eq!(client.message().await.unwrap().body, text);
    }
    mongo.pause().await;
    let mut connection = redis.connection().await;
    let mut kill = redis::cmd("CLIENT");
    kill.arg("KILL").arg("TYPE").arg("pubsub");
    let killed: u64 = kill.query_async(&mut connection).await.unwrap();
    assert!(killed > 0);
    client.send("/app/rooms/r", "next", &[]).await.unwrap();
    assert_eq!(client.message().await.unwrap().body, "next");
    mongo.resume().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_to_be_sent_away_is_served() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let gateway = backend
        .gateway(&["--drain-spread", "1m", "--drain-timeout", "3m"])
        .await;
    let members = members(&gateway, 400).await;
    gateway.stop.cancel();
    let ends = members.into_iter().map(async |(topic, mut client)| {
        let (mut number, mut receipted) = (0, 0);
        // One receipt after the other, until the end.
        loop {
            let receipt = number.to_string();
            number += 1;
            let headers = [("receipt", receipt.as_str())];
            if client.send(&topic, "x", &headers).await.is_err() {
                break;
            }
            loop {
                match client.next_frame(Duration::from_secs(60)).await {
                    Ok(frame) if frame.command == Command::Receipt => {
                        receipted += 1;
                        break;
                    }
                    Ok(frame) if frame.command == Command::Message => {}
                    _ => return (client.close_code().await.unwrap(), receipted),
                }
            }
        }
        (client.close_code().await.unwrap(), receipted)
    });
    let ends = join_all(ends).await;
    assert!(ends.iter().all(|(code, _)| *code == Some(1012)));
    assert!(ends.iter().any(|(_, receipted)| *receipted > 0));
    gateway.ended.await.unwrap();
    storing.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_for_longer_than_the_journal_holds_costs_no_receipted_message() {
    const SENT: usize = 60;
    let redis = Redis::start().await;
    let mut mongo = Mongo::start().await;
    let flags = [
        "--shards",
        "1",
        "--journal-max",
        "20",
        "--store-timeout",
        "1s",
    ];
    let backend = mongo_backend(&redis, &mongo, &flags).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&["--receipt-timeout", "1s"]).await;
    mongo.kill().await;

    // Who asked for the store has no receipt while it is away; then nothing is accepted.
    let mut patient = gateway.client("lee").await;
    let stored = [("receipt", "p"), ("receipt-after", "stored")];
    patient
        .send("/app/rooms/other", "p", &stored)
        .await
        .unwrap();
    let withheld = &gateway.metrics.gateway.receipts_withheld;
    harness::until("the receipt to be withheld", async || withheld.get() > 0).await;
    let mut next = 0;
    let mut client = gateway.client("kim").await;
    let refused = loop {
        send(&mut client, next).await;
        next += 1;
        if let Ok(frame) = client.next_frame(Duration::from_millis(5)).await
            && frame.command == Command::Error
        {
            break frame;
        }
    };
    assert_eq!(refused.header("code"), Some("journal-full"));
    assert_eq!(client.close_code().await.unwrap(), Some(1013));

    // The client goes on with the same keys, from the first that has no receipt from the store.
    mongo.restart().await;
    let mut sent = 0;
    while sent < SENT {
        let mut client = gateway.client("kim").await;
        while sent < SENT {
            send(&mut client, sent).await;
            match client.next_frame(Duration::from_secs(60)).await {
                Ok(frame) if frame.command == Command::Receipt => sent += 1,
                // Not yet: it comes back.
                Ok(frame) => {
                    assert_eq!(frame.header("code"), Some("journal-full"));
                    break;
                }
                Err(_) => break,
            }
        }
    }
    harness::until("everything to be stored", async || {
        backend
            .broker
            .backlog()
            .await
            .is_ok_and(|backlog| backlog == 0)
    })
    .await;
    let room = RoomName::parse("r").unwrap();
    let history = backend.store.history(&room, Span::Newest, 2 * SENT);
    let bodies: Vec<_> = history
        .await
        .unwrap()
        .iter()
        .map(|message| String::from_utf8(message.body.to_vec()).unwrap())
        .collect();
    let all: Vec<_> = (0..SENT).map(|number| number.to_string()).collect();
    assert_eq!(bodies, all, "each once, and in order");
    let other = RoomName::parse("other").unwrap();
    let other = backend
        .store
        .history(&other, Span::Newest, 2)
        .await
        .unwrap();
    assert_eq!(
        other.len(),
        1,
        "what has no receipt may be stored all the same"
    );
    storing.abort();
}

#[tokio::test]
async fn a_redis_that_is_out_of_memory_refuses_messages_and_nothing_else() {
    let redis = Redis::start().await;
    let backend = redis_backend(&redis, &[]).await;
    let gateway = backend.gateway(&[]).await;
    let mut reader = gateway.client("reader").await;
    reader.subscribe("s", "/topic/rooms/r", &[]).await.unwrap();
    limit_memory(&redis, 1).await;
    let mut sender = gateway.client("kim").await;
    send(&mut sender, 1).await;
    let refused = sender.expect(Command::Error).await.unwrap();
    assert_eq!(refused.header("code"), Some("journal-full"));
    assert_eq!(refused.header("receipt-id"), Some("1"));
    let failures = &gateway.metrics.gateway.publish_failures;
    assert_eq!(failures.with_label_values(&["journal-full"]).get(), 1);

    // Who only listens stays, who comes back can, and the gateway is of use to them.
    assert!(gateway.readiness.is_ready());
    let mut sender = gateway.client("kim").await;
    let past = [("history", "5")];
    let told = sender.subscribe("s", "/topic/rooms/r", &past).await;
    assert_eq!(told.unwrap().header("recovered"), Some("true"));
    limit_memory(&redis, 0).await;
    send(&mut sender, 1).await;
    assert_eq!(reader.message().await.unwrap().body, "1");
}

async fn limit_memory(redis: &Redis, octets: u64) {
    let mut connection = redis.connection().await;
    let mut limit = redis::cmd("CONFIG");
    limit.arg("SET").arg("maxmemory").arg(octets);
    limit.query_async::<()>(&mut connection).await.unwrap();
}

/// A message of this number, under its key; every second one is to be stored.
async fn send(client: &mut StompClient, number: usize) {
    let text = number.to_string();
    let after = if number.is_multiple_of(2) {
        "stored"
    } else {
        "accepted"
    };
    let frame = Frame::new(Command::Send)
        .with("destination", "/app/rooms/r")
        .with("idempotency-key", &text)
        .with("receipt", &text)
        .with("receipt-after", after)
        .with_body(text.clone());
    // It may be closing already.
    let _ = client.send_frame(frame).await;
}
