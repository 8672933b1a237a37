//! Sentinels and clusters: what is found behind their URLs, and what is said when it is not.

use std::time::Duration;

use harness::until::DEADLINE;
use harness::{Cluster, Redis, Sentinel, until};
use redis::cmd;
use shared::broker::{BrokerError, Earlier, open};
use shared::config::BrokerUrl;
use shared::metrics::Metrics;
use tokio::time::{interval, timeout};

use super::redis_setup::refusal;
use super::{accept, draft, settings};

async fn opens(url: String) {
    let settings = settings(BrokerUrl::Redis(url));
    let opened = open(&settings, &Metrics::new(), Earlier::default()).await;
    opened.map(drop).expect("it opens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_sentinels_do_not_watch_or_no_sentinel_names_is_said() {
    let mut set = Sentinel::start().await;
    let url = set.url();
    let line = refusal(url.replace("/roomcast", "/rumcast"), |_| {}).await;
    assert!(
        line.contains("`rumcast`") && line.contains("watches `roomcast`"),
        "{line}"
    );
    let primary = set.primary().await.port();
    let line = refusal(
        format!("redis+sentinel://127.0.0.1:{primary}/roomcast"),
        |_| {},
    )
    .await;
    assert!(line.contains("is no Sentinel"), "{line}");
    // A replica that a Sentinel takes for a primary.
    let replica = set.servers()[1].port();
    let mut monitor = cmd("SENTINEL");
    monitor
        .arg("MONITOR")
        .arg("wrong")
        .arg("127.0.0.1")
        .arg(replica)
        .arg(3);
    let monitored: redis::RedisResult<()> = set.sentinels()[0].ask(&monitor).await;
    monitored.unwrap();
    let mut wrong = settings(BrokerUrl::Redis(url.replace("/roomcast", "/wrong")));
    wrong.connect_timeout = Duration::from_secs(1);
    match open(&wrong, &Metrics::new(), Earlier::default()).await {
        Err(BrokerError::Unavailable(line)) => assert!(line.contains("not a primary"), "{line}"),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("a replica is used"),
    }
    let sentinel = url.split([',', '/']).nth(2).unwrap();
    let line = refusal(format!("redis://{sentinel}"), |_| {}).await;
    assert!(line.contains("give redis+sentinel://"), "{line}");
    let line = refusal(format!("redis+cluster://127.0.0.1:{primary}"), |_| {}).await;
    assert!(line.contains("give redis://127.0.0.1"), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_and_servers_have_their_own_passwords() {
    let options = ["--requirepass", "right", "--masterauth", "right"];
    let config =
        "sentinel auth-pass roomcast right\nrequirepass watch\nsentinel sentinel-pass watch";
    let set = Sentinel::start_with(&options, config).await;
    let url = |user: &str, query: &str| set.url().replace("://", &format!("://{user}")) + query;
    for (user, query) in [
        ("", ""),
        (":right@", ""),
        (":s3cret@", "?sentinel_password=watch"),
        (":right@", "?sentinel_password=s3cret"),
    ] {
        let line = refusal(url(user, query), |_| {}).await;
        assert!(
            line.contains("127.0.0.1") && !line.contains("s3cret"),
            "{line}"
        );
    }
    opens(url(":right@", "?sentinel_password=watch")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_has_one_password_and_is_no_single_server() {
    let options = ["--requirepass", "right", "--masterauth", "right"];
    let cluster = Cluster::start_with(&options).await;
    let url = |user: &str| cluster.url().replace("://", &format!("://{user}"));
    for user in ["", ":s3cret@"] {
        let line = refusal(url(user), |_| {}).await;
        assert!(
            line.contains("127.0.0.1") && !line.contains("s3cret"),
            "{line}"
        );
    }
    opens(url(":right@")).await;
    let one = cluster.master(0).await.port();
    let line = refusal(format!("redis://:right@127.0.0.1:{one}"), |_| {}).await;
    assert!(line.contains("give redis+cluster://127.0.0.1"), "{line}");
    // One node is enough to find the others.
    opens(format!("redis+cluster://:right@127.0.0.1:{one}")).await;
    let shards = refusal(url(":right@"), |settings| settings.shards = 9).await;
    assert!(shards.contains("4 shards"), "{shards}");
}

#[tokio::test]
async fn servers_that_are_not_there_are_named() {
    let mut redis = Redis::start().await;
    redis.kill();
    let port = redis.port();
    for url in [
        format!("redis+sentinel://127.0.0.1:{port}/x"),
        format!("redis+cluster://127.0.0.1:{port}"),
    ] {
        let mut settings = settings(BrokerUrl::Redis(url));
        settings.connect_timeout = Duration::from_millis(300);
        match open(&settings, &Metrics::new(), Earlier::default()).await {
            Err(BrokerError::Unavailable(line)) => {
                assert!(line.contains(&format!("127.0.0.1:{port}")), "{line}");
            }
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("nobody is there"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_evicts_is_noticed() {
    let policy = ["--maxmemory", "4mb", "--maxmemory-policy", "allkeys-lru"];
    let redis = Redis::start_with(&policy).await;
    let metrics = Metrics::new();
    let settings = settings(BrokerUrl::Redis(redis.url()));
    let broker = open(&settings, &metrics, Earlier::default())
        .await
        .expect("it opens");
    accept(&broker, draft("a", 1)).await;
    let mut raw = redis.connection().await;
    let mut filled = 0;
    until("evicted keys to be counted", async || {
        for _ in 0..20 {
            filled += 1;
            let mut fill = cmd("SET");
            fill.arg(format!("filling:{filled}"))
                .arg(vec![b'x'; 10_000]);
            fill.exec_async(&mut raw).await.unwrap();
        }
        metrics.broker.evicted_keys.get() > 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sending_goes_on_at_its_pace_while_no_sentinel_answers() {
    let mut set = Sentinel::start().await;
    let settings = settings(BrokerUrl::Redis(set.url()));
    let opened = open(&settings, &Metrics::new(), Earlier::default()).await;
    let broker = opened.expect("it opens");
    set.sentinels().iter_mut().for_each(Redis::kill);
    let sending = async {
        let mut pace = interval(Duration::from_millis(200));
        for number in 0..40 {
            pace.tick().await;
            accept(&broker, draft("a", number)).await;
        }
    };
    // Were each to wait until they might have answered, it would be twice as long.
    timeout(DEADLINE, sending)
        .await
        .expect("all are accepted in time");
}
