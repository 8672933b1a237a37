//! What is written in Redis, and what is said when it cannot be used.

use std::time::Duration;

use harness::redis::Redis;
use redis::cmd;
use shared::broker::{BrokerError, Earlier, open};
use shared::config::BrokerUrl;
use shared::message::Span;
use shared::metrics::Metrics;

use super::{Backend, Kind, accept, draft, keyed, room, settings};

pub(super) async fn refusal(
    url: String,
    change: impl FnOnce(&mut shared::config::BrokerSettings),
) -> String {
    let mut settings = settings(BrokerUrl::Redis(url));
    change(&mut settings);
    match open(&settings, &Metrics::new(), Earlier::default()).await {
        Err(BrokerError::Misconfigured(line)) => line,
        Err(other) => panic!("{other:?} is not called a misconfiguration"),
        Ok(_) => panic!("it opens"),
    }
}

#[tokio::test]
async fn every_process_needs_the_same_number_of_shards() {
    let mut backend = Backend::start(Kind::Redis).await;
    backend.broker().await;
    let line = refusal(backend.redis().url(), |settings| settings.shards = 9).await;
    assert!(
        line.contains("4 shards") && line.contains("with 9"),
        "{line}"
    );
    for shards in [0, u16::MAX] {
        let line = refusal(backend.redis().url(), |settings| settings.shards = shards).await;
        assert!(line.contains("1 to"), "{line}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_a_misconfiguration_and_is_not_told() {
    let redis = Redis::start_with(&["--requirepass", "right"]).await;
    let with = |user: &str| redis.url().replace("redis://", &format!("redis://{user}"));
    for user in ["", ":secret-wrong@", "nobody:secret-wrong@"] {
        let line = refusal(with(user), |_| {}).await;
        assert!(line.contains("127.0.0.1"), "{line}");
        assert!(!line.contains("secret-wrong"), "{line}");
    }
    let right = settings(BrokerUrl::Redis(with(":right@")));
    assert!(
        open(&right, &Metrics::new(), Earlier::default())
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_user_who_may_not_publish_is_told_at_the_start() {
    let redis = Redis::start().await;
    let mut raw = redis.connection().await;
    let mut user = cmd("ACL");
    user.arg("SETUSER")
        .arg("mute")
        .arg("on")
        .arg(">p")
        .arg("~*")
        .arg("+@all");
    user.arg("resetchannels")
        .exec_async(&mut raw)
        .await
        .unwrap();
    let line = refusal(redis.url().replace("redis://", "redis://mute:p@"), |_| {}).await;
    assert!(line.contains("channel"), "{line}");
}

#[tokio::test]
async fn a_url_that_cannot_be_used_is_a_misconfiguration() {
    for url in [
        "redis://",
        "http://127.0.0.1",
        "redis://127.0.0.1/x",
        "redis://0.0.0.0",
    ] {
        refusal(url.into(), |_| {}).await;
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_after_the_connect_deadline() {
    let mut redis = Redis::start().await;
    redis.kill();
    let mut settings = settings(BrokerUrl::Redis(redis.url()));
    settings.connect_timeout = Duration::from_millis(300);
    match open(&settings, &Metrics::new(), Earlier::default()).await {
        Err(BrokerError::Unavailable(line)) => assert!(line.contains("127.0.0.1"), "{line}"),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("nobody is there"),
    }
    settings.connect_timeout = Duration::from_secs(30);
    let metrics = Metrics::new();
    let (opened, ()) = tokio::join!(
        open(&settings, &metrics, Earlier::default()),
        redis.restart()
    );
    assert!(opened.is_ok());
}

#[tokio::test]
async fn the_keys_are_those_of_the_documentation() {
    let mut backend = Backend::start_with(Kind::Redis, |settings| settings.shards = 1).await;
    let broker = backend.broker().await;
    let _feed = broker.open_feed("one").await.unwrap();
    accept(&broker, keyed("a:b", "k:1")).await;
    accept(&broker, draft("c", 1)).await;
    broker.recent(&room("c"), Span::Newest, 1).await.unwrap();
    let mut raw = backend.redis().connection().await;
    let mut keys: Vec<String> = cmd("KEYS").arg("*").query_async(&mut raw).await.unwrap();
    keys.sort();
    let token = keys
        .iter()
        .position(|key| key.starts_with("rc:{0}:idem:c::"))
        .unwrap();
    let token = keys.remove(token);
    assert_eq!(
        keys,
        [
            "rc:shards",
            "rc:{0}:idem:a%3Ab:ann:k%3A1",
            "rc:{0}:journal",
            "rc:{0}:recent:a:b",
            "rc:{0}:recent:c",
        ]
    );
    for (key, limit) in [
        (keys[1].as_str(), 600_000),
        (keys[3].as_str(), 600_000),
        // Twice the deadline of a publish: as long as this process may repeat it.
        (token.as_str(), 40_000),
    ] {
        let left: u64 = cmd("PTTL").arg(key).query_async(&mut raw).await.unwrap();
        assert!(left <= limit && left > limit / 2, "{key}: {left}");
    }
    let groups: Vec<redis::Value> = cmd("XINFO")
        .arg("GROUPS")
        .arg("rc:{0}:journal")
        .query_async(&mut raw)
        .await
        .unwrap();
    assert_eq!(groups.len(), 1);
    assert!(format!("{groups:?}").contains("persisters"));
}
