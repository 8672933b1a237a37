//! The server as clients from outside see it: browsers, and the STOMP and SockJS libraries that
//! front ends and back ends have. What they do and check is in `clients/`; here the server is
//! started, killed and started again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use harness::{Authority, Mongo, Process, Redis, cache};
use tempfile::TempDir;

/// What the scripts expect of the server: so many messages without an acknowledgement.
const WINDOW: [&str; 2] = ["--max-unacknowledged", "4"];

#[tokio::test]
async fn two_browsers_chat_across_a_killed_server_and_a_lost_network() {
    let data = TempDir::new().unwrap();
    drive("chat.mjs", |listen, _| standalone(&data, listen, &[])).await;
}

#[tokio::test]
async fn stompjs_connects_subscribes_sends_gets_receipts_and_comes_back() {
    let data = TempDir::new().unwrap();
    drive("stompjs.mjs", |listen, _| {
        standalone(&data, listen, &WINDOW)
    })
    .await;
}

#[tokio::test]
async fn stompjs_finds_the_same_in_a_gateway_on_redis_and_mongodb() {
    let redis = Redis::start().await;
    let mongo = Mongo::start().await;
    let (broker, store) = (redis.url(), mongo.url(&Mongo::database()));
    let shared = [
        "--broker",
        &broker,
        "--store",
        &store,
        "--admin-listen",
        "127.0.0.1:0",
    ];
    let _persister = Process::spawn("persister", shared);
    drive("stompjs.mjs", |listen, _| {
        let listen = listen.to_string();
        let own = ["--listen", &listen];
        Process::spawn("gateway", shared.iter().chain(&own).chain(&WINDOW))
    })
    .await;
}

#[tokio::test]
async fn webstomp_client_speaks_the_highest_version_it_knows() {
    let data = TempDir::new().unwrap();
    drive("webstomp.mjs", |listen, _| {
        standalone(&data, listen, &WINDOW)
    })
    .await;
}

#[tokio::test]
async fn stompjs_2_works_as_it_did_with_spring() {
    let data = TempDir::new().unwrap();
    drive("stompjs2.mjs", |listen, _| {
        standalone(&data, listen, &WINDOW)
    })
    .await;
}

#[tokio::test]
async fn stomp_py_works_in_every_version() {
    let data = TempDir::new().unwrap();
    drive("stomp_py.py", |listen, _| {
        standalone(&data, listen, &WINDOW)
    })
    .await;
}

#[tokio::test]
async fn every_library_works_over_every_transport_of_sockjs_client() {
    let data = TempDir::new().unwrap();
    drive("sockjs.mjs", |listen, _| standalone(&data, listen, &[])).await;
}

#[tokio::test]
async fn pages_of_an_allowed_origin_use_every_transport_and_others_none() {
    let data = TempDir::new().unwrap();
    drive("frontend.mjs", |listen, flags| {
        standalone(&data, listen, flags)
    })
    .await;
}

#[tokio::test]
async fn the_page_asks_for_tokens_shows_none_and_goes_on_with_the_next() {
    let data = TempDir::new().unwrap();
    drive("signin.mjs", |listen, flags| {
        standalone(&data, listen, flags)
    })
    .await;
}

#[tokio::test]
async fn libraries_bring_tokens_over_tls_and_lose_nothing_when_one_expires() {
    let (data, authority) = (TempDir::new().unwrap(), Authority::new());
    let server = authority.certify("server", &["127.0.0.1"]);
    let tls = [
        "--tls-cert",
        server.certificate.to_str().unwrap(),
        "--tls-key",
        server.key.to_str().unwrap(),
    ];
    let ca = authority.file();
    let trust = [("NODE_EXTRA_CA_CERTS", ca.to_str().unwrap())];
    drive_by("https", "tokens.mjs", &trust, |listen, flags| {
        standalone(&data, listen, &[&tls, flags].concat())
    })
    .await;
}

#[tokio::test]
async fn a_cookie_works_for_the_servers_own_page_and_for_no_other() {
    let data = TempDir::new().unwrap();
    drive("cookie.mjs", |listen, flags| {
        standalone(&data, listen, flags)
    })
    .await;
}

#[tokio::test]
async fn back_ends_sign_and_post_as_they_are_told_to() {
    let data = TempDir::new().unwrap();
    drive("backends.mjs", |listen, flags| {
        standalone(&data, listen, flags)
    })
    .await;
}

#[tokio::test]
async fn the_page_keeps_messages_once_and_in_order_whatever_a_server_answers() {
    let mut client = script("scripted.mjs", &[]);
    let status = client.wait().await;
    assert!(status.success(), "{status}\n{}", client.output());
}

/// Runs a script against a server, and does with the server what the script asks: `ask kill`, or
/// `ask start` with flags of its own.
async fn drive(name: &str, start: impl Fn(SocketAddr, &[&str]) -> Process) {
    drive_by("http", name, &[], start).await;
}

/// The same by this scheme, with further variables for the script.
async fn drive_by(
    scheme: &str,
    name: &str,
    envs: &[(&str, &str)],
    start: impl Fn(SocketAddr, &[&str]) -> Process,
) {
    let mut server = start("127.0.0.1:0".parse().unwrap(), &[]);
    let address = server.ready().await;
    let url = format!("{scheme}://{address}");
    let mut client = script(name, &[envs, &[("ROOMCAST_URL", &url)]].concat());
    loop {
        let line = client
            .next_line(|line| line.starts_with("ask ") || line == "done")
            .await;
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["ask", "kill"] => {
                server.kill().await;
                client.say("killed").await;
            }
            ["ask", "start", ref flags @ ..] => {
                server = start(address, flags);
                assert_eq!(server.ready().await, address);
                client.say("started").await;
            }
            _ => break,
        }
    }
    let status = client.wait().await;
    assert!(status.success(), "{status}\n{}", client.output());
}

/// Starts a script of `clients/`.
fn script(name: &str, envs: &[(&str, &str)]) -> Process {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients");
    let program = if name.ends_with(".py") {
        python()
    } else {
        assert!(
            clients.join("node_modules/sockjs-client").is_dir(),
            "the clients are not installed: run scripts/test"
        );
        "node".into()
    };
    Process::run(program, [clients.join(name)], envs.iter().copied())
}

/// A Python that has stomp.py: what `ROOMCAST_PYTHON` names, or what `scripts/test` installs.
fn python() -> PathBuf {
    let installed = cache::folder().map(|cache| cache.join("stomp.py-9.0.0/bin/python"));
    std::env::var_os("ROOMCAST_PYTHON")
        .map(PathBuf::from)
        .or_else(|| installed.filter(|python| python.is_file()))
        .expect("`scripts/test` installs stomp.py, or ROOMCAST_PYTHON names a Python that has it")
}

fn standalone(data: &TempDir, listen: SocketAddr, flags: &[&str]) -> Process {
    let listen = listen.to_string();
    let own = [
        "--data-dir",
        data.path().to_str().unwrap(),
        "--listen",
        &listen,
        "--admin-listen",
        "127.0.0.1:0",
    ];
    Process::spawn("roomcast", own.iter().chain(flags))
}
