//! What a gateway asks others, who answer as they like.

use std::time::Duration;

use gateway::fetch::{Answer, Bounds, Fetch, FetchError, Url};
use harness::KeyServer;
use harness::token::Behaviour;
use hyper::header::HeaderMap;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const BOUNDS: Bounds = Bounds {
    deadline: Duration::from_secs(10),
    octets: 1000,
};

async fn got(server: &KeyServer, bounds: Bounds) -> Result<Answer, FetchError> {
    let url: Url = server.url().parse().unwrap();
    Fetch::new().get(&url, bounds).await
}

#[tokio::test]
async fn an_answer_has_its_status_and_its_body() {
    let server = KeyServer::start(&[]).await;
    assert_eq!(got(&server, BOUNDS).await.unwrap().body, br#"{"keys":[]}"#);
    server.behave(Behaviour::Other(404, "none".into()));
    let answer = got(&server, BOUNDS).await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), &answer.body[..]),
        (404, &b"none"[..])
    );
}

#[tokio::test]
async fn an_answer_that_never_ends_is_cut_at_the_bound() {
    let server = KeyServer::start(&[]).await;
    server.behave(Behaviour::Flood);
    let failure = got(&server, BOUNDS).await.unwrap_err();
    assert_eq!(failure, FetchError::TooLarge(1000));
    server.behave(Behaviour::Other(200, "x".repeat(1000)));
    assert!(got(&server, BOUNDS).await.is_ok());
    server.behave(Behaviour::Other(200, "x".repeat(1001)));
    assert!(got(&server, BOUNDS).await.is_err());
}

#[tokio::test]
async fn an_answer_that_does_not_come_ends_at_the_deadline() {
    let server = KeyServer::start(&[]).await;
    server.behave(Behaviour::Hang);
    let bounds = Bounds {
        deadline: Duration::from_millis(50),
        ..BOUNDS
    };
    assert_eq!(got(&server, bounds).await.unwrap_err(), FetchError::Late);
}

#[tokio::test]
async fn nobody_there_is_an_error_that_shows_no_query() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let url: Url = format!("http://{address}/x?key=s3cret").parse().unwrap();
    let failure = Fetch::new().get(&url, BOUNDS).await.unwrap_err();
    assert!(failure.to_string().contains("refused"), "{failure}");
    assert!(!failure.to_string().contains("s3cret"), "{failure}");
}

#[tokio::test]
async fn a_redirection_is_an_answer_that_nothing_follows() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let elsewhere = KeyServer::start(&[]).await;
    let url: Url = format!("http://{}/", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let location = elsewhere.url().to_owned();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"{\"a\":1}") {
            head.push(stream.read_u8().await.unwrap());
        }
        let answer =
            format!("HTTP/1.1 307 Elsewhere\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(head).unwrap().to_lowercase()
    });
    let mut headers = HeaderMap::new();
    headers.insert("x-secret", "s3cret".parse().unwrap());
    let answer = Fetch::new()
        .post_json(&url, headers, &json!({"a": 1}), BOUNDS)
        .await
        .unwrap();
    assert_eq!(answer.status.as_u16(), 307);
    assert_eq!(elsewhere.requests(), 0);
    let request = served.await.unwrap();
    assert!(request.contains("x-secret: s3cret\r\n"), "{request}");
    assert!(
        request.contains("content-type: application/json\r\n"),
        "{request}"
    );
}
