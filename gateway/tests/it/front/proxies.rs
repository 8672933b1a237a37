//! Version 2 of the PROXY protocol, from who may speak it and from who may not.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{connect_from, encrypted, end, secure, telling, tls_flags, told};
use crate::serving::{Serving, answer};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const FLAGS: [&str; 3] = ["--trusted-proxy", "127.0.0.2", "--proxy-protocol"];
const PROXY: &str = "127.0.0.2";

fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, rest].concat()
}

/// As HAProxy writes one for 192.0.2.7:8080.
fn of_client() -> Vec<u8> {
    let addresses = [192, 0, 2, 7, 127, 0, 0, 1, 0x1f, 0x90, 0x1f, 0x90];
    header(0x21, 0x11, &addresses)
}

/// What becomes of a connection from the proxy that begins so.
async fn refused(serving: &Serving, octets: &[u8]) -> Vec<u8> {
    let mut stream = connect_from(PROXY, &serving.address).await;
    stream.write_all(octets).await.unwrap();
    end(&mut stream).await
}

#[tokio::test]
async fn a_trusted_proxy_says_where_the_client_is() {
    let serving = telling(&FLAGS).await;
    let mut v6 = [0; 36];
    v6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    v6[33] = 80;
    for (header, client) in [
        (of_client(), "192.0.2.7:8080"),
        (header(0x21, 0x21, &v6), "[2001:db8::]:80"),
    ] {
        let mut stream = connect_from(PROXY, &serving.address).await;
        stream.write_all(&header).await.unwrap();
        assert_eq!(told(&mut stream, &[]).await, client);
    }
}

#[tokio::test]
async fn a_proxy_that_speaks_for_itself_or_for_nobody_is_where_it_is() {
    let serving = telling(&FLAGS).await;
    for header in [
        header(0x20, 0x00, &[]),
        header(0x20, 0x11, &[7; 12]),
        header(0x21, 0x00, &[]),
        header(0x21, 0x31, &[b'/'; 216]),
    ] {
        let mut stream = connect_from(PROXY, &serving.address).await;
        let own = stream.local_addr().unwrap().to_string();
        stream.write_all(&header).await.unwrap();
        assert_eq!(told(&mut stream, &[]).await, own);
    }
}

#[tokio::test]
async fn who_is_no_trusted_proxy_is_served_as_who_it_is_and_its_header_is_no_request() {
    let serving = telling(&FLAGS).await;
    let mut honest = connect_from("127.0.0.3", &serving.address).await;
    let own = honest.local_addr().unwrap().to_string();
    assert_eq!(told(&mut honest, &[]).await, own);

    let mut spoofing = connect_from("127.0.0.3", &serving.address).await;
    let request = b"GET /sockjs/info HTTP/1.1\r\nHost: x\r\n\r\n";
    let octets = [&of_client()[..], request].concat();
    spoofing.write_all(&octets).await.unwrap();
    assert_eq!(answer(&mut spoofing).await.status, 400);
    assert_eq!(
        (serving.failures("broken"), serving.failures("proxy")),
        (1, 0)
    );
}

#[tokio::test]
async fn without_the_flag_nobodys_header_is_read() {
    let serving = telling(&FLAGS[..2]).await;
    let mut stream = connect_from(PROXY, &serving.address).await;
    stream.write_all(&of_client()).await.unwrap();
    assert_eq!(answer(&mut stream).await.status, 400);
}

#[tokio::test]
async fn a_proxy_without_a_header_is_closed_without_an_answer() {
    let serving = telling(&FLAGS).await;
    let wrong_version = header(0x31, 0x11, &[0; 12]);
    let datagram = header(0x21, 0x12, &[0; 12]);
    let short = header(0x21, 0x21, &[0; 12]);
    let oversized = header(0x21, 0x11, &[0; 600]);
    let beginnings = [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"G",
        b"PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        &wrong_version,
        &datagram,
        &short,
        &oversized,
    ];
    for octets in beginnings {
        assert_eq!(refused(&serving, octets).await, b"", "{octets:?}");
    }
    assert_eq!(serving.failures("proxy"), beginnings.len() as u64);
}

#[tokio::test]
async fn a_header_without_an_end_is_not_read_to_its_end() {
    let serving = telling(&FLAGS).await;
    let mut stream = connect_from(PROXY, &serving.address).await;
    let begun = [SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat();
    stream.write_all(&begun).await.unwrap();
    // It goes on until the server has closed.
    while stream.write_all(&[4; 4096]).await.is_ok() {}
    harness::until("the failure to be counted", async || {
        serving.failures("proxy") == 1
    })
    .await;
}

#[tokio::test]
async fn a_header_that_does_not_come_in_time_is_not_waited_for() {
    let flags = [&FLAGS[..], &["--connect-deadline", "300ms"]].concat();
    let serving = telling(&flags).await;
    let whole = of_client();
    for length in [0, 1, 12, 16, whole.len() - 1] {
        assert_eq!(refused(&serving, &whole[..length]).await, b"", "{length}");
    }
    assert_eq!(serving.failures("proxy"), 5);
}

#[tokio::test]
async fn who_only_looks_whether_somebody_listens_is_no_failure() {
    let serving = telling(&FLAGS).await;
    for address in [PROXY, "127.0.0.3"] {
        let mut stream = connect_from(address, &serving.address).await;
        stream.shutdown().await.unwrap();
        assert_eq!(end(&mut stream).await, b"");
    }
    let (_authority, encrypted) = encrypted(&[]).await;
    let mut stream = TcpStream::connect(&encrypted.address).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(end(&mut stream).await, b"");
    for serving in [serving, encrypted] {
        for reason in ["proxy", "tls", "broken", "timeout"] {
            assert_eq!(serving.failures(reason), 0, "{reason}");
        }
    }
}

#[tokio::test]
async fn the_header_comes_before_tls() {
    let authority = harness::Authority::new();
    let files = tls_flags(&authority, "server");
    let files: Vec<_> = files.iter().map(String::as_str).collect();
    let serving = telling(&[&FLAGS[..], &files].concat()).await;
    let mut stream = connect_from(PROXY, &serving.address).await;
    stream.write_all(&of_client()).await.unwrap();
    let mut stream = secure(authority.client(), stream).await.unwrap();
    assert_eq!(told(&mut stream, &[]).await, "192.0.2.7:8080");
}
