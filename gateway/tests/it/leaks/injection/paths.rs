//! The same by HTTP: percent-encodings, queries and JSON.

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::stage::{Kept, Stage, is_room, is_user};
use super::{TRICKS, names};
use crate::leaks::{answer_to, request};

/// Rooms as they stand in a path.
fn paths() -> Vec<String> {
    let mut paths = vec!["%2E%2E".into(), "%2e%2e%2fx".into(), "a%2Fb".into()];
    for octet in 0..=255u8 {
        paths.push(format!("n%{octet:02X}m"));
        paths.push(format!("n%25{octet:02x}m"));
    }
    for overlong in [
        "%C0%AF",
        "%C0%80",
        "%E0%80%AF",
        "%F0%80%80%AF",
        "%ED%A0%80",
        "%FF%FE",
    ] {
        paths.push(format!("n{overlong}m"));
    }
    // What may stand in a path as it is; a slash, a question mark and a hash end the room.
    paths.extend(TRICKS.map(str::to_owned));
    paths.retain(|path| !path.contains(['/', '?', '#', '\r', '\n', ' ']));
    paths
}

fn post(address: &str, room: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let length = body.len();
    let head = format!(
        "POST /api/rooms/{room}/messages HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    (head + &body).into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_is_decoded_once_and_names_its_room_or_none() {
    let mut stage = Stage::new().await;
    for path in paths() {
        let body = stage.body();
        let json = json!({"body": body, "sender": "kim"});
        let address = stage.address.clone();
        let answer = answer_to(&address, &post(&address, &path, &json)).await;
        let decoded = percent_decode_str(&path).decode_utf8().ok();
        if let Some(room) = decoded.filter(|room| is_room(room)) {
            assert!(answer.starts_with("HTTP/1.1 201 "), "{path}: {answer}");
            stage.keeps_body(body, Kept::new(&room, "kim"));
        } else {
            assert!(answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
        }
    }
    // What leads elsewhere in a file system leads nowhere.
    for path in [
        "../x",
        "a/../b",
        "a//b",
        "a/%2E%2E/b",
        "user/kim/queue/x",
        "a/b",
        "",
    ] {
        let line = format!("GET /api/rooms/{path}/messages HTTP/1.1");
        let answer = request(&stage.address, &line, &[]).await;
        let status = if path.is_empty() { "400" } else { "404" };
        let is_nothing = answer.starts_with(&format!("HTTP/1.1 {status} "));
        assert!(is_nothing, "{path}: {answer}");
    }
    stage.holds().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_that_is_no_text_is_refused_and_text_is_kept_as_it_is() {
    let mut stage = Stage::new().await;
    let address = stage.address.clone();
    for field in [
        "body",
        "bodyBase64",
        "sender",
        "contentType",
        "idempotencyKey",
        "headers",
    ] {
        for value in [
            json!({"$ne": null}),
            json!({"$gt": ""}),
            json!({"$where": "sleep(1000)"}),
            json!(["a"]),
            json!([{"$gt": ""}]),
            json!(1),
            json!(true),
        ] {
            let mut message = json!({"body": "x", "sender": "kim"});
            message[field] = value;
            let answer = answer_to(&address, &post(&address, "json", &message)).await;
            let operator = ["$where", "$gt"].map(|name| message["headers"][name].is_string());
            if operator.contains(&true) {
                // A header may be called so: it is text, and no operator.
                assert!(answer.starts_with("HTTP/1.1 201 "), "{message}: {answer}");
                let (name, value) = message["headers"]
                    .as_object()
                    .unwrap()
                    .iter()
                    .next()
                    .unwrap();
                let headers = vec![(name.clone(), value.as_str().unwrap().to_owned())];
                let kept = Kept {
                    headers,
                    ..Kept::new("json", "kim")
                };
                stage.keeps_body("x".into(), kept);
            } else {
                assert!(answer.starts_with("HTTP/1.1 400 "), "{message}: {answer}");
            }
        }
    }
    for name in names() {
        let body = stage.body();
        let message = json!({"body": body, "sender": name, "idempotencyKey": name});
        let answer = answer_to(&address, &post(&address, "json", &message)).await;
        if is_user(&name) {
            assert!(answer.starts_with("HTTP/1.1 201 "), "{name:?}: {answer}");
            let kept = Kept {
                key: Some(name.clone()),
                ..Kept::new("json", &name)
            };
            stage.keeps_body(body, kept);
        } else {
            assert!(answer.starts_with("HTTP/1.1 400 "), "{name:?}: {answer}");
        }
    }
    for query in [
        "before[$gt]=",
        "before=%7B%22$gt%22%3A%22%22%7D",
        "limit[$ne]=1",
        "limit=1%00",
        "limit=1;2",
        "after=00000000-0000-7000-8000-000000000000'%20OR%20'1'='1",
        "after=*",
        "after=$where",
        "limit=1&limit=2",
        "room=other",
        "$where=sleep(1000)",
        "limit=-1",
        "limit=1e2",
        "after=%FF",
    ] {
        let line = format!("GET /api/rooms/json/messages?{query} HTTP/1.1");
        let answer = request(&address, &line, &[]).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{query}: {answer}");
    }
    stage.holds().await;
}
