//! `GET /api/rooms/{room}/messages`.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use harness::redis::Redis;
use shared::message::{Draft, MessageId, RoomName, Series, Span, UserName};
use tokio::time::Instant;

use crate::serving::{Answer, DEADLINE, RECENT, Serving, serving};

/// The bodies of a page, which must be complete or not.
fn bodies(answer: &Answer, complete: bool) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let page = answer.json();
    assert_eq!(page["complete"], complete);
    let messages = page["messages"].as_array().unwrap().iter();
    messages
        .map(|message| message["body"].as_str().unwrap().to_owned())
        .collect()
}

/// Twelve messages: some are only stored, some both stored and recent, some only accepted.
async fn a_room_in_three_places(serving: &Serving) -> Vec<MessageId> {
    let mut ids = serving
        .publish("lobby", &[b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7"])
        .await;
    serving.persist().await;
    ids.extend(serving.publish("lobby", &[b"8", b"9", b"10", b"11"]).await);
    assert!(ids.len() > 2 * RECENT);
    ids
}

#[tokio::test]
async fn a_users_queue_is_shown_to_nobody() {
    let redis = Redis::start().await;
    let serving = serving(&["--broker", &redis.url()]).await;
    let kim = UserName::parse("kim").unwrap();
    let queue = RoomName::queue(&kim, "queue/x").unwrap();
    let draft = Draft {
        room: queue.clone(),
        sender: kim,
        content_type: None,
        headers: Vec::new(),
        body: "secret".into(),
        idempotency_key: None,
        newer_than: None,
        notify: None,
        series: Series::default(),
        ephemeral: false,
    };
    let accepted = serving.broker.publish(draft).await.unwrap();
    let held = serving
        .broker
        .recent(&queue, Span::Newest, 1)
        .await
        .unwrap();
    assert_eq!(held.messages[0].id, accepted.id);
    for (room, status) in [
        ("user%2Fkim%2Fqueue%2Fx", 400),
        ("user%2fkim%2fqueue%2fx", 400),
        ("user%252Fkim%252Fqueue%252Fx", 400),
        ("r%2F..%2Fuser%2Fkim%2Fqueue%2Fx", 400),
        ("user/kim/queue/x", 404),
        ("../user/kim/queue/x", 404),
        ("r/messages/../../user%2Fkim%2Fqueue%2Fx", 404),
    ] {
        let answer = serving.get(&format!("/api/rooms/{room}/messages")).await;
        assert_eq!(answer.status, status, "{room}: {}", answer.body);
        assert!(!answer.body.contains("secret"), "{room}");
    }
}

#[tokio::test]
async fn a_message_is_shown_with_everything_that_its_sender_gave() {
    let redis = Redis::start().await;
    let serving = serving(&["--broker", &redis.url()]).await;
    let ids = serving
        .publish("a:b@c", &["안녕 👋".as_bytes(), b"\xff\0"])
        .await;
    let answer = serving.get("/api/rooms/a%3Ab%40c/messages").await;
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    let page = answer.json();
    let text = &page["messages"][0];
    assert_eq!(text["id"], ids[0].to_string());
    assert_eq!(text["room"], "a:b@c");
    assert_eq!(text["sender"], "ann");
    assert_eq!(text["contentType"], "text/plain");
    assert_eq!(text["body"], "안녕 👋");
    assert_eq!(text["createdAt"], ids[0].created_at_rfc3339());
    assert_eq!(
        text["headers"],
        serde_json::json!({"colour": "blue", "size": "1"})
    );
    assert!(text.get("bodyBase64").is_none());
    let octets = &page["messages"][1];
    assert!(octets.get("body").is_none());
    assert_eq!(octets["bodyBase64"], BASE64_STANDARD.encode(b"\xff\0"));
    assert_eq!(page["complete"], true);
    assert_eq!(
        serving.get("/api/rooms/a:b@c/messages").await.body,
        answer.body
    );
}

#[tokio::test]
async fn paging_reads_every_message_once_in_order_wherever_it_lies() {
    let redis = Redis::start().await;
    let serving = serving(&["--broker", &redis.url()]).await;
    let ids = a_room_in_three_places(&serving).await;
    let all: Vec<_> = (0..ids.len()).map(|number| number.to_string()).collect();
    assert_eq!(
        bodies(&serving.get("/api/rooms/lobby/messages").await, true),
        all
    );

    let mut backwards = Vec::new();
    let mut question = String::new();
    loop {
        let answer = serving
            .get(&format!("/api/rooms/lobby/messages?limit=5{question}"))
            .await;
        let page = bodies(&answer, true);
        let Some(first) = page.first() else { break };
        question = format!("&before={}", ids[first.parse::<usize>().unwrap()]);
        backwards.splice(0..0, page);
    }
    assert_eq!(backwards, all);

    let mut forwards = vec!["0".to_owned()];
    loop {
        let last = ids[forwards.len() - 1];
        let question = format!("/api/rooms/lobby/messages?after={last}&limit=3");
        let page = bodies(&serving.get(&question).await, true);
        if page.is_empty() {
            break;
        }
        forwards.extend(page);
    }
    assert_eq!(forwards, all);
}

#[tokio::test]
async fn an_empty_room_is_complete() {
    let serving = serving(&[]).await;
    let answer = serving.get("/api/rooms/nobody/messages").await;
    assert_eq!(answer.body, r#"{"messages":[],"complete":true}"#);
}

#[tokio::test]
async fn a_page_without_the_store_says_that_it_may_have_a_hole() {
    let redis = Redis::start().await;
    let serving = serving(&["--broker", &redis.url()]).await;
    a_room_in_three_places(&serving).await;
    // To the server the store has failed: what it reads is not there.
    let database = rusqlite::Connection::open(&serving.file).unwrap();
    database
        .execute("ALTER TABLE messages RENAME TO elsewhere", ())
        .unwrap();
    let holed = bodies(&serving.get("/api/rooms/lobby/messages").await, false);
    assert!(
        holed.len() >= 4 && holed.ends_with(&["10".into(), "11".into()]),
        "{holed:?}"
    );
    // What the broker alone knows to be all needs no store.
    assert_eq!(
        bodies(
            &serving.get("/api/rooms/lobby/messages?limit=2").await,
            true
        )
        .len(),
        2
    );

    database
        .execute("ALTER TABLE elsewhere RENAME TO messages", ())
        .unwrap();
    assert_eq!(
        bodies(&serving.get("/api/rooms/lobby/messages").await, true).len(),
        12
    );
}

#[tokio::test]
async fn a_page_without_the_broker_says_that_it_may_have_a_hole() {
    let mut redis = Redis::start().await;
    let serving = serving(&["--broker", &redis.url(), "--publish-timeout", "1s"]).await;
    a_room_in_three_places(&serving).await;
    assert_eq!(
        bodies(&serving.get("/api/rooms/lobby/messages").await, true).len(),
        12
    );
    redis.kill();
    let holed = bodies(&serving.get("/api/rooms/lobby/messages").await, false);
    assert_eq!(holed, ["0", "1", "2", "3", "4", "5", "6", "7"]);

    let database = rusqlite::Connection::open(&serving.file).unwrap();
    database
        .execute("ALTER TABLE messages RENAME TO elsewhere", ())
        .unwrap();
    let none = serving.get("/api/rooms/lobby/messages").await;
    assert_eq!((none.status, &*none.code()), (503, "history-unavailable"));
    assert!(none.header("Retry-After").is_some());

    database
        .execute("ALTER TABLE elsewhere RENAME TO messages", ())
        .unwrap();
    redis.restart().await;
    let deadline = Instant::now() + DEADLINE;
    while serving.get("/api/rooms/lobby/messages").await.json()["complete"] != true {
        assert!(Instant::now() < deadline, "the broker is not read again");
    }
    assert_eq!(
        bodies(&serving.get("/api/rooms/lobby/messages").await, true).len(),
        12
    );
}

#[tokio::test]
async fn a_question_that_makes_no_sense_is_answered_with_what_is_right() {
    let serving = serving(&[]).await;
    let id = serving.publish("lobby", &[b"x"]).await[0];
    for (room, query, says) in [
        ("lobby", "limit=0".to_owned(), "from 1 to 200"),
        ("lobby", "limit=201".to_owned(), "from 1 to 200"),
        ("lobby", "limit=-1".to_owned(), "from 1 to 200"),
        ("lobby", "limit=ten".to_owned(), "from 1 to 200"),
        ("lobby", "limit=1&limit=2".to_owned(), "once"),
        ("lobby", "before=x".to_owned(), "before must be the id"),
        (
            "lobby",
            "after=00000000-0000-0000-0000-000000000000".to_owned(),
            "after must be",
        ),
        ("lobby", format!("before={id}&after={id}"), "not both"),
        ("lobby", "page=2".to_owned(), "limit, before and after"),
        ("a%20b", String::new(), "1 to 128 characters"),
        ("a%2Fb", String::new(), "1 to 128 characters"),
        ("%FF", String::new(), "1 to 128 characters"),
        ("", String::new(), "1 to 128 characters"),
        ("*", String::new(), "1 to 128 characters"),
    ] {
        let answer = serving
            .get(&format!("/api/rooms/{room}/messages?{query}"))
            .await;
        assert_eq!(
            (answer.status, &*answer.code()),
            (400, "bad-request"),
            "{room} {query}"
        );
        assert!(answer.body.contains(says), "{query}: {}", answer.body);
    }
    for path in [
        "/api/rooms/lobby/messages?limit=200",
        "/api/rooms/lobby/messages?",
    ] {
        assert_eq!(serving.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn pages_of_allowed_origins_may_read_and_others_may_not() {
    let serving = serving(&["--allowed-origin", "https://a.example"]).await;
    let path = "/api/rooms/lobby/messages HTTP/1.1";
    for (origin, allowed) in [("https://a.example", true), ("https://b.example", false)] {
        for method in ["GET", "OPTIONS"] {
            let request = [&*format!("{method} {path}"), &format!("Origin: {origin}")];
            let answer = serving.ask(&request).await;
            assert_eq!(answer.status, if method == "GET" { 200 } else { 204 });
            assert_eq!(answer.header("Vary"), Some("Origin"));
            let allow = answer.header("Access-Control-Allow-Origin");
            assert_eq!(allow, allowed.then_some(origin), "{method} {origin}");
            assert_eq!(answer.header("Access-Control-Allow-Credentials"), None);
        }
    }
    let answer = serving.ask(&[&format!("DELETE {path}")]).await;
    assert_eq!(
        (answer.status, answer.header("Allow")),
        (405, Some("GET, HEAD, OPTIONS"))
    );
}
