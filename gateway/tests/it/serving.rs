//! A server on a free port, on the in-process broker and a file, and requests to it octet by octet.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use gateway::config::{GatewayArgs, Settings};
use gateway::entrance::Entrance;
use gateway::past::Past;
use gateway::server::{Page, Pages, Server};
use gateway::session::output::Outgoing;
use gateway::transport::{Incoming, Peer, Serve, Transport};
use shared::broker::{self, Broker, Settled};
use shared::config::{CommonArgs, StoreUrl, Without};
use shared::message::{Draft, MessageId, RoomName, Series, UserName};
use shared::metrics::Metrics;
use shared::store::{self, Store};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// Far longer than anything here takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// How many messages the broker holds of a room.
pub(crate) const RECENT: usize = 5;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
}

pub(crate) struct Serving {
    pub(crate) address: String,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) metrics: Metrics,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    pub(crate) file: PathBuf,
}

/// A server with a page. What WebSocket clients send comes back to them.
pub(crate) async fn serving(flags: &[&str]) -> Serving {
    serving_to(flags, Echo).await
}

/// A server with a page, whose clients get this.
pub(crate) async fn serving_to(flags: &[&str], clients: impl Serve) -> Serving {
    let given = ["gateway", "--recent-max", "5"].iter().chain(flags);
    let flags = Flags::try_parse_from(given).unwrap();
    let settings = Arc::new(Settings::from_args(&flags.gateway).unwrap());
    let metrics = Metrics::new();
    let memory = Some("memory:".parse().unwrap());
    let memory = flags.common.broker_settings(memory).unwrap();
    let broker = broker::open(&memory, &metrics, shared::broker::Earlier::default())
        .await
        .unwrap();
    let file = std::env::temp_dir().join(format!("roomcast-http-{}.db", Uuid::new_v4().simple()));
    let database = Some(StoreUrl::Sqlite(file.clone()));
    let store = store::open(&flags.common.store_settings(database).unwrap())
        .await
        .unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let entrance = Entrance::open(&settings, Arc::clone(&store), &metrics)
        .await
        .unwrap();
    let server = Server::new(
        settings,
        Arc::new(entrance),
        metrics.clone(),
        Arc::new(Past::new(
            Arc::clone(&broker),
            Arc::clone(&store),
            &Without::NOTHING,
        )),
        clients,
        tasks.clone(),
        stop.clone(),
    )
    .showing(Pages(vec![Page {
        path: "/",
        content_type: "text/html; charset=utf-8",
        body: b"<!doctype html>",
    }]));
    tasks.spawn(server.run(listener));
    Serving {
        address,
        broker,
        store,
        metrics,
        tasks,
        stop,
        file,
    }
}

struct Echo;

impl Serve for Echo {
    fn serve<T: Transport>(
        &self,
        transport: T,
        _peer: Peer,
    ) -> impl Future<Output = ()> + Send + 'static {
        echo(transport)
    }
}

async fn echo(mut socket: impl Transport) {
    loop {
        match socket.next().await {
            Incoming::Data(octets) => socket.queue(Outgoing::Binary(octets)).unwrap(),
            Incoming::Flushed | Incoming::Alive | Incoming::Begun => {}
            _ => return socket.close(1000, "", DEADLINE).await,
        }
    }
}

impl Serving {
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.unwrap()
    }

    /// Sends a request, given as lines, on a connection of its own and reads until it is closed.
    pub(crate) async fn ask(&self, lines: &[&str]) -> Answer {
        let mut stream = self.connect().await;
        let host = format!("Host: {}", self.address);
        let lines = [lines, &[&host, "Connection: close", "", ""]]
            .concat()
            .join("\r\n");
        stream.write_all(lines.as_bytes()).await.unwrap();
        answer(&mut stream).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(&[&format!("GET {path} HTTP/1.1")]).await
    }

    /// Accepts messages with these bodies, each by the broker.
    pub(crate) async fn publish(&self, room: &str, bodies: &[&[u8]]) -> Vec<MessageId> {
        let mut ids = Vec::new();
        for body in bodies {
            let draft = Draft {
                room: RoomName::parse(room).unwrap(),
                sender: UserName::parse("ann").unwrap(),
                content_type: Some("text/plain".into()),
                headers: vec![
                    ("colour".into(), "blue".into()),
                    ("size".into(), "1".into()),
                    ("colour".into(), "red".into()),
                ],
                body: body.to_vec().into(),
                idempotency_key: None,
                newer_than: None,
                notify: None,
                series: Series::default(),
                ephemeral: false,
            };
            ids.push(self.broker.publish(draft).await.unwrap().id);
        }
        ids
    }

    /// Stores whatever was accepted, as a persister does.
    pub(crate) async fn persist(&self) {
        let mut feed = self.broker.open_feed("persister").await.unwrap();
        while self.broker.backlog().await.unwrap() > 0 {
            let entries = feed.next(100, Duration::ZERO).await.unwrap();
            let batch: Vec<_> = entries
                .iter()
                .map(|entry| entry.content.clone().unwrap())
                .collect();
            self.store.insert(&batch).await.unwrap();
            let settled = entries.iter().map(|entry| Settled {
                id: entry.id,
                notify: None,
            });
            feed.settler().settle(settled.collect()).await.unwrap();
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm"] {
            std::fs::remove_file(format!("{}{suffix}", self.file.display())).ok();
        }
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The `code` of an error.
    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap().to_owned()
    }
}

/// Reads to the end of the connection.
pub(crate) async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> Answer {
    let mut octets = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut octets))
        .await
        .unwrap()
        .unwrap();
    parsed(&octets)
}

/// Reads the head of an answer only: what follows it stays unread.
pub(crate) async fn head(stream: &mut (impl AsyncRead + Unpin)) -> Answer {
    let mut octets = Vec::new();
    while !octets.ends_with(b"\r\n\r\n") {
        octets.push(timeout(DEADLINE, stream.read_u8()).await.unwrap().unwrap());
    }
    parsed(&octets)
}

fn parsed(octets: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(octets);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no head: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    }
}
