//! Tokens and the keys that they are checked by, in every place where one may stand, good and bad; and
//! what those learn who have none, or one that is not for this room.

use harness::token::{self, Behaviour, KeyServer};
use harness::{Issuer, Process, Redis, StompClient, StompOptions, binary};
use serde_json::json;
use shared::stomp::{Command, Frame};

use super::{answer_to, request};
use crate::access::application::{Application, Manner};
use crate::auth::bearer;
use crate::running::backend;
use crate::wire::Wire;

/// The part of a token that nobody can guess, and the part that says who it is for.
fn parts(token: &str) -> impl Iterator<Item = String> {
    token.split('.').skip(1).map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_and_no_key_is_in_a_log_a_figure_or_an_error() {
    let (secret, published) = (Issuer::hs256(), Issuer::es256());
    let stranger = Issuer::hs256();
    let expired = json!({"sub": "kim", "exp": token::now() - 7200});
    let header = json!({"alg": "none"});
    let tokens = [
        secret.token(json!({"sub": "kim", "rooms": {"r": "rw"}})),
        published.token(json!({"sub": "kim", "rooms": {"r": "rw"}})),
        secret.token(expired),
        secret.token(json!({"sub": 7, "rooms": "s3cret"})),
        secret.token(json!({"sub": "a\nb", "aud": "s3cret"})),
        stranger.user("kim"),
        format!(
            "{}.c2lnbmF0dXJl",
            token::unsigned(&header, json!({"sub": "kim"}))
        ),
        format!(
            "{}.!!!!",
            token::unsigned(&header, json!({"sub": "s3cret"}))
        ),
        "s3cret".repeat(2_000),
    ];
    let redis = Redis::start().await;
    let keys = KeyServer::start(&[&published]).await;
    let application = Application::start().await;
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", folder.path().join("chat.db").display());
    let (broker, jwks) = (redis.url(), format!("{}?key=s3cret-keys", keys.url()));
    let mut said = Vec::new();
    for (format, access) in [("text", "claims"), ("json", "callback")] {
        let places = [
            "--jwt-cookie=token",
            "--jwt-query=access_token",
            "--auth=jwt",
        ];
        let listen = [
            "--listen=127.0.0.1:0",
            "--admin-listen=127.0.0.1:0",
            "--log-format",
            format,
        ];
        let sources = [
            "--access",
            access,
            "--jwt-jwks-refresh=1s",
            "--access-ttl=1s",
        ];
        let mut variables = vec![
            ("RUST_LOG", "trace"),
            ("ROOMCAST_BROKER", &broker),
            ("ROOMCAST_STORE", &store),
            ("ROOMCAST_JWT_KEY", secret.public()),
            ("ROOMCAST_JWT_JWKS_URL", &jwks),
        ];
        if access == "callback" {
            variables.push(("ROOMCAST_ACCESS_URL", &application.url));
            variables.push(("ROOMCAST_ACCESS_URL_HEADER", "X-Key: s3cret-header"));
        }
        application.allow("kim", &["subscribe", "send", "history"], "r");
        let args = [&places[..], &listen, &sources].concat();
        let process = Process::run(binary::path("gateway"), args, variables);
        let address = process.ready().await.to_string();
        let admin = process.admin().await.to_string();
        for token in &tokens {
            everywhere(&address, token, &mut said).await;
        }
        // What issues keys, and what says who may, fail in ways that are told.
        keys.behave(Behaviour::Other(500, "s3cret-answer".into()));
        application.behave(Manner::Other(500, String::new(), "s3cret-answer".into()));
        let told = |line: &str| line.contains("old ones are kept");
        process.line(told).await;
        everywhere(&address, &tokens[0], &mut said).await;
        keys.behave(Behaviour::Answer);
        application.behave(Manner::Honest);

        said.push(request(&admin, "GET /metrics HTTP/1.1", &[]).await);
        assert!(process.output().contains("TRACE"), "{}", process.output());
        said.push(process.output());
    }
    let mut secrets = vec!["s3cret".into(), secret.public().into()];
    secrets.extend(tokens[..7].iter().flat_map(|token| parts(token)));
    for said in &said {
        let is_told = |line: &&str| {
            secrets
                .iter()
                .any(|secret: &String| line.contains(&**secret))
        };
        assert_eq!(said.lines().find(is_told), None);
    }
}

/// Brings a token in every way; notes all that is answered.
async fn everywhere(address: &str, token: &str, said: &mut Vec<String>) {
    let plain = StompOptions::default;
    let header = |name: &str, value: String| StompOptions {
        request_headers: vec![(name.into(), value)],
        ..plain()
    };
    let passcode = StompOptions {
        headers: vec![("passcode".into(), token.into())],
        ..plain()
    };
    let path = format!("/ws?access_token={token}");
    for (path, options) in [
        ("/ws", bearer(token)),
        ("/ws", passcode),
        ("/ws", header("Authorization", format!("Bearer {token}"))),
        ("/ws", header("Cookie", format!("token={token}"))),
        (&*path, plain()),
    ] {
        let url = format!("ws://{address}{path}");
        let Ok(mut client) = StompClient::upgrade(&url, &options).await else {
            // Its head was too large.
            continue;
        };
        let connect = harness::stomp::connect_frame(&options);
        client.send_frame(connect).await.unwrap();
        let answer = client.next_frame(harness::stomp::DEADLINE).await.unwrap();
        said.push(format!("{answer:?}"));
        if answer.command == Command::Connected {
            for room in ["r", "other"] {
                let subscribe = Frame::new(Command::Subscribe)
                    .with("id", room)
                    .with("receipt", room)
                    .with("destination", &format!("/topic/rooms/{room}"));
                // A refusal before it has closed the connection.
                let _ = client.send_frame(subscribe).await;
                let Ok(answer) = client.next_frame(harness::stomp::DEADLINE).await else {
                    break;
                };
                said.push(format!("{answer:?}"));
            }
        }
    }
    for line in [
        "GET /api/rooms/r/messages HTTP/1.1".to_owned(),
        "GET /api/rooms/other/messages HTTP/1.1".to_owned(),
        "GET /api/rooms/*/messages HTTP/1.1".to_owned(),
        format!("GET /api/rooms/r/messages?access_token={token} HTTP/1.1"),
        format!("GET /api/rooms/r/messages?access_token={token}&access_token={token} HTTP/1.1"),
        format!("GET /sockjs/info?access_token={token} HTTP/1.1"),
        format!("GET /nothing?access_token={token} HTTP/1.1"),
    ] {
        for header in [
            format!("Authorization: Bearer {token}"),
            format!("Authorization: Basic {token}"),
            format!("Cookie: token={token}"),
            "X: y".into(),
        ] {
            said.push(request(address, &line, &[&header]).await);
        }
    }
    let session = format!("/sockjs/0/{}", uuid::Uuid::new_v4());
    let connect = serde_json::to_string(&[format!("CONNECT\npasscode:{token}\n\n\0")]).unwrap();
    for (path, body) in [
        ("xhr", ""),
        ("xhr_send", &*connect),
        ("xhr", ""),
        ("xhr_send", token),
    ] {
        let head = format!(
            "POST {session}/{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Cookie: token={token}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        said.push(answer_to(address, head.as_bytes()).await);
    }
}

#[tokio::test]
async fn who_may_not_is_told_the_same_whether_a_room_has_messages_or_not() {
    let issuer = Issuer::es256();
    let backend = backend(&[]).await;
    let _storing = backend.storing().await;
    let gateway = backend.gateway(&issuer.flags()).await;
    let full = json!({"sub": "ann", "rooms": {"full": "rw"}});
    let mut ann = StompClient::connect(&gateway.url(), bearer(&issuer.token(full)))
        .await
        .unwrap();
    let receipt = [("receipt", "1"), ("receipt-after", "stored")];
    ann.send("/app/rooms/full", "secret", &receipt)
        .await
        .unwrap();
    ann.receipt("1").await.unwrap();

    let other = issuer.token(json!({"sub": "kim", "rooms": {"other": "rw", "full-*": "rw"}}));
    let expired = json!({"sub": "ann", "rooms": {"full": "rw"}, "exp": token::now() - 7200});
    for token in [
        None,
        Some("x".into()),
        Some(issuer.token(expired)),
        Some(other.clone()),
    ] {
        let header = token
            .as_ref()
            .map(|token| format!("Authorization: Bearer {token}"));
        let headers: Vec<_> = header.iter().map(String::as_str).collect();
        for rest in [
            "messages",
            "messages?limit=1",
            "messages?after=01a2053f-3468-7000-8000-00000000000d",
        ] {
            let mut answers = Vec::new();
            for room in ["full", "void"] {
                let line = format!("GET /api/rooms/{room}/{rest} HTTP/1.1");
                let answer = request(&gateway.address, &line, &headers).await;
                let lines = answer.lines().filter(|line| !line.starts_with("date: "));
                answers.push(lines.collect::<Vec<_>>().join("\n"));
            }
            assert_eq!(answers[0], answers[1]);
            let status = if token.as_ref() == Some(&other) {
                "403"
            } else {
                "401"
            };
            assert!(
                answers[0].starts_with(&format!("HTTP/1.1 {status} ")),
                "{}",
                answers[0]
            );
        }
    }
    for frame in [
        "SUBSCRIBE\nid:1\ndestination:/topic/rooms/ROOM\nreceipt:x\n\n\0",
        "SUBSCRIBE\nid:1\ndestination:/topic/rooms/ROOM\nhistory:10\n\n\0",
        "SUBSCRIBE\nid:1\ndestination:/topic/rooms/ROOM\nafter:01a2053f-3468-7000-8000-00000000000d\n\n\0",
        "SEND\ndestination:/app/rooms/ROOM\nreceipt:x\n\nhello\0",
    ] {
        let mut answers = Vec::new();
        for room in ["full", "void"] {
            let mut wire = Wire::open(&gateway).await;
            let connect = format!("CONNECT\naccept-version:1.2\npasscode:{other}\n\n\0");
            wire.send(&connect).await;
            assert!(wire.next().await.starts_with("CONNECTED\n"));
            wire.send(&frame.replace("ROOM", room)).await;
            let answer = wire.next().await;
            assert!(answer.contains("\ncode:forbidden\n"), "{answer:?}");
            answers.push(answer.replace(room, "ROOM"));
        }
        assert_eq!(answers[0], answers[1]);
    }
}

#[tokio::test]
async fn without_a_token_a_request_is_not_even_looked_at() {
    let issuer = Issuer::es256();
    let backend = backend(&[]).await;
    let gateway = backend.gateway(&issuer.flags()).await;
    let ask = async |line: &str| {
        let answer = request(&gateway.address, line, &[]).await;
        let lines = answer.lines().filter(|line| !line.starts_with("date: "));
        lines.collect::<Vec<_>>().join("\n")
    };
    let unknown = ask("GET /api/rooms/r/messages HTTP/1.1").await;
    assert!(unknown.starts_with("HTTP/1.1 401 "), "{unknown}");
    for line in [
        "GET /api/rooms/*/messages HTTP/1.1",
        "GET /api/rooms/%00/messages HTTP/1.1",
        "GET /api/rooms/r/messages?limit=none HTTP/1.1",
        "GET /api/rooms/r/messages?after=x HTTP/1.1",
        "GET /api/rooms/r/messages?unknown=1 HTTP/1.1",
    ] {
        assert_eq!(ask(line).await, unknown, "{line}");
    }
}
