//! Names that are meant to be taken for a part of a key, a pattern, a query, a path or a command: each
//! is exactly what it names in Redis and MongoDB, or refused.

mod paths;
mod stage;

use std::collections::HashSet;

use self::stage::{Kept, Stage, is_queue, is_room, is_user};

/// What attackers have put into names elsewhere.
const TRICKS: [&str; 48] = [
    "*",
    "**",
    "?",
    "#",
    "[a-z]",
    "[^x]",
    "\\",
    "\\*",
    "{",
    "}",
    "{1}",
    "rc:{0}:journal",
    "a:b",
    ":",
    "::",
    "a::b",
    "room:*",
    "$where",
    "$ne",
    "$",
    "a.$.b",
    "{\"$gt\":\"\"}",
    "[$ne]",
    "__proto__",
    "constructor",
    "..",
    "../../etc/passwd",
    ".",
    "user/kim/queue/x",
    "%2e%2e%2f",
    "%00",
    "%2500",
    "%c0%af",
    "%252F",
    "%",
    "%zz",
    "' OR '1'='1",
    "\";--",
    "'; DROP TABLE messages; --",
    "\r\nFLUSHALL\r\n",
    "\r\n*1\r\n$8\r\nFLUSHALL\r\n",
    "x\n\nforged:yes",
    "$(reboot)",
    "`reboot`",
    "${jndi:ldap://x}",
    "<script>",
    " ",
    "null",
];

/// What looks like something else, or has no width, or turns what follows.
const LOOKALIKES: [char; 16] = [
    'é',
    'ß',
    'İ',
    '\u{212a}',
    '／',
    '：',
    '․',
    '\u{200b}',
    '\u{200d}',
    '\u{feff}',
    '\u{2028}',
    '\u{202e}',
    '\u{85}',
    '\u{9b}',
    '👩',
    '\u{10ffff}',
];

/// Every ASCII character within a name, and all that is above.
fn names() -> Vec<String> {
    let characters = (0..128).map(char::from).chain(LOOKALIKES);
    let mut names: Vec<_> = characters.map(|c| format!("n{c}m")).collect();
    names.extend(TRICKS.map(str::to_owned));
    names.push("김".repeat(42));
    names.push("x".repeat(128));
    names.push("x".repeat(129));
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_is_the_room_that_it_names_or_no_room() {
    let mut stage = Stage::new().await;
    for name in names() {
        let destination = format!("/app/rooms/{name}");
        let kept = is_room(&name).then(|| Kept::new(&name, "kim"));
        stage.send(&destination, &[], kept).await;
    }
    stage.holds().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_is_the_user_that_is_named_or_nobody() {
    let mut stage = Stage::new().await;
    for name in names() {
        // CONNECT has no escapes: a line end would end the header.
        let kept = is_user(&name).then(|| Kept::new("users", &name));
        stage.send_as(&name, "/app/rooms/users", &[], kept).await;
    }
    stage.holds().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_is_the_queue_that_it_names_or_none() {
    let mut stage = Stage::new().await;
    let persist = [("persist", "true")];
    for name in names() {
        let kept = is_queue(&name).then(|| Kept::new(&format!("user/kim/queue/{name}"), "kim"));
        let destination = format!("/user/kim/queue/{name}");
        stage.send(&destination, &persist, kept).await;

        let encoded: String = name.bytes().map(|octet| format!("%{octet:02X}")).collect();
        let room = format!("user/{}/queue/x", stage::recorded(&name));
        let kept = is_user(&name).then(|| Kept::new(&room, "kim"));
        let destination = format!("/user/{encoded}/queue/x");
        stage.send(&destination, &persist, kept).await;
    }
    stage.holds().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_and_a_header_are_text_and_nothing_else() {
    let mut stage = Stage::new().await;
    for name in names() {
        let key = [("idempotency-key", &*name)];
        // A key has the alphabet of a user's name, and may be longer.
        let is_key = !name.is_empty() && !name.chars().any(char::is_control);
        let kept = is_key.then(|| Kept {
            key: Some(name.clone()),
            ..Kept::new("keys", "kim")
        });
        stage.send("/app/rooms/keys", &key, kept).await;

        let headers = [(&*name, "value"), ("x", &*name)];
        let kept = (!name.contains('\0')).then(|| Kept {
            headers: vec![(name.clone(), "value".into()), ("x".into(), name.clone())],
            ..Kept::new("headers", "kim")
        });
        stage.send("/app/rooms/headers", &headers, kept).await;
    }
    stage.holds().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_are_written_alike_never_meet() {
    let mut stage = Stage::new().await;
    let mut ids = HashSet::new();
    for (destination, room, user, key) in [
        ("/app/rooms/a:b", "a:b", "c", "k"),
        ("/app/rooms/a", "a", "b:c", "k"),
        ("/app/rooms/a", "a", "b", "c:k"),
        ("/app/rooms/a", "a", "b%3Ac", "k"),
        ("/app/rooms/a:b:c", "a:b:c", "d", "k"),
        ("/app/rooms/a:b", "a:b", "c:d", "k"),
        ("/app/rooms/a:b", "a:b", "C", "k"),
        ("/app/rooms/user:a:queue:x", "user:a:queue:x", "c", "k"),
        ("/user/a/queue/x", "user/a/queue/x", "c", "k"),
        ("/user/A/queue/x", "user/A/queue/x", "c", "k"),
        ("/user/a/topic/x", "user/a/topic/x", "c", "k"),
        (
            "/user/a%2Fqueue/queue/x",
            "user/a%2Fqueue/queue/x",
            "c",
            "k",
        ),
        ("/user/a/queue/queue/x", "user/a/queue/queue/x", "c", "k"),
        (
            "/user/a%252Fqueue/queue/x",
            "user/a%252Fqueue/queue/x",
            "c",
            "k",
        ),
    ] {
        let headers = [("idempotency-key", key), ("persist", "true")];
        let kept = Kept {
            key: Some(key.into()),
            ..Kept::new(room, user)
        };
        let id = stage.send_as(user, destination, &headers, Some(kept)).await;
        assert!(
            ids.insert(id),
            "{destination} of {user} is another's repeat"
        );
    }
    stage.holds().await;
}
