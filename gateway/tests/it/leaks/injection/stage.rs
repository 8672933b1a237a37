//! A gateway and a persister on a Redis and a MongoDB, into which the tests look themselves.

use std::collections::HashSet;

use harness::mongo::{Bson, Document};
use harness::{Mongo, Process, Redis, until};
use redis::cmd;

use crate::wire::Wire;

/// What must lie in the store, as the test wants it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kept {
    pub(super) room: String,
    pub(super) sender: String,
    pub(super) key: Option<String>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Kept {
    pub(super) fn new(room: &str, sender: &str) -> Self {
        Self {
            room: room.into(),
            sender: sender.into(),
            key: None,
            headers: Vec::new(),
            body: String::new(),
        }
    }
}

pub(super) struct Stage {
    pub(super) address: String,
    redis: Redis,
    mongo: &'static Mongo,
    database: String,
    wire: Option<(String, Wire)>,
    kept: HashSet<Kept>,
    ids: HashSet<String>,
    next: usize,
    _processes: [Process; 2],
}

impl Stage {
    pub(super) async fn new() -> Self {
        let redis = Redis::start().await;
        let mongo = Mongo::shared().await;
        let database = Mongo::database();
        let (broker, store) = (redis.url(), mongo.url(&database));
        let urls = ["--broker", &broker, "--store", &store];
        let admin = ["--admin-listen", "127.0.0.1:0"];
        let persister = Process::spawn("persister", urls.iter().chain(&admin));
        let listen = ["--listen", "127.0.0.1:0"];
        let gateway = Process::spawn("gateway", urls.iter().chain(&admin).chain(&listen));
        let address = gateway.ready().await.to_string();
        // What a command that was smuggled in would take away.
        let mut canary = cmd("SET");
        redis
            .ask::<()>(canary.arg("canary").arg("sings"))
            .await
            .unwrap();
        Self {
            address,
            redis,
            mongo,
            database,
            wire: None,
            kept: HashSet::new(),
            ids: HashSet::new(),
            next: 0,
            _processes: [gateway, persister],
        }
    }

    /// Sends as kim; see [`Stage::send_as`].
    pub(super) async fn send(
        &mut self,
        destination: &str,
        headers: &[(&str, &str)],
        kept: Option<Kept>,
    ) -> Option<String> {
        self.send_as("kim", destination, headers, kept).await
    }

    /// Sends a message, which must be kept so, or be refused. The id that it has.
    pub(super) async fn send_as(
        &mut self,
        user: &str,
        destination: &str,
        headers: &[(&str, &str)],
        kept: Option<Kept>,
    ) -> Option<String> {
        let body = self.body();
        let answer = self.answer(user, destination, headers, &body).await;
        let Some(kept) = kept else {
            let is_refused = answer.starts_with("ERROR\n");
            assert!(
                is_refused,
                "{user:?} {destination:?} {headers:?}: {answer:?}"
            );
            self.wire = None;
            return None;
        };
        let id = answer
            .lines()
            .find_map(|line| line.strip_prefix("message-id:"));
        let is_accepted = answer.starts_with("RECEIPT\n") && id.is_some();
        assert!(
            is_accepted,
            "{user:?} {destination:?} {headers:?}: {answer:?}"
        );
        let id = id.map(str::to_owned);
        let is_new = id.clone().is_some_and(|id| self.ids.insert(id));
        assert!(is_new, "{kept:?} passes for another");
        self.keeps(Kept { body, ..kept });
        id
    }

    /// A body that no other message has.
    pub(super) fn body(&mut self) -> String {
        self.next += 1;
        format!("message {}", self.next)
    }

    /// What was accepted must be in the store in the end.
    pub(super) fn keeps(&mut self, kept: Kept) {
        assert!(self.kept.insert(kept));
    }

    /// The same with this body.
    pub(super) fn keeps_body(&mut self, body: String, kept: Kept) {
        self.keeps(Kept { body, ..kept });
    }

    async fn answer(
        &mut self,
        user: &str,
        destination: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> String {
        let mut wire = match self.wire.take() {
            Some((name, wire)) if name == user => wire,
            _ => {
                let mut wire = Wire::open_at(&self.address).await;
                let connect = format!("CONNECT\naccept-version:1.2\nlogin:{user}\n\n\0");
                wire.send(&connect).await;
                let connected = wire.next().await;
                // A line end ends the header: what follows is another, or none.
                let is_whole = connected
                    .lines()
                    .any(|line| line == format!("user-name:{user}"));
                if !connected.starts_with("CONNECTED\n") || !is_whole {
                    return connected.replacen("CONNECTED\n", "ERROR\n", 1);
                }
                wire
            }
        };
        let mut frame = format!("SEND\ndestination:{}\nreceipt:r\n", escaped(destination));
        for (name, value) in headers {
            frame += &format!("{}:{}\n", escaped(name), escaped(value));
        }
        wire.send(&format!("{frame}\n{body}\0")).await;
        let answer = wire.next().await;
        self.wire = Some((user.into(), wire));
        answer
    }

    /// Both servers must hold what was accepted, under its own name, and nothing else.
    pub(super) async fn holds(&self) {
        assert!(!self.kept.is_empty());
        let documents = |collection| self.mongo.documents(&self.database, collection);
        until("everything to be stored", async || {
            let (stored, dead) = (documents("messages").await, documents("dead_letters").await);
            stored.len() + dead.len() >= self.kept.len()
        })
        .await;
        let dead = documents("dead_letters").await;
        assert!(dead.is_empty(), "{dead:?}");
        let stored = documents("messages").await;
        assert_eq!(stored.len(), self.kept.len());
        let stored: HashSet<_> = stored.iter().map(kept).collect();
        let differing: Vec<_> = stored.symmetric_difference(&self.kept).collect();
        assert!(differing.is_empty(), "{differing:#?}");
        let collections = self.mongo.collections(&self.database).await;
        let known = ["dead_letters", "messages"];
        assert!(
            collections.iter().all(|name| known.contains(&&**name)),
            "{collections:?}"
        );
        let keys: Vec<String> = self.redis.ask(cmd("KEYS").arg("*")).await.unwrap();
        let mut windows = HashSet::new();
        for key in &keys {
            let Some(rest) = key.strip_prefix("rc:{") else {
                assert!(["canary", "rc:shards"].contains(&&**key), "{key:?}");
                continue;
            };
            let (shard, rest) = rest.split_once("}:").unwrap();
            assert!(shard.parse::<u16>().unwrap() < 16, "{key:?}");
            if let Some(room) = rest.strip_prefix("recent:") {
                windows.insert(room.to_owned());
            } else if let Some(idempotency) = rest.strip_prefix("idem:") {
                assert!(
                    self.kept.iter().any(|kept| is_key_of(idempotency, kept)),
                    "{key:?}"
                );
            } else {
                assert!(["journal", "announced"].contains(&rest), "{key:?}");
            }
        }
        let rooms: HashSet<_> = self.kept.iter().map(|kept| kept.room.clone()).collect();
        assert_eq!(windows, rooms);
        let canary: String = self.redis.ask(cmd("GET").arg("canary")).await.unwrap();
        assert_eq!(canary, "sings");
    }
}

/// Whether `idem:…` is where a message's repeat is looked for.
fn is_key_of(key: &str, kept: &Kept) -> bool {
    let part = |text: &str| text.replace('%', "%25").replace(':', "%3A");
    let (room, sender) = (part(&kept.room), part(&kept.sender));
    match &kept.key {
        Some(own) => key == format!("{room}:{sender}:{}", part(own)),
        None => {
            let token = key.strip_prefix(&format!("{room}::"));
            token.is_some_and(|token| token.chars().all(|c| c.is_ascii_hexdigit() || c == '-'))
        }
    }
}

fn kept(document: &Document) -> Kept {
    let text = |name| document.get_str(name).map(str::to_owned);
    let pair = |pair: &Bson| {
        let pair = pair.as_array().unwrap();
        let text = |at: usize| pair[at].as_str().unwrap().to_owned();
        assert_eq!(pair.len(), 2);
        (text(0), text(1))
    };
    let headers = document.get_array("headers");
    Kept {
        room: text("room").unwrap(),
        sender: text("sender").unwrap(),
        key: text("idempotencyKey").ok(),
        headers: headers.map_or_else(|_| Vec::new(), |pairs| pairs.iter().map(pair).collect()),
        body: text("body").unwrap(),
    }
}

/// A header of STOMP 1.2 (section "Value Encoding"). A NUL has no escape.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('\n', "\\n")
        .replace('\r', "\\r")
        .replace(':', "\\c")
}

/// A user's name within the name of a queue's room.
pub(super) fn recorded(user: &str) -> String {
    let octet = |octet: u8| match octet {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(octet).to_string(),
        _ => format!("%{octet:02X}"),
    };
    user.bytes().map(octet).collect()
}

pub(super) fn is_room(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._~:@-".contains(c);
    (1..=128).contains(&name.len()) && name.chars().all(allowed)
}

pub(super) fn is_queue(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._~:@-/".contains(c);
    (1..=128).contains(&name.len()) && name.chars().all(allowed)
}

pub(super) fn is_user(name: &str) -> bool {
    (1..=128).contains(&name.len()) && !name.chars().any(char::is_control)
}
