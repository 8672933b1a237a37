//! Messages that members are shown by the broker's answer to their own gateway, before or after the copy that
//! every gateway gets: the way of the copies leads through here, and can be held up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use harness::{Redis, StompClient};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::running::{Backend, Running, redis_backend_at};

const WAIT: Duration = Duration::from_secs(30);

/// Forwards connections to a Redis. What it says on those that subscribe waits while that is held up.
struct Way {
    url: String,
    held: watch::Sender<bool>,
}

impl Way {
    async fn to(redis: &Redis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (held, told) = watch::channel(false);
        let to = redis.port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Who comes when Redis has gone finds nobody.
                if let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await {
                    tokio::spawn(forward(stream, server, told.clone()));
                }
            }
        });
        let url = redis.url();
        let own = url.replace(&format!(":{to}"), &format!(":{port}"));
        assert_ne!(own, url);
        Self { url: own, held }
    }

    fn hold_up(&self, held: bool) {
        self.held.send_replace(held);
    }
}

async fn forward(client: TcpStream, server: TcpStream, mut held: watch::Receiver<bool>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let subscribes = Arc::new(AtomicBool::new(false));
    let is_live = Arc::clone(&subscribes);
    let up = async move {
        let mut chunk = [0; 16 << 10];
        while let Ok(size @ 1..) = from_client.read(&mut chunk).await {
            let text = chunk[..size].to_ascii_uppercase();
            if text.windows(9).any(|word| word == b"SUBSCRIBE") {
                is_live.store(true, Ordering::Relaxed);
            }
            if to_server.write_all(&chunk[..size]).await.is_err() {
                return;
            }
        }
    };
    let down = async move {
        let mut chunk = [0; 16 << 10];
        while let Ok(size @ 1..) = from_server.read(&mut chunk).await {
            if subscribes.load(Ordering::Relaxed) {
                held.wait_for(|held| !held).await.ok();
            }
            if to_client.write_all(&chunk[..size]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

async fn member(gateway: &Running, name: &str) -> StompClient {
    let mut member = gateway.client(name).await;
    member.subscribe("s", "/topic/rooms/r", &[]).await.unwrap();
    member
}

/// Sends these and waits for all receipts.
async fn send(client: &mut StompClient, bodies: impl Iterator<Item = String>) {
    let bodies = bodies.collect::<Vec<_>>();
    for body in &bodies {
        let receipt = [("receipt", &body[..])];
        let sent = client.send("/app/rooms/r", body.clone(), &receipt);
        sent.await.unwrap();
    }
    for body in &bodies {
        client.receipt(body).await.unwrap();
    }
}

/// The ids and the bodies of what comes next.
async fn next(client: &mut StompClient, count: usize) -> Vec<(String, String)> {
    let mut seen = Vec::new();
    for _ in 0..count {
        let frame = client.next_frame(WAIT).await.unwrap();
        let id = frame.header("message-id").expect("a message").to_owned();
        seen.push((id, String::from_utf8(frame.body.to_vec()).unwrap()));
    }
    seen
}

fn repaired(backend: &Backend, gateways: [&Running; 2]) -> u64 {
    let links = backend
        .metrics
        .broker
        .reconnects
        .with_label_values(&["fanout"]);
    let gaps = gateways.map(|gateway| gateway.metrics.gateway.gaps_repaired.get());
    links.get() + gaps.into_iter().sum::<u64>()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_get_what_their_own_gateway_sent_though_the_copies_are_held_up_and_once() {
    let redis = Redis::start().await;
    let way = Way::to(&redis).await;
    let backend = redis_backend_at(&way.url, &[]).await;
    let (near, far) = (backend.gateway(&[]).await, backend.gateway(&[]).await);
    let mut members = [member(&near, "kim").await, member(&near, "lee").await];
    let mut stranger = member(&far, "sam").await;
    let (mut here, mut there) = (near.client("ada").await, far.client("eve").await);
    // Of the first in a room nobody can tell that nothing lies before it.
    send(&mut here, std::iter::once("first".to_owned())).await;
    for member in members.iter_mut().chain([&mut stranger]) {
        assert_eq!(next(member, 1).await[0].1, "first");
    }

    way.hold_up(true);
    let bodies = || (0..20).map(|number| number.to_string());
    send(&mut here, bodies()).await;
    let wanted = bodies().collect::<Vec<_>>();
    for member in &mut members {
        let seen = next(member, 20).await;
        assert!(seen.iter().map(|(_, body)| body).eq(&wanted), "{seen:?}");
    }
    assert_eq!(far.metrics.gateway.messages_delivered.get(), 1);
    assert_eq!(repaired(&backend, [&near, &far]), 0);

    way.hold_up(false);
    let seen = next(&mut stranger, 20).await;
    assert!(seen.iter().map(|(_, body)| body).eq(&wanted), "{seen:?}");
    // It comes on the way of the copies, behind all of them.
    send(&mut there, std::iter::once("last".to_owned())).await;
    for member in members.iter_mut().chain([&mut stranger]) {
        assert_eq!(next(member, 1).await[0].1, "last");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_and_copies_that_race_double_and_reorder_nothing() {
    const BATCHES: usize = 40;
    const BATCH: usize = 10;
    let redis = Redis::start().await;
    let way = Way::to(&redis).await;
    let backend = redis_backend_at(&way.url, &[]).await;
    let (near, far) = (backend.gateway(&[]).await, backend.gateway(&[]).await);
    let mut members = [
        member(&near, "kim").await,
        member(&near, "lee").await,
        member(&far, "sam").await,
    ];
    let mut senders = [
        near.client("a").await,
        near.client("b").await,
        far.client("c").await,
    ];
    let way = &way;
    let sending = senders.iter_mut().enumerate().map(async |(at, sender)| {
        for batch in 0..BATCHES {
            if at == 0 {
                way.hold_up(batch % 2 == 0);
            }
            let numbers = batch * BATCH..(batch + 1) * BATCH;
            send(sender, numbers.map(|number| format!("{at} {number:03}"))).await;
        }
        // Others may still be sending.
        way.hold_up(false);
    });
    let hearing = members
        .iter_mut()
        .map(|member| next(member, 3 * BATCHES * BATCH));
    let (_, heard) = tokio::join!(join_all(sending), join_all(hearing));
    for seen in &heard {
        assert!(seen.windows(2).all(|pair| pair[0].0 < pair[1].0), "by id");
        for at in ["0", "1", "2"] {
            let own = seen.iter().filter(|(_, body)| body.starts_with(at));
            let own = own.map(|(_, body)| body).collect::<Vec<_>>();
            assert!(own.windows(2).all(|pair| pair[0] < pair[1]), "{own:?}");
            assert_eq!(own.len(), BATCHES * BATCH);
        }
        assert_eq!(seen, &heard[0]);
    }
    send(&mut senders[2], std::iter::once("last".to_owned())).await;
    for member in &mut members {
        assert_eq!(next(member, 1).await[0].1, "last", "nothing comes again");
    }
    assert_eq!(repaired(&backend, [&near, &far]), 0);
}
