//! What must hold for one connection whatever comes on it, in whatever pieces: one check that the
//! kept corpus and the fuzz target `http` share.
//!
//! A case is octets. The first says how the gateway is set up and how the client ends, the second
//! how many pieces follow, with the size of each; the rest is what the client sends, over loopback,
//! to a whole gateway. The clock is virtual: it jumps ahead when all that has come is dealt with.

mod answers;
mod store;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::Parser;
use gateway::Parts;
use gateway::config::{GatewayArgs, Settings};
use gateway::entrance::Entrance;
use gateway::server::{Page, Pages};
use shared::admin::Readiness;
use shared::broker::{Broker, Earlier, Settled};
use shared::config::{BrokerSettings, BrokerUrl, CommonArgs, Without};
use shared::metrics::Metrics;
use shared::store::Store;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::store::Held;

/// What of tokens is signed with.
const SECRET: &str = "a secret of the fuzz targets, no other";

/// Pieces that have a size and a pause of their own.
const PIECES: usize = 64;

/// A connection that has no session is over by then, and so is a session whose client has gone.
const LONGEST: Duration = Duration::from_secs(600);

/// The most octets that are said, and that each octet of a client's may cost: the longest answer is
/// the description of the API.
const SAID: usize = 64 << 10;
const SAID_EACH: usize = 1 << 10;

/// How long a gateway takes to end at most.
const DRAIN: Duration = Duration::from_secs(30);

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    gateway: GatewayArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// How a gateway is set up: bit 0 wants tokens, bit 1 has a proxy that speaks the PROXY protocol,
/// bit 2 one that sends X-Forwarded-For, bit 3 looks at what tokens allow.
struct Setup {
    settings: Settings,
    broker: BrokerSettings,
}

/// Plays the case. Panics where something does not hold.
pub(crate) fn check(case: &[u8]) {
    let [how, count, rest @ ..] = case else {
        return;
    };
    let count = usize::from(count & 15).min(rest.len());
    let (sizes, octets) = rest.split_at(count);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(play(*how, sizes, octets));
}

async fn play(how: u8, sizes: &[u8], octets: &[u8]) {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    let metrics = METRICS.get_or_init(Metrics::new);
    let setup = setup(how);
    let store: Arc<dyn Store> = Arc::new(Held::default());
    let broker = shared::broker::open(&setup.broker, metrics, Earlier::default());
    let broker = broker.await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let entrance = Entrance::open(&setup.settings, Arc::clone(&store), metrics);
    let parts = Parts {
        name: "gateway",
        listener,
        settings: setup.settings.clone(),
        entrance: entrance.await.unwrap(),
        broker: Arc::clone(&broker),
        store: Arc::clone(&store),
        pages: Pages(vec![Page {
            path: "/",
            content_type: "text/html; charset=utf-8",
            body: b"<!doctype html>",
        }]),
        metrics: metrics.clone(),
        readiness: Readiness::new(),
        serving: Readiness::new().latch("serving"),
        drain_timeout: DRAIN,
        without: Without::NOTHING,
    };
    let stop = CancellationToken::new();
    let gateway = tokio::spawn(gateway::run(parts, stop.clone()));
    let storing = tokio::spawn(store_all(broker, store));

    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (reader, writer) = stream.into_split();
    let most = SAID + SAID_EACH * octets.len();
    let mut said = Vec::new();
    let client = async {
        let hearing = hear(reader, &mut said, most);
        let saying = say(writer, sizes, octets, how & 0x80 != 0);
        tokio::select! {
            is_ended = hearing => is_ended,
            never = saying => match never {},
        }
    };
    let ended = timeout(LONGEST, client).await;
    let is_served = said
        .windows(10)
        .any(|ten| ten == b"CONNECTED\n" || ten == b"CONNECTED\\");
    assert!(
        ended.is_ok() || is_served,
        "a connection without a session goes on"
    );
    answers::check(&said, ended.unwrap_or(false));

    let gone = async {
        while metrics.gateway.connections.get() > 0 {
            sleep(Duration::from_secs(1)).await;
        }
    };
    timeout(LONGEST, gone)
        .await
        .expect("a session outlives its client");
    stop.cancel();
    let gateway = timeout(2 * DRAIN, gateway).await;
    gateway.expect("the gateway does not end").unwrap().unwrap();
    storing.abort();
}

/// What this many gateways have in common is made once.
fn setup(how: u8) -> &'static Setup {
    static SETUPS: [OnceLock<Setup>; 16] = [const { OnceLock::new() }; 16];
    let how = how & 15;
    SETUPS[usize::from(how)].get_or_init(|| {
        let mut flags = vec!["gateway"];
        if how & 1 != 0 {
            flags.extend(["--auth", "jwt", "--jwt-key", SECRET]);
            flags.extend(["--jwt-cookie", "auth", "--jwt-query", "token"]);
        }
        if how & 6 != 0 {
            flags.extend(["--trusted-proxy", "127.0.0.0/8"]);
        }
        if how & 2 != 0 {
            flags.push("--proxy-protocol");
        }
        if how & 9 == 9 {
            flags.extend(["--access", "claims", "--refusals", "message"]);
        }
        let flags = Flags::parse_from(flags);
        Setup {
            settings: Settings::from_args(&flags.gateway).unwrap(),
            broker: flags
                .common
                .broker_settings(Some(BrokerUrl::Memory))
                .unwrap(),
        }
    })
}

/// Takes what the server says until it ends the connection; `true` where it does so in order.
async fn hear(mut reader: OwnedReadHalf, said: &mut Vec<u8>, most: usize) -> bool {
    loop {
        match reader.read_buf(said).await {
            Ok(0) => return true,
            Ok(_) => assert!(said.len() <= most, "{} octets are said", said.len()),
            Err(_) => return false,
        }
    }
}

/// Sends the octets in pieces of these sizes, each when all has been done about the one before; a
/// large size has a second of silence after it, and no size is all that is left. Then says no more,
/// or that there is no more.
async fn say(
    mut writer: OwnedWriteHalf,
    sizes: &[u8],
    mut octets: &[u8],
    ends: bool,
) -> std::convert::Infallible {
    for size in sizes.iter().cycle().take(PIECES) {
        let (piece, rest) = octets.split_at(octets.len().min(usize::from(size & 0x7f)));
        octets = rest;
        if writer.write_all(piece).await.is_err() {
            break;
        }
        let is_slow = size & 0x80 != 0;
        sleep(Duration::from_millis(if is_slow { 1000 } else { 1 })).await;
    }
    // Who is not heard any more is told so by the reading half.
    let all = writer.write_all(octets).await;
    if ends && all.is_ok() {
        writer.shutdown().await.ok();
    }
    std::future::pending().await
}

/// Does what a persister does.
async fn store_all(broker: Arc<dyn Broker>, store: Arc<dyn Store>) {
    let mut feed = broker.open_feed("case").await.unwrap();
    loop {
        let entries = feed.next(50, Duration::from_millis(3)).await.unwrap();
        let contents = entries.iter().map(|entry| entry.content.clone().unwrap());
        store.insert(&contents.collect::<Vec<_>>()).await.unwrap();
        let settled = entries.iter().map(|entry| Settled {
            id: entry.id,
            notify: entry.notify,
        });
        feed.settler().settle(settled.collect()).await.unwrap();
    }
}

/// What the fuzz target has found, and what it started from.
#[cfg(test)]
#[test]
fn the_kept_corpus_of_http_holds() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/http");
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
