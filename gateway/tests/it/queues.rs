//! Queues of users and what is ephemeral, across two gateways on one Redis.

use std::time::Duration;

use harness::{Redis, StompClient};
use shared::message::{RoomName, Span, UserName};
use shared::stomp::Frame;

use crate::running::{Backend, Running, redis_backend};

fn queue(user: &str) -> RoomName {
    RoomName::queue(&UserName::parse(user).unwrap(), "queue/x").unwrap()
}

async fn two_gateways(redis: &Redis) -> (Backend, [Running; 2]) {
    let flags = ["--publish-timeout", "30s", "--takeover-after", "1s"];
    let backend = redis_backend(redis, &flags).await;
    let gateways = [backend.gateway(&[]).await, backend.gateway(&[]).await];
    (backend, gateways)
}

/// Sends, waits for the RECEIPT, and returns it.
async fn send(
    client: &mut StompClient,
    destination: &str,
    body: &'static str,
    header: (&str, &str),
) -> Frame {
    let headers = [("receipt", body), header];
    client.send(destination, body, &headers).await.unwrap();
    client.receipt(body).await.unwrap()
}

fn id(frame: &Frame) -> String {
    frame.header("message-id").unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_sessions_of_a_user_hear_their_queue_on_every_gateway_and_nobody_else_does() {
    let redis = Redis::start().await;
    let (backend, gateways) = two_gateways(&redis).await;
    let _storing = backend.storing().await;
    let mut sessions = Vec::new();
    for gateway in [0, 0, 1, 1] {
        let mut session = gateways[gateway].client("이/kim").await;
        session.subscribe("s", "/user/queue/x", &[]).await.unwrap();
        sessions.push(session);
    }
    let mut other = gateways[1].client("lee").await;
    other.subscribe("s", "/user/queue/x", &[]).await.unwrap();
    let mut sender = gateways[0].client("ann").await;
    let passing = send(&mut sender, "/user/이%2Fkim/queue/x", "1", ("k", "v")).await;
    let kept = ("persist", "true");
    let kept = send(&mut sender, "/user/이%2Fkim/queue/x", "2", kept).await;
    for session in &mut sessions {
        for (sent, ephemeral) in [(&passing, Some("true")), (&kept, None)] {
            let heard = session.message().await.unwrap();
            assert_eq!(id(&heard), id(sent));
            assert_eq!(heard.header("ephemeral"), ephemeral);
            assert_eq!(heard.header("destination"), Some("/user/queue/x"));
            assert_eq!(heard.header("sender"), Some("ann"));
        }
    }
    // The first that the other hears is its own.
    let own = send(&mut sender, "/user/lee/queue/x", "3", ("k", "v")).await;
    assert_eq!(id(&other.message().await.unwrap()), id(&own));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_persists_is_stored_once_and_read_back_after_a_reconnect_elsewhere() {
    let redis = Redis::start().await;
    let (backend, gateways) = two_gateways(&redis).await;
    let _storing = backend.storing().await;
    let mut kim = gateways[0].client("kim").await;
    kim.subscribe("s", "/user/queue/x", &[]).await.unwrap();
    let mut sender = gateways[1].client("ann").await;
    let destination = "/user/kim/queue/x";
    let kept = ("persist", "true");
    let first = send(&mut sender, destination, "1", kept).await;
    assert_eq!(id(&kim.message().await.unwrap()), id(&first));
    drop(kim);

    let stored = [
        ("persist", "true"),
        ("receipt-after", "stored"),
        ("idempotency-key", "k"),
        ("receipt", "2"),
    ];
    let mut ids = Vec::new();
    for _ in 0..2 {
        sender.send(destination, "2", &stored).await.unwrap();
        ids.push(id(&sender.receipt("2").await.unwrap()));
    }
    assert_eq!(ids[0], ids[1], "a repeat is the same message");
    send(&mut sender, destination, "passing", ("k", "v")).await;

    let mut kim = gateways[1].client("kim").await;
    let after = [("after", &*id(&first))];
    let receipt = kim.subscribe("s", "/user/queue/x", &after).await.unwrap();
    assert_eq!(receipt.header("recovered"), Some("true"));
    let replayed = kim.message().await.unwrap();
    assert_eq!(id(&replayed), ids[0]);
    assert_eq!(replayed.header("replayed"), Some("true"));
    assert_eq!(replayed.header("destination"), Some("/user/queue/x"));
    let third = send(&mut sender, destination, "3", kept).await;
    let live = kim.message().await.unwrap();
    assert_eq!(id(&live), id(&third));
    assert_eq!(live.header("prev"), Some(&*ids[0]));

    // Lee's queue of the same name is another, whatever it asks for.
    let mut lee = gateways[0].client("lee").await;
    let history = [("history", "10")];
    lee.subscribe("s", "/user/queue/x", &history).await.unwrap();
    let own = send(&mut sender, "/user/lee/queue/x", "4", ("k", "v")).await;
    assert_eq!(id(&lee.message().await.unwrap()), id(&own));

    harness::until("everything to be stored", async || {
        backend.broker.backlog().await.unwrap() == 0
    })
    .await;
    let history = backend.store.history(&queue("kim"), Span::Newest, 10).await;
    let history: Vec<_> = history.unwrap().iter().map(|m| m.id.to_string()).collect();
    assert_eq!(history, [id(&first), ids[0].clone(), id(&third)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_ephemeral_is_seen_on_the_other_gateway_and_in_no_history() {
    let redis = Redis::start().await;
    let (backend, gateways) = two_gateways(&redis).await;
    let mut reader = gateways[1].client("kim").await;
    let topic = "/topic/rooms/r";
    reader.subscribe("s", topic, &[]).await.unwrap();
    let mut sender = gateways[0].client("ann").await;
    let first = send(&mut sender, topic, "1", ("k", "v")).await;
    let typing = send(&mut sender, topic, "typing", ("ephemeral", "true")).await;
    let second = send(&mut sender, topic, "2", ("k", "v")).await;
    let heard = [
        reader.message().await.unwrap(),
        reader.message().await.unwrap(),
        reader.message().await.unwrap(),
    ];
    let ids: Vec<_> = heard.iter().map(id).collect();
    assert_eq!(ids, [id(&first), id(&typing), id(&second)]);
    assert_eq!(heard[1].header("prev"), None);
    assert_eq!(heard[2].header("prev"), Some(&*id(&first)));
    // Nothing is stored yet: this is the broker's past.
    let mut late = gateways[1].client("late").await;
    let history = [("history", "10")];
    late.subscribe("s", topic, &history).await.unwrap();
    for kept in [&first, &second] {
        assert_eq!(id(&late.message().await.unwrap()), id(kept));
    }
    let _storing = backend.storing().await;
    harness::until("everything to be stored", async || {
        backend.broker.backlog().await.unwrap() == 0
    })
    .await;
    let mut later = gateways[0].client("later").await;
    let after = [("after", &*id(&first))];
    later.subscribe("s", topic, &after).await.unwrap();
    assert_eq!(id(&later.message().await.unwrap()), id(&second));
    assert_eq!(
        backend.store.newest().await.unwrap().unwrap().to_string(),
        id(&second)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_loses_of_a_queue_only_what_is_ephemeral() {
    let mut redis = Redis::start().await;
    let (backend, gateways) = two_gateways(&redis).await;
    let _storing = backend.storing().await;
    let mut kim = gateways[0].client("kim").await;
    kim.subscribe("s", "/user/queue/x", &[]).await.unwrap();
    let mut sender = gateways[1].client("ann").await;
    let mut receipts = Vec::new();
    for round in 0..60 {
        if round % 20 == 10 {
            redis.restart().await;
        }
        let body = round.to_string();
        let headers = [("persist", "true"), ("receipt", &*body)];
        let queue = "/user/kim/queue/x";
        sender.send(queue, "passing", &[]).await.unwrap();
        sender.send(queue, body.clone(), &headers).await.unwrap();
        if round % 5 == 0 {
            receipts.push(sender.receipt(&body).await.unwrap());
        }
    }
    let mut kept = Vec::new();
    while kept.len() < 60 {
        let heard = kim.next_frame(Duration::from_secs(60)).await.unwrap();
        if heard.header("ephemeral").is_none() {
            assert_eq!(heard.header("code"), None);
            assert_eq!(heard.body, kept.len().to_string());
            kept.push(id(&heard));
        }
    }
    assert!(receipts.iter().all(|receipt| kept.contains(&id(receipt))));
    harness::until("everything to be stored", async || {
        backend
            .broker
            .backlog()
            .await
            .is_ok_and(|backlog| backlog == 0)
    })
    .await;
    let history = backend
        .store
        .history(&queue("kim"), Span::Newest, 100)
        .await;
    let history: Vec<_> = history.unwrap().iter().map(|m| m.id.to_string()).collect();
    assert_eq!(history, kept);
}
