//! When a connection does what nothing but the time asks for, by a clock that the test holds.

use std::future::pending;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use bytes::Bytes;
use clap::Parser;
use shared::broker::{self, Earlier};
use shared::config::{BrokerUrl, CommonArgs, Retention, StoreSettings, StoreUrl, Without};
use shared::message::GatewayId;
use shared::metrics::Metrics;
use shared::store;
use tokio::sync::mpsc;
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::{GatewayArgs, Settings};
use crate::drain::Drain;
use crate::entrance::Entrance;
use crate::hub::Hub;
use crate::past::Past;
use crate::publish::Publisher;
use crate::receipts::Receipts;
use crate::transport::{TransportError, TransportName};

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    gateway: GatewayArgs,
    #[command(flatten)]
    common: CommonArgs,
}

const FLAGS: [&str; 9] = [
    "gateway",
    "--heartbeat",
    "1s",
    "--connect-deadline",
    "10s",
    "--frame-deadline",
    "3s",
    "--write-timeout",
    "5s",
];

const CONNECT: &str = "CONNECT\naccept-version:1.2\nheart-beat:1000,1000\n\n\0";
const QUIET: &str = "CONNECT\naccept-version:1.2\nheart-beat:0,0\n\n\0";

/// A client in this process: what it says comes from a channel, and what it is told is noted with the time.
struct Near {
    says: mpsc::Receiver<Incoming>,
    /// From when on it takes nothing.
    takes_until: tokio::time::Instant,
    queued: Vec<Outgoing>,
    told: Arc<Mutex<Told>>,
    began: tokio::time::Instant,
}

/// Milliseconds, and what was told then.
type Told = Vec<(u128, String)>;

impl Near {
    fn note(&self, what: &str) {
        let at = self.began.elapsed().as_millis();
        self.told.lock().unwrap().push((at, what.to_owned()));
    }
}

impl Transport for Near {
    fn name(&self) -> TransportName {
        TransportName::WebSocket
    }

    async fn next(&mut self) -> Incoming {
        let _ = self.flush().now_or_never();
        self.says.recv().await.unwrap_or(Incoming::Closed)
    }

    fn queue(&mut self, message: Outgoing) -> Result<(), TransportError> {
        self.queued.push(message);
        Ok(())
    }

    fn is_flushed(&self) -> bool {
        self.queued.is_empty()
    }

    fn has_room(&self) -> bool {
        self.queued.is_empty()
    }

    async fn flush(&mut self) -> Result<(), TransportError> {
        if !self.queued.is_empty() && tokio::time::Instant::now() >= self.takes_until {
            pending::<()>().await;
        }
        for message in std::mem::take(&mut self.queued) {
            match message {
                Outgoing::Text(text) if text == "\n" => self.note("beat"),
                Outgoing::Text(text) | Outgoing::Binary(text) => {
                    let text = str::from_utf8(&text).unwrap();
                    let code = text.lines().find_map(|line| line.strip_prefix("code:"));
                    self.note(code.unwrap_or(text.lines().next().unwrap()));
                }
                Outgoing::Ping => self.note("ping"),
            }
        }
        Ok(())
    }

    async fn close(mut self, _: u16, _: &str, _: Duration) {
        let _ = self.flush().now_or_never();
    }
}

async fn gateway(folder: &Path) -> Arc<Gateway> {
    let flags = Flags::parse_from(FLAGS);
    let settings = Settings::from_args(&flags.gateway).unwrap();
    let metrics = Metrics::new();
    let store = StoreSettings {
        url: StoreUrl::Sqlite(folder.join("messages.db")),
        connect_timeout: Duration::from_secs(60),
        operation_timeout: Duration::from_secs(60),
        retention: Retention::Unchanged,
    };
    let store = store::open(&store).await.unwrap();
    let broker = flags
        .common
        .broker_settings(Some(BrokerUrl::Memory))
        .unwrap();
    let broker = broker::open(&broker, &metrics, Earlier::default())
        .await
        .unwrap();
    let id = GatewayId::random();
    let fanout = broker.open_fanout(id).await.unwrap();
    let without = Without::NOTHING;
    let past = Arc::new(Past::new(Arc::clone(&broker), Arc::clone(&store), &without));
    let hub = Arc::new(Hub::new(
        fanout.subscriber,
        Arc::clone(&past),
        true,
        broker.window(),
        settings.max_outbox_bytes,
        without,
        Arc::clone(&metrics.gateway),
    ));
    let receipts = Receipts::new(settings.receipt_timeout, Arc::clone(&metrics.gateway));
    let publisher = Publisher {
        broker: Arc::clone(&broker),
        gateway: id,
        receipts: Arc::new(receipts),
        hub: Arc::clone(&hub),
        metrics: Arc::clone(&metrics.gateway),
    };
    let entrance = Entrance::open(&settings, store, &metrics).await.unwrap();
    Arc::new(Gateway {
        settings: Arc::new(settings),
        entrance: Arc::new(entrance),
        guarantees: broker.guarantees(),
        publisher,
        hub,
        past,
        metrics,
        drain: Drain::new(CancellationToken::new()),
        out_of_time: CancellationToken::new(),
    })
}

/// What a client is told, and when, who says this, in milliseconds, and takes what it is told until then.
async fn told(script: &[(u64, Incoming)], takes_until: u64) -> Told {
    let folder = tempfile::tempdir().unwrap();
    // Other threads have their part in it, for which a clock that is held does not wait.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let gateway = thread::scope(|scope| {
        let opening = scope.spawn(|| runtime.block_on(gateway(folder.path())));
        opening.join().unwrap()
    });
    let began = tokio::time::Instant::now();
    let after = |ms| began + Duration::from_millis(ms);
    let (say, says) = mpsc::channel(1);
    let told = Arc::new(Mutex::new(Vec::new()));
    let near = Near {
        says,
        takes_until: after(takes_until),
        queued: Vec::new(),
        told: Arc::clone(&told),
        began,
    };
    let peer = Peer {
        address: "127.0.0.1:1".parse().unwrap(),
        subprotocol: None,
        token: None,
    };
    let mut serving = Box::pin(Box::new(Connection::new(gateway, near, peer)).run());
    let saying = async {
        for (at, what) in script {
            sleep_until(after(*at)).await;
            say.send(what.clone()).await.unwrap();
        }
        pending::<()>().await;
    };
    tokio::select! {
        () = &mut serving => {}
        () = saying => {}
        () = sleep(Duration::from_secs(1000)) => panic!("it never ends"),
    }
    runtime.shutdown_background();
    let mut told = told.lock().unwrap().clone();
    told.push((began.elapsed().as_millis(), "end".to_owned()));
    told
}

fn data(text: &'static str) -> Incoming {
    Incoming::Data(Bytes::from_static(text.as_bytes()))
}

fn are(wanted: &[(u128, &str)]) -> Told {
    let wanted = wanted.iter();
    wanted.map(|(at, what)| (*at, (*what).to_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn heart_beats_leave_and_are_missed_at_their_time_however_often_that_is_put_off() {
    let script = [
        (0, data(CONNECT)),
        (1_000, data("\n")),
        (2_000, data("BEGIN\ntransaction:1\nreceipt:1\n\n\0")),
    ];
    let wanted = are(&[
        // Long before what the timer was set for first, CONNECT's deadline.
        (0, "CONNECTED"),
        (900, "beat"),
        (1_800, "beat"),
        // What is written is a heart-beat too.
        (2_000, "RECEIPT"),
        (2_900, "beat"),
        (3_800, "beat"),
        // Two and a half times what was agreed after it was last heard.
        (4_500, "heart-beat-timeout"),
        (4_500, "end"),
    ]);
    assert_eq!(told(&script, u64::MAX >> 20).await, wanted);
}

#[tokio::test(start_paused = true)]
async fn who_has_no_heart_beats_is_asked_for_a_sign_of_life_at_its_time() {
    let script = [(0, data(QUIET)), (30_100, Incoming::Alive)];
    let wanted = are(&[
        (0, "CONNECTED"),
        (30_000, "ping"),
        (60_100, "ping"),
        (90_100, "ping"),
        (105_100, "heart-beat-timeout"),
        (105_100, "end"),
    ]);
    assert_eq!(told(&script, u64::MAX >> 20).await, wanted);
}

#[tokio::test(start_paused = true)]
async fn deadlines_of_a_client_that_does_not_finish_are_kept_while_it_goes_on() {
    // It says nothing, or never the end of its CONNECT.
    for script in [&[][..], &[(9_000, data("CONNECT\nlogin:kim"))]] {
        let wanted = are(&[(10_000, "connect-timeout"), (10_000, "end")]);
        assert_eq!(told(script, u64::MAX >> 20).await, wanted);
    }
    let mut script = vec![(0, data(QUIET)), (500, data("SEND\ndestination:/app/"))];
    script.extend((1..10).map(|second| (second * 1_000, data("x"))));
    let wanted = are(&[(0, "CONNECTED"), (3_500, "frame-timeout"), (3_500, "end")]);
    assert_eq!(told(&script, u64::MAX >> 20).await, wanted);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_given_up_at_its_time() {
    // It is heard all the while, and nothing that it takes shows that the beat at 1,800 ms is not.
    let script = (0..100).map(|at| match at {
        0 => (0, data(CONNECT)),
        at => (at * 500, data("\n")),
    });
    let script = script.collect::<Vec<_>>();
    let wanted = are(&[(0, "CONNECTED"), (900, "beat"), (6_800, "end")]);
    assert_eq!(told(&script, 1_000).await, wanted);
}
