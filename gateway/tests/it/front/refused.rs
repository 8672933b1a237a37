//! Who does not get through the handshake.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{encrypted, end, secure};
use crate::serving::{DEADLINE, answer};

/// A ClientHello of TLS 1.1 (RFC 4346, section 7.4.1.2) with two cipher suites, both of its time.
fn hello_of_tls_1_1() -> Vec<u8> {
    let random = [7; 32];
    let hello = [
        &[3, 2][..],
        &random,
        &[0],
        &[0, 4, 0, 0x2f, 0, 0x35],
        &[1, 0],
    ]
    .concat();
    let length = u8::try_from(hello.len()).unwrap();
    let handshake = [&[1, 0, 0, length][..], &hello].concat();
    [&[22, 3, 1, 0, length + 4][..], &handshake].concat()
}

#[tokio::test]
async fn who_speaks_no_tls_of_today_gets_an_alert_and_the_end() {
    let (_authority, serving) = encrypted(&[]).await;
    let beginnings = [
        (hello_of_tls_1_1(), true),
        // SSL 2.0.
        (
            b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10".to_vec(),
            false,
        ),
        (b"\0".repeat(64 << 10), false),
        (
            b"\x16\x03\x01\x40\x00"
                .iter()
                .chain(&[0xff; 16384])
                .copied()
                .collect(),
            false,
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), false),
    ];
    let count = beginnings.len() as u64;
    for (octets, version) in beginnings {
        let mut stream = TcpStream::connect(&serving.address).await.unwrap();
        stream.write_all(&octets).await.unwrap();
        let said = end(&mut stream).await;
        if version {
            // A fatal alert (RFC 8446, section 6.2), and nothing else.
            assert!(matches!(said[..], [21, 3, _, 0, 2, 2, _]), "{said:?}");
        }
    }
    harness::until("the failures to be counted", async || {
        serving.failures("tls") == count
    })
    .await;
}

#[tokio::test]
async fn http_without_tls_is_told_so() {
    let (_authority, serving) = encrypted(&[]).await;
    // A body that nobody reads does not take the answer from the client.
    let mut stream = TcpStream::connect(&serving.address).await.unwrap();
    let request = "POST /api/rooms/r/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.write_all(&[b'x'; 20_000]).await.unwrap();
    let refusal = answer(&mut stream).await;
    assert_eq!((refusal.status, &*refusal.code()), (400, "tls-required"));
    let length = refusal.body.len().to_string();
    assert_eq!(refusal.header("content-length"), Some(&*length));
    harness::until("the failure to be counted", async || {
        serving.failures("tls") == 1
    })
    .await;
}

#[tokio::test]
async fn a_handshake_that_is_not_finished_in_time_is_not_waited_for() {
    let (authority, serving) = encrypted(&["--connect-deadline", "300ms"]).await;
    // What a real client begins with.
    let (client, mut wire) = tokio::io::duplex(64 << 10);
    let beginning = tokio::spawn(secure(authority.client(), client));
    let mut hello = vec![0; 5];
    wire.read_exact(&mut hello).await.unwrap();
    hello.resize(5 + usize::from(u16::from_be_bytes([hello[3], hello[4]])), 0);
    wire.read_exact(&mut hello[5..]).await.unwrap();
    beginning.abort();
    for length in [0, 1, 5, hello.len() / 2, hello.len()] {
        let mut stream = TcpStream::connect(&serving.address).await.unwrap();
        stream.write_all(&hello[..length]).await.unwrap();
        let said = end(&mut stream).await;
        assert_eq!(said.is_empty(), length < hello.len(), "{length}");
    }
    assert_eq!(
        (serving.failures("timeout"), serving.failures("tls")),
        (5, 0)
    );
}

#[tokio::test]
async fn a_client_that_trusts_another_authority_does_not_connect() {
    let (_authority, serving) = encrypted(&[]).await;
    let stream = TcpStream::connect(&serving.address).await.unwrap();
    let refused = secure(harness::Authority::new().client(), stream).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("invalid peer certificate"), "{refused}");
    harness::until("the failure to be counted", async || {
        serving.failures("tls") == 1
    })
    .await;
}

#[tokio::test]
async fn a_client_that_speaks_only_http_2_is_refused() {
    let (authority, serving) = encrypted(&[]).await;
    let mut config = (*authority.client()).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(&serving.address).await.unwrap();
    let refused = secure(config.into(), stream).await.unwrap_err();
    assert!(
        refused.to_string().contains("NoApplicationProtocol"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_client_that_goes_in_the_middle_of_a_record_leaves_nothing_behind() {
    let (authority, serving) = encrypted(&[]).await;
    let stream = TcpStream::connect(&serving.address).await.unwrap();
    let stream = secure(authority.client(), stream).await.unwrap();
    let (mut stream, _session) = stream.into_inner();
    // The head of a record that says more than comes.
    stream
        .write_all(&[23, 3, 3, 0x40, 0, 1, 2, 3])
        .await
        .unwrap();
    drop(stream);
    serving.stop.cancel();
    serving.tasks.close();
    timeout(DEADLINE, serving.tasks.wait()).await.unwrap();
}
