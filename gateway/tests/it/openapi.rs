//! What `/api/openapi.json` says of the API is true: `clients/openapi.mjs` holds every kind of answer
//! against it.

use std::path::Path;

use harness::token::Behaviour;
use harness::{Issuer, KeyServer, Process, Redis, until};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::posting::next;
use crate::running::{Running, backend, redis_backend};
use crate::serving::{Answer, answer, serving};

const PATH: &str = "/api/rooms/r/messages";
const JSON: &str = "Content-Type: application/json";

/// Answers, with what was asked.
#[derive(Default)]
struct Answers(Vec<Value>);

impl Answers {
    fn keep(&mut self, method: &str, path: &str, request: Option<&Value>, answer: &Answer) {
        let headers = answer.head.lines().skip(1).map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_lowercase(), Value::from(value))
        });
        self.0.push(json!({
            "method": method,
            "path": path,
            "request": request,
            "status": answer.status,
            "headers": Value::Object(headers.collect()),
            "body": answer.body,
        }));
    }

    async fn get(&mut self, gateway: &Running, path: &str) {
        self.get_with(gateway, path, "X: x").await;
    }

    async fn get_with(&mut self, gateway: &Running, path: &str, header: &str) {
        let answer = gateway.ask("GET", path, &[header], b"").await;
        self.keep("GET", path, None, &answer);
    }

    async fn post(&mut self, gateway: &Running, query: &str, header: &str, message: Value) {
        let answer = gateway.post_with("r", query, &[header], &message).await;
        self.keep("POST", &format!("{PATH}{query}"), Some(&message), &answer);
    }
}

#[tokio::test]
async fn the_description_of_the_api_is_valid_and_describes_every_answer() {
    let redis = Redis::start().await;
    let backend = redis_backend(&redis, &["--publish-timeout", "2s"]).await;
    let flags = [
        "--receipt-timeout",
        "200ms",
        "--connect-deadline",
        "1s",
        "--drain-timeout",
        "3s",
    ];
    let gateway = backend.gateway(&flags).await;
    let mut answers = Answers::default();

    for message in [
        json!({"body": "x"}),
        json!({"bodyBase64": "/wA=", "contentType": null, "headers": {"a": "b"}}),
        json!({"body": "", "contentType": "text/plain", "sender": "kim", "idempotencyKey": "k"}),
    ] {
        answers.post(&gateway, "", "X: x", message).await;
    }
    for message in [
        json!({"body": 5}),
        json!({"body": "x", "bodyBase64": ""}),
        json!({"text": "x"}),
        json!({"body": "x", "sender": ""}),
        json!({"body": "x", "headers": {"a": null}}),
    ] {
        answers.post(&gateway, "", "X: x", message).await;
    }
    let message = json!({"body": "x"});
    for (query, header) in [
        ("?receipt=stored", "X: x"),
        ("?receipt=none", "X: x"),
        ("", "Origin: https://elsewhere.example"),
        ("", "Content-Encoding: gzip"),
    ] {
        answers.post(&gateway, query, header, message.clone()).await;
    }
    for size in [100_000, 1_000_000] {
        let large = json!({"body": "x".repeat(size)});
        answers.post(&gateway, "", "X: x", large).await;
    }
    let mut stream = gateway.connect().await;
    let half = format!("POST {PATH} HTTP/1.1\r\nHost: x\r\n{JSON}\r\nContent-Length: 9\r\n\r\n{{");
    stream.write_all(half.as_bytes()).await.unwrap();
    answers.keep("POST", PATH, None, &answer(&mut stream).await);
    answers.get(&gateway, PATH).await;
    answers.get(&gateway, "/api/rooms/r/messages?limit=0").await;

    bad_days(&mut answers).await;
    strangers(&mut answers).await;
    members(&mut answers).await;
    redis.pause();
    answers.post(&gateway, "", "X: x", message.clone()).await;
    redis.resume();
    until("the broker to be back", async || {
        gateway.post("r", &message).await.status == 201
    })
    .await;

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("answers.json");
    std::fs::write(&file, Value::from(answers.0).to_string()).unwrap();
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients");
    assert!(
        clients.join("node_modules/ajv").is_dir(),
        "the validator is not installed: run scripts/test"
    );
    let url = format!("http://{}", gateway.address);
    let mut script = Process::run(
        "node",
        [clients.join("openapi.mjs")],
        [
            ("ROOMCAST_URL", &*url),
            ("ROOMCAST_ANSWERS", file.to_str().unwrap()),
            ("ROOMCAST_VERSION", env!("CARGO_PKG_VERSION")),
        ],
    );
    let status = script.wait().await;
    assert!(status.success(), "{status}\n{}", script.output());
}

/// What a server answers to who may not, and where nobody can say who may.
async fn members(answers: &mut Answers) {
    let issuer = Issuer::hs256();
    let bearer = format!("Authorization: Bearer {}", issuer.user("kim"));
    let backend = backend(&[]).await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", nobody.local_addr().unwrap());
    drop(nobody);
    let asks = ["--access", "callback", "--access-url", &url];
    for access in [&["--access", "claims"][..], &asks] {
        let flags = [&issuer.flags()[..], access].concat();
        let gateway = backend.gateway(&flags).await;
        answers.get_with(&gateway, PATH, &bearer).await;
        let message = json!({"body": "x"});
        answers.post(&gateway, "", &bearer, message).await;
    }
}

/// What a server answers that wants to know who asks.
async fn strangers(answers: &mut Answers) {
    let (known, unknown) = (Issuer::es256().named("a"), Issuer::es256().named("b"));
    let keys = KeyServer::start(&[&known]).await;
    let backend = backend(&[]).await;
    let flags = [&keys.flags()[..], &["--jwt-jwks-refresh", "1s"]].concat();
    let gateway = backend.gateway(&flags).await;
    let message = json!({"body": "x", "sender": "lee"});
    let header = |token: &str| format!("Authorization: Bearer {token}");
    let expired = header(&known.token(json!({"sub": "kim", "exp": 1})));
    for header in ["X: x", &expired] {
        answers.get_with(&gateway, PATH, header).await;
        answers.post(&gateway, "", header, message.clone()).await;
    }
    let kim = header(&known.user("kim"));
    answers.post(&gateway, "", &kim, message.clone()).await;

    keys.behave(Behaviour::Other(500, String::new()));
    let unknown = header(&unknown.user("kim"));
    until("the keys to be out of reach", async || {
        gateway.ask("GET", PATH, &[&unknown], b"").await.status == 503
    })
    .await;
    answers.get_with(&gateway, PATH, &unknown).await;
    answers.post(&gateway, "", &unknown, message).await;
}

/// What a server answers that is full, that is stopped, or that has nobody behind it.
async fn bad_days(answers: &mut Answers) {
    let message = json!({"body": "x"});
    let full = backend(&["--journal-max", "1", "--shards", "1"]).await;
    let gateway = full.gateway(&["--receipt-timeout", "1ms"]).await;
    until("the journal to be full", async || {
        gateway.post("r", &message).await.status == 503
    })
    .await;
    answers.post(&gateway, "", "X: x", message.clone()).await;

    let gateway = full.gateway(&["--max-connections", "1"]).await;
    let mut stream = gateway.connect().await;
    let request = gateway.request("GET", PATH, &[], b"");
    stream.write_all(&request).await.unwrap();
    assert_eq!(next(&mut stream).await.status, 200);
    answers.get(&gateway, PATH).await;
    answers.post(&gateway, "", "X: x", message.clone()).await;

    let gateway = full.gateway(&["--address-max-connections", "1"]).await;
    let mut stream = gateway.connect().await;
    stream.write_all(&request).await.unwrap();
    assert_eq!(next(&mut stream).await.status, 200);
    answers.get(&gateway, PATH).await;
    answers.post(&gateway, "", "X: x", message.clone()).await;

    let gateway = full.gateway(&["--address-frame-rate", "1"]).await;
    until("the address to ask too much", async || {
        gateway.post("r", &message).await.status == 429
    })
    .await;
    answers.get(&gateway, PATH).await;
    answers.post(&gateway, "", "X: x", message.clone()).await;

    let serving = serving(&[]).await;
    let database = rusqlite::Connection::open(&serving.file).unwrap();
    database
        .execute("ALTER TABLE messages RENAME TO elsewhere", ())
        .unwrap();
    answers.keep("GET", PATH, None, &serving.get(PATH).await);

    let redis = Redis::start().await;
    let silent = redis_backend(&redis, &["--publish-timeout", "60s"]).await;
    let gateway = silent.gateway(&["--drain-timeout", "3s"]).await;
    gateway.post("r", &message).await.created();
    redis.pause();
    let asked = gateway.post("r", &message);
    let stopped = async {
        until("the message to be on its way", async || {
            gateway.metrics.gateway.messages_received.get() == 2
        })
        .await;
        gateway.stop.cancel();
    };
    let (last, ()) = tokio::join!(asked, stopped);
    answers.keep("POST", PATH, Some(&message), &last);
    redis.resume();
}
