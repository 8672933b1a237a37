//! Two gateways on a Redis that fails under load: every reader gets every message once and in
//! order, on the connection that it has, and every message that is sent is accepted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use harness::{Redis, StompClient};
use redis::cmd;
use shared::message::{MessageId, RoomName, Span};
use shared::stomp::Command;
use tokio::task::JoinHandle;

use crate::running::{Backend, Running, redis_backend};

/// Longer than any outage here.
const WAIT: Duration = Duration::from_secs(60);

const ROOMS: usize = 4;

/// Gateways with a reader and a sender in each room.
struct Load {
    gateways: [Running; 2],
    backend: Backend,
    readers: Vec<(usize, StompClient)>,
    senders: Vec<JoinHandle<usize>>,
    storing: JoinHandle<()>,
    accepted: Arc<AtomicUsize>,
    done: Arc<AtomicBool>,
}

fn room(number: usize) -> RoomName {
    RoomName::parse(&format!("r{number}")).unwrap()
}

impl Load {
    async fn start(redis: &Redis) -> Self {
        let flags = ["--publish-timeout", "30s", "--takeover-after", "1s"];
        let backend = redis_backend(redis, &flags).await;
        let storing = backend.storing().await;
        let gateways = [backend.gateway(&[]).await, backend.gateway(&[]).await];
        let (accepted, done) = <(Arc<AtomicUsize>, Arc<AtomicBool>)>::default();
        let (mut readers, mut senders) = (Vec::new(), Vec::new());
        for number in 0..ROOMS {
            for gateway in &gateways {
                let mut reader = gateway.client("reader").await;
                let topic = format!("/topic/rooms/{}", room(number));
                reader.subscribe("s", &topic, &[]).await.unwrap();
                readers.push((number, reader));
            }
            let sender = gateways[number % 2].client("sender").await;
            let (accepted, done) = (Arc::clone(&accepted), Arc::clone(&done));
            senders.push(tokio::spawn(send(sender, number, accepted, done)));
        }
        Self {
            gateways,
            backend,
            readers,
            senders,
            storing,
            accepted,
            done,
        }
    }

    /// Lets the senders go on for a while.
    async fn flow(&self) {
        let goal = self.accepted.load(Ordering::Relaxed) + 100;
        let accepted = &self.accepted;
        harness::until("messages to be accepted", async || {
            accepted.load(Ordering::Relaxed) >= goal
        })
        .await;
    }

    /// How often the gateways' links were lost, in all.
    fn links_lost(&self) -> u64 {
        let reconnects = &self.backend.metrics.broker.reconnects;
        reconnects.with_label_values(&["fanout"]).get()
    }

    fn gaps_repaired(&self) -> u64 {
        let gateways = self.gateways.iter();
        gateways
            .map(|g| g.metrics.gateway.gaps_repaired.get())
            .sum()
    }

    /// Ends the load, and holds everyone to what they were promised.
    async fn finish(mut self) {
        self.done.store(true, Ordering::Relaxed);
        let mut sent = Vec::new();
        for sender in self.senders {
            sent.push(sender.await.unwrap());
        }
        let reading = self.readers.iter_mut().map(async |(number, reader)| {
            let mut last: Option<MessageId> = None;
            for expected in 0..sent[*number] {
                let frame = reader.next_frame(WAIT).await.unwrap();
                assert_eq!(
                    frame.command,
                    Command::Message,
                    "{:?}",
                    frame.header("code")
                );
                let id = frame.header("message-id").unwrap().parse().unwrap();
                assert!(last.is_none_or(|last| last < id), "ids grow");
                last = Some(id);
                assert_eq!(frame.body, expected.to_string());
            }
        });
        join_all(reading).await;
        let broker = &self.backend.broker;
        harness::until("everything to be stored", async || {
            broker.backlog().await.is_ok_and(|backlog| backlog == 0)
        })
        .await;
        for (number, sent) in sent.iter().enumerate() {
            let room = room(number);
            let history = self.backend.store.history(&room, Span::Newest, sent + 1);
            assert_eq!(history.await.unwrap().len(), *sent);
        }
        for gateway in &self.gateways {
            assert_eq!(gateway.metrics.gateway.gaps_unrepaired.get(), 0);
        }
        self.storing.abort();
    }
}

/// Sends numbers, some at a time, and waits for their RECEIPTs; returns how many.
async fn send(
    mut client: StompClient,
    number: usize,
    accepted: Arc<AtomicUsize>,
    done: Arc<AtomicBool>,
) -> usize {
    const AT_A_TIME: usize = 8;
    let destination = format!("/app/rooms/{}", room(number));
    let mut sent = 0;
    while !done.load(Ordering::Relaxed) {
        for number in sent..sent + AT_A_TIME {
            let text = number.to_string();
            let headers = [("receipt", text.as_str())];
            client
                .send(&destination, text.clone(), &headers)
                .await
                .unwrap();
        }
        for _ in 0..AT_A_TIME {
            let receipt = client.next_frame(WAIT).await.unwrap();
            let code = receipt.header("code");
            assert_eq!(receipt.command, Command::Receipt, "{code:?}");
        }
        sent += AT_A_TIME;
        accepted.fetch_add(AT_A_TIME, Ordering::Relaxed);
    }
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_that_are_killed_over_and_over_cost_no_reader_a_message() {
    let redis = Redis::start().await;
    let load = Load::start(&redis).await;
    let mut connection = redis.connection().await;
    let mut killed = 0;
    while killed < 10 || load.gaps_repaired() == 0 {
        load.flow().await;
        let mut kill = cmd("CLIENT");
        kill.arg("KILL").arg("TYPE").arg("pubsub");
        killed += kill.query_async::<u64>(&mut connection).await.unwrap();
        let lost = async || load.links_lost() == killed;
        harness::until("the links to be lost", lost).await;
        assert!(killed < 100, "messages pass while a link is down");
    }
    load.flow().await;
    load.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_broker_costs_no_sender_an_error_and_no_reader_a_message() {
    let redis = Redis::start().await;
    let load = Load::start(&redis).await;
    load.flow().await;
    redis.pause();
    harness::until("both links to be given up", async || load.links_lost() >= 2).await;
    redis.resume();
    load.flow().await;
    load.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_and_restarted_costs_no_sender_an_error_and_no_reader_a_message() {
    let mut redis = Redis::start().await;
    let load = Load::start(&redis).await;
    for _ in 0..2 {
        load.flow().await;
        redis.restart().await;
    }
    load.flow().await;
    load.finish().await;
}
