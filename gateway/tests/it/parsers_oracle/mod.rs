//! What must hold for whatever strangers write where an address, a token or a name belongs: one check
//! that the kept corpus and the fuzz target `parsers` share.
//!
//! A case is octets. The first says what the rest is, mostly lines.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use clap::Parser;
use gateway::access::{Action, Grants};
use gateway::auth::{Authenticator, Credentials, Token};
use gateway::config::{GatewayArgs, Settings};
use gateway::front::Front;
use hyper::Request;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use shared::message::{RoomName, UserName};
use shared::metrics::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// What tokens are signed with. The private half of the other key is gone.
const SECRET: &str = "a secret of the fuzz targets, no other";
const PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAsO1X6LZvBue5ns+LVIsD
pLVdIkNbOyn3Rz4Demty6CkpQM/KqjF7alxMQaRJ4e10OCK0Ym8YSCoPleuq/DuD
vBAnxTL8W71VyX5ukEW3yCB1hJZDjnX4tUDWwlx92/ZyS4aupKXGzdVNT4D7DQJH
8INutn05JfOhEaapmYYyZJliRJbhME5O/VjPTzdQVBi5MrRi9buwqjLf95VzSszk
P9hHiJAlbqiP/iPKHzW6SnDnt0EHcaEmXKk0/fjq9FPLox0Q+HNFFNCPHBs/bR2k
zhMjqHm8E3Yu0cE1jaacoG+fl5LD1HbdyomkTri70dJdf4e9bnQdqxSgPUYj74es
7wIDAQAB
-----END PUBLIC KEY-----
";

/// What has been signed with those, ever. Tokens of both are in the corpus.
const SIGNED: [&str; 2] = [
    "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJraW0iLCJleHAiOjQxMDI0NDQ4MDAsInJvb21zIjp7ImxvYmJ5IjoicnciLCJ0ZWFtLSoiOiJyIn19",
    "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiI3IiwiZXhwIjo0MTAyNDQ0ODAwLCJiYWNrZW5kIjp0cnVlfQ",
];

/// The proxy that is trusted.
const PROXY: &str = "127.0.0.1:99";

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    gateway: GatewayArgs,
}

struct World {
    runtime: Runtime,
    listener: TcpListener,
    front: Front,
    auth: Authenticator,
}

thread_local! {
    static WORLD: World = World::new();
}

/// Checks one case. Panics where something does not hold.
pub(crate) fn check(case: &[u8]) {
    let Some((what, rest)) = case.split_first() else {
        return;
    };
    WORLD.with(|world| match what % 6 {
        0 => world.runtime.block_on(world.proxy(rest)),
        1 => world.forwarded(rest),
        2 => world.request(rest),
        3 => world.token(&String::from_utf8_lossy(rest)),
        4 => claim(rest),
        _ => name(rest),
    });
}

impl World {
    fn new() -> Self {
        let flags = ["--trusted-proxy", "127.0.0.0/8", "--proxy-protocol"];
        let auth = ["--auth", "jwt", "--jwt-key", SECRET, "--jwt-key", PUBLIC];
        let places = ["--jwt-cookie", "auth", "--jwt-query", "token"];
        let flags = [&["gateway"], &flags[..], &auth, &places].concat();
        let settings = Settings::from_args(&Flags::parse_from(flags).gateway).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let metrics = Metrics::new();
        let (listener, front, auth) = runtime.block_on(async {
            (
                TcpListener::bind("127.0.0.1:0").await.unwrap(),
                Front::open(&settings.front, &metrics).unwrap(),
                Authenticator::open(&settings.auth, &metrics).await.unwrap(),
            )
        });
        Self {
            runtime,
            listener,
            front,
            auth,
        }
    }

    /// A header of the PROXY protocol is taken as long as it says that it is, and no octet more.
    async fn proxy(&self, octets: &[u8]) {
        let octets = &octets[..octets.len().min(2048)];
        let address = self.listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        let (mut stream, peer) = self.listener.accept().await.unwrap();
        client.write_all(octets).await.unwrap();
        client.shutdown().await.unwrap();
        let origin = self.front.origin(&mut stream, peer).await;
        if let Ok(origin) = origin {
            assert!(octets.starts_with(b"\r\n\r\n\0\r\nQUIT\n"));
            let length = usize::from(u16::from_be_bytes([octets[14], octets[15]]));
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, octets[16 + length..]);
            let is_local = octets[12] == 0x20 || octets[13] == 0x00 || octets[13] == 0x31;
            assert_eq!(origin == peer, is_local, "{origin}");
            assert_eq!(origin.ip(), origin.ip().to_canonical());
        }
        // No port waits for a connection that has ended.
        client.set_zero_linger().unwrap();
    }

    /// What counts of X-Forwarded-For is one of its addresses, and whoever named it is trusted.
    fn forwarded(&self, octets: &[u8]) {
        let peer: SocketAddr = PROXY.parse().unwrap();
        let mut headers = HeaderMap::new();
        let mut entries = vec![];
        for line in octets.split(|octet| *octet == b'\n').take(40) {
            if let Ok(value) = HeaderValue::from_bytes(line) {
                headers.append("x-forwarded-for", value);
                entries.extend(line.split(|octet| *octet == b','));
            }
        }
        let client = self.front.client(peer, &headers);
        assert_eq!(client.ip(), client.ip().to_canonical());
        let found = client.ip();
        let says = |entry: &&[u8]| -> Option<IpAddr> {
            let text = String::from_utf8_lossy(entry.trim_ascii());
            let bare = text.trim_start_matches('[').trim_end_matches(']');
            let ip = bare.parse::<IpAddr>().ok();
            let ip = ip.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
            ip.map(|ip| ip.to_canonical())
        };
        // The nearest that is no trusted proxy's, or what a proxy named before it.
        let named = entries.iter().rev().map(says);
        let mut believed = BTreeSet::from([peer.ip()]);
        for ip in named.map_while(|ip| ip) {
            believed.insert(ip);
            if !self.front.is_proxy(ip) {
                break;
            }
        }
        assert!(believed.contains(&found), "{client}");
        // Nobody else is believed.
        let stranger: SocketAddr = "192.0.2.7:5".parse().unwrap();
        assert_eq!(self.front.client(stranger, &headers), stranger);
    }

    /// A request's target, then its headers.
    fn request(&self, octets: &[u8]) {
        let mut lines = octets.split(|octet| *octet == b'\n');
        let target = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
        let Ok(mut request) = Request::get(target).body(()) else {
            return;
        };
        for line in lines.take(40) {
            let mut parts = line.splitn(2, |octet| *octet == b':');
            let name = HeaderName::from_bytes(parts.next().unwrap_or_default());
            let value = HeaderValue::from_bytes(parts.next().unwrap_or_default().trim_ascii());
            if let (Ok(name), Ok(value)) = (name, value) {
                request.headers_mut().append(name, value);
            }
        }
        if let Some(token) = self.auth.token(&request) {
            assert_ne!(token, Token::new(""));
            assert_eq!(format!("{token:?}"), "Token(…)");
            let has_header = ["authorization", "cookie"];
            let has_header = has_header
                .iter()
                .any(|name| request.headers().contains_key(*name));
            assert!(has_header || request.uri().query().is_some());
            self.is_good(token);
        }
    }

    /// Nobody is let in by a token that was never signed.
    fn token(&self, text: &str) {
        let text = text.trim_end_matches('\n');
        if self.is_good(Token::new(text)) {
            let message = text.rsplit_once('.').map(|(message, _)| message);
            assert!(
                SIGNED.iter().any(|signed| Some(*signed) == message),
                "{text}"
            );
        }
    }

    fn is_good(&self, token: Token) -> bool {
        let credentials = Credentials {
            login: None,
            token: Some(token),
        };
        let who = self.runtime.block_on(self.auth.authenticate(credentials));
        who.is_ok_and(|who| {
            assert!(["kim", "7"].contains(&who.user.as_str()), "{:?}", who.user);
            true
        })
    }
}

/// A claim of rooms as JSON, then names of rooms: what it allows is what trying everything allows.
fn claim(octets: &[u8]) {
    let mut lines = octets.split(|octet| *octet == b'\n');
    let claim: Option<Value> = lines
        .next()
        .and_then(|line| serde_json::from_slice(line).ok());
    let Ok(grants) = Grants::from_claim(claim.as_ref()) else {
        return;
    };
    let patterns = claim.as_ref().and_then(Value::as_object);
    for line in lines.take(16) {
        let Ok(room) = RoomName::recorded(&String::from_utf8_lossy(line)) else {
            continue;
        };
        let name = room.as_str().as_bytes();
        let allowed = |right: char| {
            patterns.into_iter().flatten().any(|(pattern, rights)| {
                let rights = rights.as_str().unwrap_or_default();
                rights.contains(right) && fits(pattern.as_bytes(), name)
            })
        };
        // Trying takes longer than there is time.
        let stars = |(pattern, _): (&String, _)| pattern.matches('*').count();
        if patterns.into_iter().flatten().map(stars).max() > Some(4) || name.len() > 48 {
            grants.allow(&room, Action::Send);
            continue;
        }
        assert_eq!(grants.allow(&room, Action::Subscribe), allowed('r'));
        assert_eq!(grants.allow(&room, Action::History), allowed('r'));
        assert_eq!(grants.allow(&room, Action::Send), allowed('w'));
    }
}

/// Whether a pattern fits, by trying everything.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], name) => name.is_empty(),
        ([b'*', rest @ ..], name) => {
            let most = name.iter().position(|octet| *octet == b'/');
            (0..=most.unwrap_or(name.len())).any(|run| fits(rest, &name[run..]))
        }
        ([one, rest @ ..], [other, name @ ..]) => one == other && fits(rest, name),
        _ => false,
    }
}

/// A recorded name, then a user's and that of a queue: whose queue it is nobody else can say.
fn name(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let mut lines = text.split('\n');
    if let Ok(room) = RoomName::recorded(lines.next().unwrap_or_default()) {
        assert_eq!(RoomName::recorded(room.as_str()).as_ref(), Ok(&room));
        assert_eq!(RoomName::parse(room.as_str()).is_err(), room.is_queue());
    }
    let (user, other) = (
        UserName::parse(lines.next().unwrap_or_default()),
        lines.next(),
    );
    let Ok(user) = user else {
        return;
    };
    let queue = lines.next().unwrap_or("queue/errors");
    if let Ok(room) = RoomName::queue(&user, queue) {
        assert!(room.is_queue() && room.is_queue_of(&user));
        assert_eq!(RoomName::recorded(room.as_str()).as_ref(), Ok(&room));
        assert!(RoomName::parse(room.as_str()).is_err());
        if let Some(Ok(other)) = other.map(UserName::parse) {
            assert_eq!(room.is_queue_of(&other), user == other);
        }
    }
}

/// What the fuzz target has found, and what it started from.
#[cfg(test)]
#[test]
fn the_kept_corpus_of_the_parsers_holds() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/parsers");
    let mut files = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        // Shown when the test fails.
        println!("{}", path.display());
        check(&std::fs::read(&path).unwrap());
        files += 1;
    }
    assert!(files > 20, "{corpus} has only {files} cases");
}
