//! Redis and MongoDB over TLS: real servers with certificates of an authority that only these
//! processes are told to trust.

use std::path::Path;

use harness::certificate::Certified;
use harness::{Authority, Mongo, Process, Redis, StompClient, StompOptions, binary, port};

/// What makes a `redis-server` speak TLS on one more port.
fn redis_options(authority: &Authority, server: &Certified, port: u16) -> Vec<String> {
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    [
        "--tls-port".to_owned(),
        port.to_string(),
        "--tls-cert-file".to_owned(),
        path(&server.certificate),
        "--tls-key-file".to_owned(),
        path(&server.key),
        "--tls-ca-cert-file".to_owned(),
        path(&authority.file()),
        "--tls-auth-clients".to_owned(),
        "no".to_owned(),
    ]
    .into()
}

/// A server whose certificate is for 127.0.0.1 alone, and its port for TLS.
async fn redis(authority: &Authority) -> (Redis, u16) {
    let (server, port) = (authority.certify("redis", &["127.0.0.1"]), port::free());
    let options = redis_options(authority, &server, port);
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    (Redis::start_with(&options).await, port)
}

/// A server whose certificate is for 127.0.0.1 alone.
async fn mongo(authority: &Authority) -> Mongo {
    let server = authority.certify("mongo", &["127.0.0.1"]);
    Mongo::start_with(&[
        "--tlsMode",
        "preferTLS",
        "--tlsCertificateKeyFile",
        server.both.to_str().unwrap(),
        "--tlsCAFile",
        authority.file().to_str().unwrap(),
        "--tlsAllowConnectionsWithoutCertificates",
    ])
    .await
}

/// A gateway on these, which trusts this authority for Redis, as an operator says it.
fn gateway(authority: &Authority, broker: &str, store: &str) -> Process {
    let flags = [
        "--broker",
        broker,
        "--store",
        store,
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
        "--connect-timeout",
        "3s",
    ];
    let trusted = [("SSL_CERT_FILE", authority.file())];
    Process::run(binary::path("gateway"), flags, trusted)
}

/// The one line with which a gateway that cannot start ends with 69.
async fn refusal(mut gateway: Process) -> String {
    let status = gateway.wait().await;
    let output = gateway.output();
    assert_eq!(status.code(), Some(69), "{output}");
    let line = output.lines().last().unwrap().to_owned();
    assert!(line.starts_with("gateway: "), "{output}");
    line
}

async fn serves(gateway: &Process) {
    let url = format!("ws://{}/ws", gateway.ready().await);
    let options = StompOptions::login("kim");
    let mut kim = StompClient::connect(&url, options).await.unwrap();
    kim.subscribe("s", "/topic/rooms/r", &[]).await.unwrap();
    kim.send("/app/rooms/r", "hello", &[("receipt", "1")])
        .await
        .unwrap();
    kim.receipt("1").await.unwrap();
    assert_eq!(kim.message().await.unwrap().body, "hello");
}

#[tokio::test]
async fn a_gateway_runs_on_a_redis_and_a_mongodb_that_it_reaches_over_tls() {
    let authority = Authority::new();
    let ((_redis, port), mongo) = tokio::join!(redis(&authority), mongo(&authority));
    let ca = authority.file().display().to_string();
    let broker = format!("rediss://127.0.0.1:{port}");
    let store = format!("{}&tls=true&tlsCAFile={ca}", mongo.url(&Mongo::database()));
    let gateway = gateway(&authority, &broker, &store);
    serves(&gateway).await;
}

#[tokio::test]
async fn a_redis_of_another_authority_or_another_name_is_refused_in_time() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (plain, port) = redis(&authority).await;
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", folder.path().join("chat.db").display());
    for (trusted, host, port, hint) in [
        (&stranger, "127.0.0.1", port, "certificate"),
        (&authority, "localhost", port, "not valid for name"),
        // It speaks no TLS there.
        (&authority, "127.0.0.1", plain.port(), "Redis at"),
    ] {
        let broker = format!("rediss://{host}:{port}");
        let line = refusal(gateway(trusted, &broker, &store)).await;
        let place = format!("{host}:{port}");
        assert!(line.contains(&place), "{line}");
        assert!(line.to_lowercase().contains(&hint.to_lowercase()), "{line}");
    }
}

#[tokio::test]
async fn a_mongodb_of_another_authority_or_another_name_is_refused_in_time() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (redis, mongo) = tokio::join!(Redis::start(), mongo(&authority));
    for (trusted, host, hint) in [
        (&stranger, "127.0.0.1", "certificate"),
        (&authority, "localhost", "not valid for name"),
    ] {
        let (port, ca) = (mongo.port(), trusted.file().display().to_string());
        let place = format!("{host}:{port}");
        let store = format!("mongodb://{place}/chat?directConnection=true&tls=true&tlsCAFile={ca}");
        let line = refusal(gateway(trusted, &redis.url(), &store)).await;
        assert!(line.contains(&place), "{line}");
        assert!(line.to_lowercase().contains(&hint.to_lowercase()), "{line}");
    }
}
