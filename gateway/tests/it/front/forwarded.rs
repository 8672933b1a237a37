//! `X-Forwarded-For`, from who may say it and from who may not.

use harness::{Process, Redis, binary};
use tokio::io::AsyncWriteExt;

use super::{connect_from, telling, told};
use crate::serving::head;

const PROXY: &str = "127.0.0.2";
const FLAGS: [&str; 4] = [
    "--trusted-proxy",
    "127.0.0.2",
    "--trusted-proxy",
    "10.0.0.0/8",
];

#[tokio::test]
async fn a_trusted_proxy_says_where_the_client_is() {
    let serving = telling(&FLAGS).await;
    for (lines, client) in [
        (&["X-Forwarded-For: 192.0.2.7"][..], "192.0.2.7:0"),
        (&["x-forwarded-for: [2001:db8::7]:81"], "[2001:db8::7]:81"),
        // The client wrote the first entry itself.
        (&["X-Forwarded-For: 6.6.6.6, 192.0.2.7"], "192.0.2.7:0"),
        (
            &["X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 192.0.2.7"],
            "192.0.2.7:0",
        ),
        // Two proxies in a row.
        (
            &["X-Forwarded-For: 6.6.6.6, 192.0.2.7, 10.0.0.1"],
            "192.0.2.7:0",
        ),
        (&["X-Forwarded-For: 10.6.6.6, 192.0.2.7"], "192.0.2.7:0"),
    ] {
        let mut stream = connect_from(PROXY, &serving.address).await;
        assert_eq!(told(&mut stream, lines).await, client, "{lines:?}");
    }
}

#[tokio::test]
async fn who_is_no_trusted_proxy_cannot_say_that_it_is_somebody_else() {
    let trusting = telling(&FLAGS).await;
    let alone = telling(&[]).await;
    for (serving, from) in [(&trusting, "127.0.0.3"), (&alone, PROXY)] {
        let mut stream = connect_from(from, &serving.address).await;
        let own = stream.local_addr().unwrap().to_string();
        let spoofed = ["X-Forwarded-For: 192.0.2.7", "X-Real-IP: 192.0.2.7"];
        assert_eq!(told(&mut stream, &spoofed).await, own);
    }
}

#[tokio::test]
async fn what_is_no_address_is_not_taken_for_one() {
    let serving = telling(&FLAGS).await;
    let long = format!("X-Forwarded-For: {}", "7".repeat(8000));
    for line in [
        "X-Forwarded-For: unknown",
        "X-Forwarded-For: ",
        "X-Forwarded-For: 192.0.2.7, _hidden",
        "X-Forwarded-For: 192.0.2.7\t6.6.6.6",
        &long,
    ] {
        let mut stream = connect_from(PROXY, &serving.address).await;
        let proxys = stream.local_addr().unwrap().to_string();
        assert_eq!(told(&mut stream, &[line]).await, proxys, "{line}");
    }
}

#[tokio::test]
async fn each_request_of_a_connection_has_its_own_client_and_the_log_says_so() {
    let redis = Redis::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (broker, store) = (
        redis.url(),
        format!("sqlite:{}", folder.path().join("chat.db").display()),
    );
    let own = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let backends = ["--broker", &broker, "--store", &store];
    let flags = [&own[..], &backends, &FLAGS].concat();
    let level = [("RUST_LOG", "info,gateway=debug")];
    let gateway = Process::run(binary::path("gateway"), flags, level);
    let address = gateway.ready().await.to_string();
    let mut stream = connect_from(PROXY, &address).await;
    for client in ["192.0.2.7", "192.0.2.8"] {
        let request = format!(
            "GET /nothing-of-{client} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {client}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = head(&mut stream).await;
        let length: usize = answer.header("content-length").unwrap().parse().unwrap();
        let mut body = vec![0; length];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut body)
            .await
            .unwrap();
        let path = format!("nothing-of-{client}");
        let line = gateway.line(|line| line.contains(&path)).await;
        assert!(line.contains(&format!("{client}:0")), "{line}");
    }
}
