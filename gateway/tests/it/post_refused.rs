//! What a POST is refused for, and what happens to it on a bad day.

use std::time::Duration;

use harness::{Redis, until};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::timeout;

use crate::posting::next;
use crate::running::{Backend, Running, backend, redis_backend};
use crate::serving::{Answer, DEADLINE, answer, head};

const PATH: &str = "/api/rooms/r/messages";
const JSON: &str = "Content-Type: application/json";

async fn nothing_was_published(gateway: &Running, backend: &Backend) {
    assert_eq!(gateway.metrics.gateway.messages_received.get(), 0);
    assert_eq!(backend.broker.backlog().await.unwrap(), 0);
}

#[tokio::test]
async fn a_message_that_makes_no_sense_is_refused_with_what_is_right() {
    let backend = backend(&[]).await;
    let gateway = backend.gateway(&[]).await;
    let headers = |count: usize, size: usize| {
        let pairs = (0..count).map(|number| (number.to_string(), "x".repeat(size).into()));
        json!({"body": "x", "headers": Value::Object(pairs.collect())}).to_string()
    };
    let cases = [
        ("{".to_owned(), "bad-body", "JSON"),
        // In the order of the fields, which is no promise.
        (
            r#"["x",null,null,null,null,null]"#.into(),
            "bad-body",
            "a JSON object",
        ),
        ("null".into(), "bad-body", "a JSON object"),
        ("".into(), "bad-body", "JSON"),
        (r#"{"body":"x"}{"#.into(), "bad-body", "trailing"),
        (r#"{"body":5}"#.into(), "bad-body", "expected a string"),
        (r#"{"body":"\ud800"}"#.into(), "bad-body", "JSON"),
        (r#"{"body":"x","body":"y"}"#.into(), "bad-body", "duplicate"),
        (
            r#"{"body":"x","room":"r"}"#.into(),
            "bad-body",
            "unknown field `room`",
        ),
        (r#"{}"#.into(), "bad-body", "body or bodyBase64"),
        (r#"{"body":null}"#.into(), "bad-body", "body or bodyBase64"),
        (
            r#"{"body":"","bodyBase64":""}"#.into(),
            "bad-body",
            "one of them",
        ),
        (r#"{"bodyBase64":"_-"}"#.into(), "bad-body", "base64"),
        (
            r#"{"body":"x","sender":""}"#.into(),
            "bad-body",
            "128 octets",
        ),
        (
            r#"{"body":"x","sender":"a\nb"}"#.into(),
            "bad-body",
            "128 octets",
        ),
        (
            r#"{"body":"x","idempotencyKey":""}"#.into(),
            "bad-body",
            "256 octets",
        ),
        (
            r#"{"body":"x","contentType":"\u0000"}"#.into(),
            "bad-body",
            "NUL",
        ),
        (
            r#"{"body":"x","headers":{"a":1}}"#.into(),
            "bad-body",
            "a string",
        ),
        (
            r#"{"body":"x","headers":["a"]}"#.into(),
            "bad-body",
            "object of strings",
        ),
        (
            r#"{"body":"x","headers":{"a":"1","a":"2"}}"#.into(),
            "bad-body",
            "repeated",
        ),
        (
            r#"{"body":"x","headers":{"":"1"}}"#.into(),
            "bad-body",
            "needs a name",
        ),
        (
            r#"{"body":"x","headers":{"a":"\u0000"}}"#.into(),
            "bad-body",
            "NUL",
        ),
        (
            r#"{"body":"x","headers":{"Sender":"eve"}}"#.into(),
            "bad-body",
            "header Sender is",
        ),
        (
            r#"{"body":"x","headers":{"message-id":"1"}}"#.into(),
            "bad-body",
            "message-id",
        ),
        (headers(101, 1), "bad-body", "100 headers"),
        (headers(1, 8 << 10), "bad-body", "8192 octets"),
        (headers(9, 8_000), "bad-body", "65536 together"),
        (
            format!(r#"{{"{}":1}}"#, "x".repeat(9_000)),
            "bad-body",
            "unknown field",
        ),
    ];
    for (body, code, says) in cases {
        let answer = gateway.ask("POST", PATH, &[JSON], body.as_bytes()).await;
        let shown: String = body.chars().take(80).collect();
        assert_eq!((answer.status, &*answer.code()), (400, code), "{shown}");
        assert!(answer.body.contains(says), "{shown}: {}", answer.body);
        assert!(answer.body.len() < 1000, "{shown}: {}", answer.body);
    }
    let tight = ["--max-headers", "10", "--max-header-bytes", "256B"];
    let tight = [&tight[..], &["--max-headers-bytes", "1KiB"]].concat();
    let tight = backend.gateway(&tight).await;
    for body in [headers(11, 1), headers(1, 256), headers(5, 250)] {
        let answer = tight.ask("POST", PATH, &[JSON], body.as_bytes()).await;
        assert_eq!((answer.status, &*answer.code()), (400, "bad-body"));
        let says = "10 headers, of 256 octets each and 1024 together";
        assert!(answer.body.contains(says), "{}", answer.body);
    }
    nothing_was_published(&gateway, &backend).await;
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_refused_with_what_is_right() {
    let backend = backend(&[]).await;
    let gateway = backend.gateway(&[]).await;
    let message = json!({"body": "x", "idempotencyKey": "key"});
    for (room, query, header, says) in [
        ("a%20b", "", "X: x", "1 to 128 characters"),
        ("", "", "X: x", "1 to 128 characters"),
        ("user%2Fkim%2Fqueue%2Fx", "", "X: x", "1 to 128 characters"),
        ("r", "?receipt=none", "X: x", "accepted or stored"),
        ("r", "?receipt=stored&receipt=stored", "X: x", "once"),
        ("r", "?limit=5", "X: x", "only parameter is receipt"),
        ("r", "", "Idempotency-Key: other", "differ"),
        ("r", "", "Idempotency-Key: ", "256 octets"),
        ("r", "", "Idempotency-Key: k\r\nIdempotency-Key: k", "once"),
    ] {
        let answer = gateway.post_with(room, query, &[header], &message).await;
        assert_eq!(answer.status, 400, "{room} {query} {header}");
        assert!(answer.body.contains(says), "{header}: {}", answer.body);
    }
    for headers in [
        &[][..],
        &["Content-Type: text/plain"],
        &["Content-Type: application/x-www-form-urlencoded"],
        &["Content-Type: application/jsonp"],
        &[JSON, "Content-Encoding: gzip"],
    ] {
        let answer = gateway.ask("POST", PATH, headers, b"{}").await;
        let refused = (answer.status, &*answer.code());
        assert_eq!(refused, (415, "unsupported-media-type"), "{headers:?}");
    }
    nothing_was_published(&gateway, &backend).await;
}

#[tokio::test]
async fn a_page_may_post_where_it_may_connect() {
    let backend = backend(&[]).await;
    let _storing = backend.storing().await;
    let gateway = backend
        .gateway(&["--allowed-origin", "https://a.example"])
        .await;
    let own = format!("http://{}", gateway.address);
    let body = json!({"body": "x"});
    for (origin, status) in [
        ("https://b.example", 403),
        ("null", 403),
        ("https://a.example", 201),
        (&own, 201),
    ] {
        let header = format!("Origin: {origin}");
        let answer = gateway.post_with("r", "", &[&header], &body).await;
        assert_eq!(answer.status, status, "{origin}");
        let shared = answer.header("Access-Control-Allow-Origin");
        assert_eq!(shared, (status == 201).then_some(origin));
        assert_eq!(answer.header("Vary"), Some("Origin"));
        if status == 403 {
            assert_eq!(answer.code(), "bad-origin");
        }
        // What a browser asks before it posts JSON to another origin.
        let preflight = gateway.ask("OPTIONS", PATH, &[&header], b"").await;
        assert_eq!(preflight.status, 204);
        let allow = |name| preflight.header(name).unwrap_or_default();
        assert!(allow("Access-Control-Allow-Methods").contains("POST"));
        assert_eq!(
            allow("Access-Control-Allow-Headers"),
            "Authorization, Content-Type, Idempotency-Key"
        );
    }
    assert_eq!(gateway.metrics.gateway.messages_received.get(), 2);
    let other = gateway.ask("PUT", PATH, &[JSON], b"{}").await;
    assert_eq!(other.status, 405);
    assert_eq!(other.header("Allow"), Some("GET, HEAD, POST, OPTIONS"));
}

#[tokio::test]
async fn what_is_too_large_is_told_so_although_it_is_still_being_sent() {
    let backend = backend(&[]).await;
    let gateway = backend.gateway(&[]).await;
    let fits = json!({"body": "x".repeat(64 << 10), "headers": {}});
    let header = json!({"body": "x".repeat(65_530), "headers": {"abc": "defg"}});
    let body = json!({"body": "x".repeat((64 << 10) + 1)});
    let whole = json!({"body": "x".repeat(1 << 20)});
    for (message, code) in [
        (&header, "message-too-large"),
        (&body, "message-too-large"),
        (&whole, "body-too-large"),
    ] {
        let answer = gateway.post("r", message).await;
        assert_eq!((answer.status, &*answer.code()), (413, code));
    }
    nothing_was_published(&gateway, &backend).await;
    let _storing = backend.storing().await;
    gateway.post("r", &fits).await.created();

    // Whoever still sends is let finish, or a reset would take the answer.
    let body = whole.to_string();
    let request = gateway.request("POST", PATH, &[JSON, "Connection: close"], body.as_bytes());
    let (first, rest) = request.split_at(request.len() / 2);
    let mut stream = gateway.connect().await;
    stream.write_all(first).await.unwrap();
    let early = timeout(Duration::from_millis(300), stream.readable()).await;
    assert!(early.is_err(), "it is answered before it is sent");
    stream.write_all(rest).await.unwrap();
    assert_eq!(answer(&mut stream).await.status, 413);

    // Far too much is not read, and not asked for.
    let mut stream = gateway.connect().await;
    let huge = format!(
        "POST {PATH} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n{JSON}\r\n\
         Content-Length: 1000000000\r\n\r\n"
    );
    stream.write_all(huge.as_bytes()).await.unwrap();
    assert_eq!(answer(&mut stream).await.status, 413);
    // Nor when its length is not known before.
    let mut stream = gateway.connect().await;
    let endless =
        format!("POST {PATH} HTTP/1.1\r\nHost: x\r\n{JSON}\r\nTransfer-Encoding: chunked\r\n\r\n");
    stream.write_all(endless.as_bytes()).await.unwrap();
    let chunk = [b"10000\r\n", &vec![b'x'; 0x10000][..], b"\r\n"].concat();
    let sent = async { while stream.write_all(&chunk).await.is_ok() {} };
    timeout(DEADLINE, sent).await.unwrap();
}

#[tokio::test]
async fn a_body_that_stops_halfway_is_given_up_and_publishes_nothing() {
    let backend = backend(&[]).await;
    let gateway = backend.gateway(&["--connect-deadline", "300ms"]).await;
    let body = json!({"body": "x"}).to_string();
    let request = gateway.request("POST", PATH, &[JSON], body.as_bytes());
    let mut stream = gateway.connect().await;
    stream
        .write_all(&request[..request.len() - 3])
        .await
        .unwrap();
    let late = answer(&mut stream).await;
    assert_eq!((late.status, &*late.code()), (408, "body-timeout"));
    assert_eq!(late.header("Connection"), Some("close"));

    let mut stream = gateway.connect().await;
    stream
        .write_all(&request[..request.len() - 3])
        .await
        .unwrap();
    drop(stream);
    let chunked = format!(
        "POST {PATH} HTTP/1.1\r\nHost: x\r\n{JSON}\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    );
    let mut stream = gateway.connect().await;
    stream.write_all(chunked.as_bytes()).await.unwrap();
    let broken = answer(&mut stream).await;
    assert_eq!((broken.status, &*broken.code()), (400, "bad-body"));
    nothing_was_published(&gateway, &backend).await;
}

#[tokio::test]
async fn a_client_that_hangs_up_has_sent_its_message() {
    let backend = backend(&[]).await;
    let gateway = backend.gateway(&[]).await;
    let body = json!({"body": "x", "idempotencyKey": "key"}).to_string();
    let request = gateway.request("POST", PATH, &[JSON], body.as_bytes());
    let mut stream = gateway.connect().await;
    stream.write_all(&request).await.unwrap();
    until("the message to be accepted", async || {
        backend.broker.backlog().await.unwrap() == 1
    })
    .await;
    drop(stream);
    let _storing = backend.storing().await;
    let again = gateway.ask("POST", PATH, &[JSON], body.as_bytes()).await;
    again.created();
    assert_eq!(
        gateway.metrics.gateway.messages_received.get(),
        2,
        "both were published, as one message"
    );
    let page = gateway.ask("GET", PATH, &[], b"").await.json();
    assert_eq!(page["messages"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn bodies_beyond_what_the_server_may_hold_of_one_address_are_told_to_come_back() {
    const PIECE: usize = 390_000;
    let backend = backend(&[]).await;
    let _storing = backend.storing().await;
    let gateway = backend.gateway(&["--connect-deadline", "60s"]).await;
    let large = json!({"body": "x".repeat(PIECE)}).to_string();
    let request = gateway.request("POST", PATH, &[JSON], large.as_bytes());
    let mut half = Vec::new();
    // Half of what the server may hold, which is an address's share.
    for _ in 0..(32 << 20) / PIECE {
        let mut stream = gateway.connect().await;
        stream.write_all(&request[..PIECE]).await.unwrap();
        half.push(stream);
    }
    let small = json!({"body": "x".repeat(60_000)});
    // The others' octets are in its sockets, and not yet all read.
    let mut refused: Option<Answer> = None;
    until("the bodies to be too many", async || {
        // What is left is less than one of those, and is filled too.
        let mut stream = gateway.connect().await;
        stream.write_all(&request[..PIECE / 20]).await.unwrap();
        half.push(stream);
        let answer = gateway.post("r", &small).await;
        let is_refused = answer.status == 503;
        refused = Some(answer);
        is_refused
    })
    .await;
    let refused = refused.unwrap();
    assert_eq!(refused.code(), "overloaded");
    // Who comes from elsewhere has room.
    let elsewhere = TcpSocket::new_v4().unwrap();
    elsewhere.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let address = gateway.address.parse().unwrap();
    let mut elsewhere = elsewhere.connect(address).await.unwrap();
    let small_request = gateway.request("POST", PATH, &[JSON], small.to_string().as_bytes());
    elsewhere.write_all(&small_request).await.unwrap();
    assert_eq!(next(&mut elsewhere).await.status, 201);
    assert!(refused.header("Retry-After").is_some());
    drop(half);
    until("the bodies to be given back", async || {
        gateway.post("r", &small).await.status == 201
    })
    .await;
}

#[tokio::test]
async fn a_full_journal_and_a_broker_that_is_away_are_told_and_to_be_tried_again() {
    let full = backend(&["--journal-max", "16", "--shards", "1"]).await;
    let gateway = full.gateway(&["--receipt-timeout", "1ms"]).await;
    for _ in 0..16 {
        assert_eq!(gateway.post("r", &json!({"body": "x"})).await.status, 504);
    }
    let refused = gateway.post("r", &json!({"body": "x"})).await;
    assert_eq!((refused.status, &*refused.code()), (503, "journal-full"));
    assert!(refused.header("Retry-After").is_some());

    let mut redis = Redis::start().await;
    let away = redis_backend(&redis, &["--publish-timeout", "500ms"]).await;
    let gateway = away.gateway(&[]).await;
    let message = json!({"body": "x", "idempotencyKey": "key"});
    gateway.post("r", &message).await.created();
    redis.kill();
    let open = gateway.post("r", &message).await;
    assert_eq!((open.status, &*open.code()), (503, "broker-unavailable"));
    assert!(open.body.contains("same idempotency key"), "{}", open.body);
    assert!(open.header("Retry-After").is_some());
    redis.restart().await;
    until("the broker to be back", async || {
        gateway.post("r", &message).await.status == 201
    })
    .await;
    assert_eq!(away.broker.backlog().await.unwrap(), 1);
}

#[tokio::test]
async fn a_server_that_drains_answers_what_it_has_accepted() {
    let backend = backend(&[]).await;
    let flags = ["--write-timeout", "100ms", "--drain-timeout", "4s"];
    for is_stored in [true, false] {
        let gateway = backend.gateway(&flags).await;
        let body = json!({"body": "x"}).to_string();
        let request = gateway.request("POST", PATH, &[JSON], body.as_bytes());
        let mut stream = gateway.connect().await;
        stream.write_all(&request).await.unwrap();
        until("the message to be accepted", async || {
            backend.broker.backlog().await.unwrap() == 1
        })
        .await;
        gateway.stop.cancel();
        // It waits for the store, for longer than a client may take to read.
        let early = timeout(Duration::from_millis(500), stream.readable()).await;
        assert!(early.is_err(), "it is answered before the store has it");
        let storing = if is_stored {
            Some(backend.storing().await)
        } else {
            None
        };
        let last = head(&mut stream).await;
        assert_eq!(last.status, if is_stored { 201 } else { 504 });
        assert_eq!(last.header("Connection"), Some("close"));
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        timeout(DEADLINE, gateway.ended).await.unwrap().unwrap();
        if let Some(storing) = storing {
            storing.abort();
        }
    }
}
