//! A gateway that was cut off from what is published, on a real Redis that goes on accepting.

use futures_util::future::join_all;
use harness::Redis;
use shared::stomp::{Command, Frame};

use crate::running::redis_backend;

#[tokio::test]
async fn nobody_waits_longer_for_a_room_because_others_wait_for_it_too() {
    let redis = Redis::start().await;
    let backend = redis_backend(&redis, &["--publish-timeout", "1s"]).await;
    let gateway = backend.gateway(&[]).await;
    // One after the other they would wait for longer than any of these clients does.
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(gateway.client("kim").await);
    }
    redis.pause();
    for client in &mut clients {
        let subscribe = Frame::new(Command::Subscribe)
            .with("id", "s")
            .with("destination", "/topic/rooms/r");
        client.send_frame(subscribe).await.unwrap();
    }
    let answers = clients.iter_mut().map(async |client| {
        let error = client.expect(Command::Error).await.unwrap();
        assert_eq!(error.header("code"), Some("broker-unavailable"));
        assert_eq!(client.close_code().await.unwrap(), Some(1013));
    });
    join_all(answers).await;
    redis.resume();
}
