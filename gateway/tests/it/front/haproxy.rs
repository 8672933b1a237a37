//! A real HAProxy before two gateways: by PROXY version 2, and by `X-Forwarded-For`.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use harness::Haproxy;

use super::{connect_from, telling, told};
use crate::serving::{Serving, answer};

/// What HAProxy is told, with what stands behind each server and in the backend.
fn configuration(port: u16, servers: [&Serving; 2], how: &str, option: &str) -> String {
    let servers: Vec<_> = servers.iter().map(|serving| &serving.address).collect();
    format!(
        "global\n  maxconn 100\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
         frontend clients\n  bind 127.0.0.1:{port}\n  default_backend gateways\n\
         backend gateways\n  balance roundrobin\n  {option}\n\
         server one {} {how}\n  server other {} {how}\n",
        servers[0], servers[1],
    )
}

/// Who the gateways hold eight clients at this address to be, each of which lies.
async fn held(proxy: SocketAddr, from: &str) -> BTreeSet<String> {
    let mut held = BTreeSet::new();
    for _ in 0..8 {
        let mut stream = connect_from(from, &proxy.to_string()).await;
        let own = stream.local_addr().unwrap();
        let told = told(&mut stream, &["X-Forwarded-For: 6.6.6.6"]).await;
        let told: SocketAddr = told.parse().unwrap();
        // HAProxy writes no port into the header.
        assert!(told.port() == own.port() || told.port() == 0, "{told}");
        held.insert(told.ip().to_string());
    }
    held
}

#[tokio::test]
async fn by_the_proxy_protocol_both_gateways_see_the_clients_own_address() {
    let flags = ["--trusted-proxy", "127.0.0.1", "--proxy-protocol"];
    let (one, other) = (telling(&flags).await, telling(&flags).await);
    let proxy =
        Haproxy::start(|[port, _]| configuration(port, [&one, &other], "send-proxy-v2", "")).await;
    for from in ["127.0.0.7", "127.0.0.8"] {
        let held = held(proxy.address(), from).await;
        assert_eq!(held, BTreeSet::from([from.to_owned()]));
    }
    for gateway in [one, other] {
        let requests = &gateway.metrics.gateway.http_requests;
        assert!(requests.with_label_values(&["1xx"]).get() > 0);
        assert_eq!(gateway.failures("proxy"), 0);
    }
}

#[tokio::test]
async fn by_forwarded_for_both_gateways_see_the_clients_own_address() {
    let flags = ["--trusted-proxy", "127.0.0.1"];
    let (one, other) = (telling(&flags).await, telling(&flags).await);
    let proxy =
        Haproxy::start(|[port, _]| configuration(port, [&one, &other], "", "option forwardfor"))
            .await;
    for from in ["127.0.0.7", "127.0.0.8"] {
        let held = held(proxy.address(), from).await;
        assert_eq!(held, BTreeSet::from([from.to_owned()]));
    }
}

#[tokio::test]
async fn a_proxy_that_does_not_say_whose_a_connection_is_gets_none_through() {
    let flags = ["--trusted-proxy", "127.0.0.1", "--proxy-protocol"];
    let (one, other) = (telling(&flags).await, telling(&flags).await);
    let proxy =
        Haproxy::start(|[port, _]| configuration(port, [&one, &other], "", "option forwardfor"))
            .await;
    let mut stream = connect_from("127.0.0.7", &proxy.address().to_string()).await;
    let request = b"GET /sockjs/info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, request)
        .await
        .unwrap();
    assert_eq!(answer(&mut stream).await.status, 502);
    assert!(one.failures("proxy") + other.failures("proxy") > 0);
}
