//! SockJS behind a load balancer: the rules of `docker/haproxy.cfg` in a real HAProxy, in front of two
//! gateways. The clients are sessions of `xhr` and `xhr_send`, each request on a connection of its own.

use std::net::SocketAddr;

use futures_util::future::try_join_all;
use harness::{Haproxy, Process, Redis, StompClient, StompOptions, until};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::serving::answer;

const RULES: &str = include_str!("../../../docker/haproxy.cfg");

const SESSIONS: usize = 24;

#[tokio::test]
async fn a_session_of_many_requests_stays_on_one_gateway_by_its_path() {
    let redis = Redis::start().await;
    let (one, other) = (Gateway::start(&redis).await, Gateway::start(&redis).await);
    let servers = [one.addresses().await, other.addresses().await];
    let proxy = Haproxy::start(|ports| rules(RULES, ports, &servers)).await;
    let mut clients = sessions(proxy.address(), SESSIONS).await.unwrap();
    chat(&mut clients).await.unwrap();
    for (_, admin) in servers {
        assert!(sessions_of(admin).await > 0, "one gateway has all sessions");
    }

    // What is no session of many requests goes anywhere.
    for _ in 0..4 {
        let (status, info) = ask(proxy.address(), "GET", "/sockjs/info", "").await;
        assert!(status == 200 && info.contains("entropy"), "{info}");
        let (status, page) = ask(proxy.address(), "GET", "/sockjs/iframe.html", "").await;
        assert!(status == 200 && page.contains("<html"), "{page}");
        for path in ["/ws", "/sockjs/websocket"] {
            let url = format!("ws://{}{path}", proxy.address());
            let options = StompOptions::login("kim");
            StompClient::connect(&url, options).await.unwrap();
        }
    }
}

#[tokio::test]
async fn without_the_rule_sessions_are_lost_between_gateways() {
    let redis = Redis::start().await;
    let (one, other) = (Gateway::start(&redis).await, Gateway::start(&redis).await);
    let servers = [one.addresses().await, other.addresses().await];
    let is_rule = |line: &&str| line.trim_start().starts_with("use_backend sessions ");
    assert_eq!(RULES.lines().filter(is_rule).count(), 1);
    let others: Vec<_> = RULES.lines().filter(|line| !is_rule(line)).collect();
    let proxy = Haproxy::start(|ports| rules(&others.join("\n"), ports, &servers)).await;
    let failed = sessions(proxy.address(), SESSIONS).await.err().unwrap();
    // The other gateway does not know the session, or opens one of its own.
    let is_lost = failed.starts_with("xhr_send: 404") || failed == "xhr: 200 o\n";
    assert!(is_lost, "{failed}");
}

#[tokio::test]
async fn a_session_stays_where_it_is_when_a_gateway_joins_and_is_told_when_its_own_goes() {
    let redis = Redis::start().await;
    let (mut one, mut other) = (Gateway::start(&redis).await, Gateway::start(&redis).await);
    let servers = [one.addresses().await, other.addresses().await];
    other.process.kill().await;
    let proxy = Haproxy::start(|ports| rules(RULES, ports, &servers)).await;
    let mut clients = sessions(proxy.address(), SESSIONS).await.unwrap();

    let _other = Gateway::start_at(&redis, servers[1].0, servers[1].1).await;
    until("sessions to reach the gateway that joined", async || {
        sessions(proxy.address(), 4).await.unwrap();
        sessions_of(servers[1].1).await > 0
    })
    .await;
    chat(&mut clients).await.unwrap();

    // Their own gateway is gone, and the other one says so.
    one.process.kill().await;
    until(
        "a request to be answered by the other gateway",
        async || {
            let (status, _) = clients[0].ask("xhr_send", "[\"\\n\"]").await;
            status == 404
        },
    )
    .await;
    sessions(proxy.address(), 1).await.unwrap();
}

/// The configuration, with the addresses of this test, and for few connections.
fn rules(rules: &str, ports: [u16; 2], gateways: &[(SocketAddr, SocketAddr)]) -> String {
    let template = "server-template gateway- 16 gateway:8080 check port 9100 ";
    let mut replaced = 0;
    let lines =
        rules.lines().map(|line| {
            let rule = line.trim();
            replaced += 1;
            match rule {
                "bind :8080" => format!("bind 127.0.0.1:{}", ports[0]),
                "bind :8404" => format!("bind 127.0.0.1:{}", ports[1]),
                "maxconn 40000" => "maxconn 1000".to_owned(),
                _ => match rule.strip_prefix(template) {
                    Some(options) => {
                        let options = options.replace("resolvers docker init-addr none", "");
                        let servers = gateways.iter().enumerate().map(|(number, (clients, admin))| {
                        let port = admin.port();
                        format!("server gateway-{number} {clients} check port {port} {options}\n")
                    });
                        servers.collect()
                    }
                    None => {
                        replaced -= 1;
                        line.to_owned()
                    }
                },
            }
        });
    let rules = lines.collect::<Vec<_>>().join("\n") + "\n";
    assert_eq!(replaced, 5, "docker/haproxy.cfg has other addresses");
    rules
}

struct Gateway {
    process: Process,
    _folder: TempDir,
}

impl Gateway {
    async fn start(redis: &Redis) -> Self {
        let any = "127.0.0.1:0".parse().unwrap();
        Self::start_at(redis, any, any).await
    }

    async fn start_at(redis: &Redis, clients: SocketAddr, admin: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = format!("sqlite:{}", folder.path().join("chat.db").display());
        let (broker, clients, admin) = (redis.url(), clients.to_string(), admin.to_string());
        let flags = [
            ("--broker", &broker),
            ("--store", &store),
            ("--listen", &clients),
            ("--admin-listen", &admin),
        ];
        let flags = flags.iter().flat_map(|(flag, value)| [*flag, value]);
        // As docker/compose.yaml has it.
        let proxied = ["--trusted-proxy", "127.0.0.1", "--proxy-protocol"];
        let process = Process::spawn("gateway", flags.chain(proxied));
        process.ready().await;
        Self {
            process,
            _folder: folder,
        }
    }

    /// Where clients connect, and where operators do.
    async fn addresses(&self) -> (SocketAddr, SocketAddr) {
        (self.process.ready().await, self.process.admin().await)
    }
}

/// How many SockJS sessions a gateway has had.
async fn sessions_of(admin: SocketAddr) -> u64 {
    let (_, metrics) = ask(admin, "GET", "/metrics", "").await;
    let name = "roomcast_gateway_connections_total{transport=\"xhr\"} ";
    let count = metrics.lines().find_map(|line| line.strip_prefix(name));
    count.map_or(0, |count| count.parse().unwrap())
}

/// One SockJS session.
struct Session {
    address: SocketAddr,
    path: String,
    frames: Vec<String>,
}

/// Opens sessions that are connected and subscribed to one room; the error says which request
/// failed.
async fn sessions(address: SocketAddr, count: usize) -> Result<Vec<Session>, String> {
    try_join_all((0..count).map(|number| async move {
        let id = Uuid::new_v4().simple();
        let mut session = Session {
            address,
            path: format!("/sockjs/{number:03}/{id}"),
            frames: Vec::new(),
        };
        let (status, frame) = session.ask("xhr", "").await;
        if (status, &*frame) != (200, "o\n") {
            return Err(format!("xhr: {status} {frame}"));
        }
        session
            .send("CONNECT\naccept-version:1.2\nheart-beat:0,0\n\n\0")
            .await?;
        session.take("CONNECTED").await?;
        let subscribe = "SUBSCRIBE\nid:0\ndestination:/topic/rooms/r\nreceipt:s\n\n\0";
        session.send(subscribe).await?;
        session.take("RECEIPT").await?;
        Ok(session)
    }))
    .await
}

/// Everyone says something, and everyone hears everything, in one order.
async fn chat(sessions: &mut [Session]) -> Result<(), String> {
    let count = sessions.len();
    for (number, session) in sessions.iter().enumerate() {
        let send = format!("SEND\ndestination:/app/rooms/r\n\n{number}\0");
        session.send(&send).await?;
    }
    let heard = sessions.iter_mut().map(|session| async move {
        let mut bodies = Vec::new();
        for _ in 0..count {
            let message = session.take("MESSAGE").await?;
            let (_, body) = message.split_once("\n\n").ok_or("no body")?;
            bodies.push(body.to_owned());
        }
        Ok::<_, String>(bodies)
    });
    let heard = try_join_all(heard).await?;
    let mut all = heard[0].clone();
    assert!(heard.iter().all(|bodies| *bodies == all), "{heard:?}");
    all.sort_by_key(|body| body.trim_end_matches('\0').parse::<usize>().unwrap());
    let said: Vec<_> = (0..count).map(|number| format!("{number}\0")).collect();
    assert_eq!(all, said);
    Ok(())
}

impl Session {
    async fn ask(&self, transport: &str, body: &str) -> (u16, String) {
        let path = format!("{}/{transport}", self.path);
        ask(self.address, "POST", &path, body).await
    }

    async fn send(&self, frame: &str) -> Result<(), String> {
        let body = serde_json::json!([frame]).to_string();
        match self.ask("xhr_send", &body).await {
            (204, _) => Ok(()),
            (status, text) => Err(format!("xhr_send: {status} {text}")),
        }
    }

    /// The next frame, which must have this command.
    async fn take(&mut self, command: &str) -> Result<String, String> {
        while self.frames.is_empty() {
            match self.ask("xhr", "").await {
                (200, text) if text == "h\n" => {}
                (200, text) if text.starts_with('a') => {
                    let frames: Vec<String> = serde_json::from_str(&text[1..]).unwrap();
                    self.frames.extend(frames);
                }
                (status, text) => return Err(format!("xhr: {status} {text}")),
            }
        }
        let frame = self.frames.remove(0);
        assert!(frame.starts_with(&format!("{command}\n")), "{frame:?}");
        Ok(frame)
    }
}

/// One request on a connection of its own.
async fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = answer(&mut stream).await;
    let is_chunked = answer.header("Transfer-Encoding") == Some("chunked");
    let body = if is_chunked {
        dechunked(&answer.body)
    } else {
        answer.body
    };
    (answer.status, body)
}

/// What was sent in chunks (RFC 9112, section 7.1).
fn dechunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, more)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        body += &more[..size];
        rest = &more[size + 2..];
        if size == 0 {
            break;
        }
    }
    body
}
