//! What somebody learns who has not said who they are: nothing about what exists, or how it is set up.

use shared::stomp::{Command, Frame};

use super::request;
use crate::running::{Backend, Running, backend};
use crate::wire::Wire;

/// What only who is known may be told: templates and the version of this program.
const CONFIGURATION: [&str; 4] = ["/topic", "/app", "{room}", env!("CARGO_PKG_VERSION")];

async fn gateway() -> (Backend, Running) {
    let backend = backend(&[]).await;
    let gateway = backend.gateway(&[]).await;
    (backend, gateway)
}

#[tokio::test]
async fn before_connect_nothing_is_said_of_destinations_or_the_version() {
    let (_backend, gateway) = gateway().await;
    for frame in [
        "SEND\ndestination:/nothing\n\nx\0",
        "SUBSCRIBE\nid:1\ndestination:/nothing\n\n\0",
        "SUBSCRIBE\nid:1\ndestination:/user/kim/queue/x\n\n\0",
        "UNSUBSCRIBE\nid:1\n\n\0",
        "CONNECT\naccept-version:7\n\n\0",
        "CONNECT\naccept-version:1.2\nheart-beat:x\n\n\0",
        "CONNECT\naccept-version:1.2\nlogin:\u{7f}\n\n\0",
        "MESSAGE\n\n\0",
        "GET / HTTP/1.1\r\n\r\n\0",
        "\0",
    ] {
        let mut wire = Wire::open(&gateway).await;
        wire.send(frame).await;
        let error = wire.next().await;
        assert!(error.starts_with("ERROR\n"), "{frame:?}: {error:?}");
        let told = CONFIGURATION.iter().find(|told| error.contains(**told));
        assert_eq!(told, None, "{frame:?}: {error:?}");
    }
    // Who is known is told.
    let mut client = gateway.client("kim").await;
    let lost = Frame::new(Command::Send).with("destination", "/nothing");
    client.send_frame(lost).await.unwrap();
    let error = client.expect(Command::Error).await.unwrap();
    assert!(format!("{error:?}").contains("{room}"), "{error:?}");
}

#[tokio::test]
async fn what_is_not_there_is_answered_alike_whatever_was_asked_for() {
    let (_backend, gateway) = gateway().await;
    let ask = async |line: &str| {
        let answer = request(&gateway.address, line, &[]).await;
        let lines = answer.lines().filter(|line| !line.starts_with("date: "));
        lines.collect::<Vec<_>>().join("\n")
    };
    let nothing = ask("GET /nothing HTTP/1.1").await;
    assert!(nothing.starts_with("HTTP/1.1 404 "), "{nothing}");
    for line in [
        "GET /metrics HTTP/1.1",
        "GET /readyz HTTP/1.1",
        "GET /livez HTTP/1.1",
        "GET /etc/passwd HTTP/1.1",
        "GET /../../etc/passwd HTTP/1.1",
        "GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1",
        "GET /%3Cscript%3Ealert(1)%3C/script%3E HTTP/1.1",
        "GET /.git/config HTTP/1.1",
        "GET /debug/pprof HTTP/1.1",
        "GET /ws/ HTTP/1.1",
        "GET /api HTTP/1.1",
        "GET /api/rooms HTTP/1.1",
        "GET /api/rooms/r HTTP/1.1",
        "GET /api/rooms/r/members HTTP/1.1",
        "POST /metrics HTTP/1.1",
        "TRACE /nothing HTTP/1.1",
        "GET http://elsewhere/nothing HTTP/1.1",
    ] {
        assert_eq!(ask(line).await, nothing, "{line}");
    }
}

#[tokio::test]
async fn no_answer_by_http_names_the_program_or_its_version() {
    let (_backend, gateway) = gateway().await;
    for line in [
        "GET /nothing HTTP/1.1",
        "GET /ws HTTP/1.1",
        "GET /sockjs/info HTTP/1.1",
        "GET /sockjs HTTP/1.1",
        "GET /api/rooms/r/messages HTTP/1.1",
        "GET /api/rooms/*/messages HTTP/1.1",
        "PUT /api/rooms/r/messages HTTP/1.1",
        "GARBAGE",
    ] {
        let answer = request(&gateway.address, line, &[]).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let head = head.to_lowercase();
        assert!(
            !head.contains("\nserver:") && !head.contains("\nx-powered-by:"),
            "{head}"
        );
        for told in ["hyper", "tungstenite", "redis", "mongo", "sqlite", "rust"] {
            let is_told = head.contains(told) || body.to_lowercase().contains(told);
            assert!(!is_told, "{line}: {answer}");
        }
    }
}
