//! SUBSCRIBE with `history` or `after`: the past and then live, no gap and no repeat, wherever a
//! message is just then: accepted, in the recent window, in the journal, or in the store.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use harness::{Redis, StompClient, StompFailure};
use shared::message::RoomName;
use shared::message::Span;
use shared::stomp::{Command, Frame};

use crate::running::{Backend, Running, backend, redis_backend};

const SENDERS: usize = 4;
const EACH: usize = 300;
const WAIT: Duration = Duration::from_secs(30);

fn id(message: &Frame) -> String {
    message.header("message-id").unwrap().to_owned()
}

/// Sends `EACH` messages, counting the receipts into `sent`; receipts say accepted or stored.
async fn sender(gateway: Arc<Running>, name: usize, sent: Arc<AtomicUsize>) {
    let mut client = gateway.client(&format!("sender-{name}")).await;
    for number in 0..EACH {
        let receipt = number.to_string();
        let headers = [("receipt", receipt.as_str())];
        client
            .send("/app/rooms/busy", format!("{name}/{number}"), &headers)
            .await
            .unwrap();
        client.receipt(&receipt).await.unwrap();
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

/// Takes MESSAGEs until `last` has come; every id greater than the one before.
async fn read_until(client: &mut StompClient, seen: &mut Vec<String>, last: &str) {
    while seen.last().is_none_or(|newest| newest.as_str() < last) {
        let frame = client.next_frame(WAIT).await.unwrap();
        match frame.command {
            Command::Message => {
                let id = id(&frame);
                assert!(
                    seen.last().is_none_or(|newest| *newest < id),
                    "a repeat or out of order"
                );
                seen.push(id);
            }
            Command::Receipt => {}
            other => panic!("{other:?}: {:?}", frame.header("message")),
        }
    }
}

async fn stored_ids(backend: &Backend, room: &str, wanted: usize) -> Vec<String> {
    let room = RoomName::parse(room).unwrap();
    let all = backend
        .store
        .history(&room, Span::Newest, wanted + 1)
        .await
        .unwrap();
    all.iter().map(|message| message.id.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attaching_under_load_shows_every_message_once_and_in_order() {
    // A window of 20 makes most attaches read the journal and the store as well.
    let redis = Redis::start().await;
    let backend = redis_backend(&redis, &["--recent-max", "20"]).await;
    let gateways = [
        Arc::new(backend.gateway(&[]).await),
        Arc::new(backend.gateway(&[]).await),
    ];
    attach_under_load(backend, gateways).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attaching_under_load_is_the_same_inside_one_process() {
    let backend = backend(&[]).await;
    let gateway = Arc::new(backend.gateway(&[]).await);
    attach_under_load(backend, [Arc::clone(&gateway), gateway]).await;
}

async fn attach_under_load(backend: Backend, gateways: [Arc<Running>; 2]) {
    let storing = backend.storing().await;
    let sent = Arc::new(AtomicUsize::new(0));
    let mut watcher = gateways[1].client("watcher").await;
    watcher
        .subscribe("w", "/topic/rooms/busy", &[])
        .await
        .unwrap();
    let senders: Vec<_> = (0..SENDERS)
        .map(|name| {
            let gateway = Arc::clone(&gateways[name % 2]);
            tokio::spawn(sender(gateway, name, Arc::clone(&sent)))
        })
        .collect();

    // Clients come with history, leave, and come back with `after`, over and over.
    let done = Arc::new(AtomicBool::new(false));
    let visitors: Vec<_> = (0..6)
        .map(|number| {
            let (gateways, done) = (gateways.clone(), Arc::clone(&done));
            tokio::spawn(visit(gateways, number, done))
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    assert_eq!(sent.load(Ordering::Relaxed), SENDERS * EACH);
    done.store(true, Ordering::Relaxed);

    harness::until("everything to be stored", async || {
        backend.broker.backlog().await.unwrap() == 0
    })
    .await;
    let all = stored_ids(&backend, "busy", SENDERS * EACH).await;
    assert_eq!(
        all.len(),
        SENDERS * EACH,
        "each receipted message is stored once"
    );
    let last = all.last().unwrap();
    let mut watched = Vec::new();
    read_until(&mut watcher, &mut watched, last).await;
    assert_same(&watched, &all);
    for visitor in visitors {
        let (mut client, mut seen) = visitor.await.unwrap();
        read_until(&mut client, &mut seen, last).await;
        let from = all.iter().position(|id| *id == seen[0]).unwrap();
        assert_same(&seen, &all[from..]);
    }
    storing.abort();
}

/// Says only what differs: the lists are long.
fn assert_same(seen: &[String], all: &[String]) {
    let missing: Vec<_> = all.iter().filter(|id| !seen.contains(id)).collect();
    let extra: Vec<_> = seen.iter().filter(|id| !all.contains(id)).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "missing {missing:?}, extra {extra:?}"
    );
    assert!(seen == all, "out of order");
}

async fn visit(
    gateways: [Arc<Running>; 2],
    number: usize,
    done: Arc<AtomicBool>,
) -> (StompClient, Vec<String>) {
    let mut seen: Vec<String> = Vec::new();
    let mut visits = 0;
    loop {
        let mut client = gateways[(number + visits) % 2].client("visitor").await;
        let last = done.load(Ordering::Relaxed);
        let past = match seen.last() {
            Some(newest) => ("after", newest.clone()),
            None => ("history", "5".to_owned()),
        };
        let recovered = client
            .subscribe("v", "/topic/rooms/busy", &[(past.0, past.1.as_str())])
            .await
            .unwrap();
        assert_eq!(recovered.header("recovered"), Some("true"));
        // A little of live, so that the next visit starts from the middle of it.
        let stay = client.next_frame(Duration::from_millis(50));
        if let Ok(frame) = stay.await {
            let newest = id(&frame);
            seen_one(&mut seen, newest);
        }
        while let Ok(frame) = client.next_frame(Duration::ZERO).await {
            seen_one(&mut seen, id(&frame));
        }
        if last && !seen.is_empty() {
            return (client, seen);
        }
        visits += 1;
    }
}

fn seen_one(seen: &mut Vec<String>, newest: String) {
    assert!(
        seen.last().is_none_or(|before| *before < newest),
        "a repeat or out of order"
    );
    seen.push(newest);
}

#[tokio::test]
async fn what_is_accepted_and_not_stored_is_part_of_the_past() {
    let redis = Redis::start().await;
    let backend = redis_backend(&redis, &["--recent-max", "2"]).await;
    let gateway = backend.gateway(&[]).await;
    let mut sender = gateway.client("kim").await;
    for number in 0..10 {
        sender
            .send("/app/rooms/r", number.to_string(), &[])
            .await
            .unwrap();
    }
    let mut client = gateway.client("lee").await;
    // The sender's frames are handled before its DISCONNECT is.
    sender
        .send_frame(Frame::new(Command::Disconnect).with("receipt", "bye"))
        .await
        .unwrap();
    sender.receipt("bye").await.unwrap();
    client
        .subscribe("s", "/topic/rooms/r", &[("history", "10")])
        .await
        .unwrap();
    let mut bodies = Vec::new();
    for _ in 0..10 {
        let message = client.message().await.unwrap();
        assert_eq!(message.header("replayed"), Some("true"));
        bodies.push(String::from_utf8(message.body.to_vec()).unwrap());
    }
    let expected: Vec<_> = (0..10).map(|number| number.to_string()).collect();
    assert_eq!(bodies, expected, "although no persister runs");
}

#[tokio::test]
async fn what_would_die_with_the_process_is_shown_only_when_it_is_stored() {
    let backend = backend(&[]).await;
    let gateway = backend.gateway(&[]).await;
    let mut client = gateway.client("kim").await;
    client.subscribe("s", "/topic/rooms/r", &[]).await.unwrap();
    client.send("/app/rooms/r", "hi", &[]).await.unwrap();
    harness::until("the message to be accepted", async || {
        backend.broker.backlog().await.unwrap() == 1
    })
    .await;
    let live = client.next_frame(Duration::from_millis(300)).await;
    assert!(matches!(live, Err(StompFailure::Deadline(_))), "{live:?}");
    let past = [("history", "5")];
    client
        .subscribe("late", "/topic/rooms/r", &past)
        .await
        .unwrap();

    let storing = backend.storing().await;
    let mut subscriptions = HashSet::new();
    for _ in 0..2 {
        let message = client.message().await.unwrap();
        assert_eq!(message.header("replayed"), None);
        subscriptions.insert(message.header("subscription").unwrap().to_owned());
    }
    assert_eq!(subscriptions.len(), 2, "once for each subscription");
    storing.abort();
}

#[tokio::test]
async fn stopping_sends_clients_away_with_1012_and_keeps_what_they_sent() {
    let backend = backend(&[]).await;
    let gateway = backend.gateway(&[]).await;
    let storing = backend.storing().await;
    let mut client = gateway.client("kim").await;
    for number in 0..50 {
        let receipt = number.to_string();
        client
            .send("/app/rooms/r", "x", &[("receipt", &receipt)])
            .await
            .unwrap();
    }
    client.receipt("0").await.unwrap();
    gateway.stop.cancel();
    assert_eq!(client.close_code().await.unwrap(), Some(1012));
    gateway.ended.await.unwrap();
    assert!(!gateway.readiness.is_ready());
    let mut receipted = 1;
    while client.next_frame(Duration::ZERO).await.is_ok() {
        receipted += 1;
    }
    let stored = stored_ids(&backend, "r", 50).await.len();
    assert!(
        stored >= receipted,
        "{receipted} receipts for {stored} messages"
    );
    assert_eq!(gateway.metrics.gateway.connections.get(), 0);
    storing.abort();
}
