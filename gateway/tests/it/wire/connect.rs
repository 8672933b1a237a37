//! The handshake, CONNECT and CONNECTED.

use crate::running::{Running, backend};
use crate::wire::raw::request;
use crate::wire::{VERSIONS, Wire};

/// What CONNECTED is to somebody who offers no heart-beat.
fn connected(version: &str, heart_beat: &str, user: &str) -> String {
    let ours = "session:*\nserver:roomcast/*";
    format!("CONNECTED\nversion:{version}\nheart-beat:{heart_beat}\n{ours}\nuser-name:{user}\n\n\0")
}

/// What is offered to somebody who offers no heart-beat.
fn offer(version: &str) -> &'static str {
    if version == "1.0" {
        "0,0"
    } else {
        "10000,10000"
    }
}

/// Sends this on a new connection, and the answer must be that.
async fn answers(gateway: &Running, sent: &str, golden: &str) -> Wire {
    let mut wire = Wire::open(gateway).await;
    wire.send(sent).await;
    wire.expect(golden).await;
    wire
}

#[tokio::test]
async fn the_highest_subprotocol_that_is_offered_is_selected_and_none_is_fine() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for (offered, selected) in [
        (
            &["v12.stomp", "v11.stomp", "v10.stomp"][..],
            Some("v12.stomp"),
        ),
        (&["v10.stomp", "v11.stomp", "v12.stomp"], Some("v12.stomp")),
        (&["v10.stomp", "v11.stomp"], Some("v11.stomp")),
        (&["v10.stomp"], Some("v10.stomp")),
        (&["mqtt", "v11.stomp"], Some("v11.stomp")),
        (&["v13.stomp", "stomp", "mqtt"], None),
        (&["V12.STOMP"], None),
        (&[], None),
    ] {
        let (name, mut wire) = Wire::offering(&gateway, offered).await;
        assert_eq!(name.as_deref(), selected, "{offered:?}");
        wire.send("CONNECT\naccept-version:1.2\n\n\0").await;
        wire.expect(&connected("1.2", "10000,10000", "anonymous"))
            .await;
    }
}

#[tokio::test]
async fn accept_version_binds_and_the_subprotocol_does_not() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for (offered, accepted, version) in [
        ("v10.stomp", "accept-version:1.2,1.1,1.0\n", "1.2"),
        ("v11.stomp", "accept-version:1.0\n", "1.0"),
        ("v12.stomp", "accept-version:1.1\n", "1.1"),
        ("v12.stomp", "", "1.0"),
    ] {
        let (_, mut wire) = Wire::offering(&gateway, &[offered]).await;
        wire.send(&format!("CONNECT\n{accepted}\n\0")).await;
        wire.expect(&connected(version, offer(version), "anonymous"))
            .await;
    }
}

#[tokio::test]
async fn pages_of_another_origin_are_refused_unless_it_is_allowed() {
    let backend = backend(&[]).await;
    let closed = backend.gateway(&[]).await;
    let two = "https://a.example,https://b.example";
    let open = backend.gateway(&["--allowed-origin", two]).await;
    let wide = backend.gateway(&["--allowed-origin", "*"]).await;
    let own = format!("http://{}", closed.address);
    for (gateway, origin, status) in [
        (&closed, &*own, "101"),
        (&closed, "https://a.example", "403"),
        (&closed, "null", "403"),
        (&open, "https://a.example", "101"),
        (&open, "https://b.example", "101"),
        (&open, "https://c.example", "403"),
        (&open, "http://b.example", "403"),
        (&open, "https://b.example:444", "403"),
        (&open, "https://x.b.example", "403"),
        (&wide, "https://c.example", "101"),
    ] {
        let (head, _) = request(gateway, &[&format!("Origin: {origin}")]).await;
        assert_eq!(head.split(' ').nth(1), Some(status), "{origin}");
    }
}

#[tokio::test]
async fn stomp_is_connect_and_host_is_ignored() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for command in ["CONNECT", "STOMP"] {
        for host in ["", "host:/\n", "host:elsewhere.example.com\n"] {
            let sent = format!("{command}\naccept-version:1.2\n{host}login:kim\n\n\0");
            answers(&gateway, &sent, &connected("1.2", "10000,10000", "kim")).await;
        }
    }
}

#[tokio::test]
async fn the_highest_common_version_is_spoken_and_none_named_means_1_0() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for (accepted, version) in [
        ("accept-version:1.0\n", "1.0"),
        ("accept-version:1.1\n", "1.1"),
        ("accept-version:1.2\n", "1.2"),
        ("accept-version:1.0,1.1\n", "1.1"),
        ("accept-version:1.2,1.1,1.0\n", "1.2"),
        ("accept-version:1.1,2.0\n", "1.1"),
        ("accept-version:1.1, 1.0\n", "1.1"),
        ("accept-version:1.0\naccept-version:1.2\n", "1.0"),
        ("Accept-Version:1.2\n", "1.0"),
        ("", "1.0"),
    ] {
        let sent = format!("CONNECT\n{accepted}\n\0");
        answers(
            &gateway,
            &sent,
            &connected(version, offer(version), "anonymous"),
        )
        .await;
    }
}

#[tokio::test]
async fn without_a_common_version_the_error_lists_ours() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for accepted in ["2.0", "0.9", "1.3,2.0", "", "1"] {
        let sent = format!("CONNECT\naccept-version:{accepted}\n\n\0");
        let golden = "ERROR\n\
            message:The supported STOMP versions are 1.0, 1.1 and 1.2.\n\
            code:version-unsupported\n\
            content-type:text/plain\n\
            version:1.0,1.1,1.2\n\
            content-length:41\n\n\
            this server speaks STOMP 1.0, 1.1 and 1.2\0";
        answers(&gateway, &sent, golden)
            .await
            .expect_close(1002)
            .await;
    }
}

#[tokio::test]
async fn the_first_frame_is_connect() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for frame in [
        "SEND\ndestination:/app/rooms/r\nreceipt:1\n\nhi\0",
        "SUBSCRIBE\nid:0\ndestination:/topic/rooms/r\nreceipt:1\n\n\0",
        "UNSUBSCRIBE\nid:0\nreceipt:1\n\n\0",
        "BEGIN\ntransaction:t\nreceipt:1\n\n\0",
        "ACK\nid:1\nreceipt:1\n\n\0",
        "DISCONNECT\nreceipt:1\n\n\0",
    ] {
        let (command, _) = frame.split_once('\n').unwrap();
        let golden = format!(
            "ERROR\nmessage:The first frame must be CONNECT or STOMP.\ncode:not-connected\n\
             content-type:text/plain\nreceipt-id:1\ncontent-length:*\n\n\
             {command}: the first frame must be CONNECT\0"
        );
        answers(&gateway, frame, &golden)
            .await
            .expect_close(1002)
            .await;
    }
}

#[tokio::test]
async fn connect_comes_once() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for version in VERSIONS {
        for command in ["CONNECT", "STOMP"] {
            let mut wire = Wire::connected(&gateway, version).await;
            wire.send(&format!("{command}\naccept-version:1.2\n\n\0"))
                .await;
            let code = "already-connected";
            wire.expect_error(code, "*: this session is connected already", 1002)
                .await;
        }
    }
}

#[tokio::test]
async fn connect_must_come_within_its_deadline() {
    let flags = ["--connect-deadline", "1s"];
    let gateway = backend(&[]).await.gateway(&flags).await;
    // Whether nothing comes, line ends or half a frame.
    for sent in ["", "\n", "CONNECT\naccept-ver"] {
        let mut wire = Wire::open(&gateway).await;
        if !sent.is_empty() {
            wire.send(sent).await;
        }
        wire.expect_error("connect-timeout", "no CONNECT frame has come", 1008)
            .await;
    }
    let gone = &gateway.metrics.gateway.disconnects;
    let gone = gone.with_label_values(&["connect-timeout"]);
    harness::until("the metric", async || gone.get() == 3).await;
}

#[tokio::test]
async fn nothing_is_escaped_in_connect_and_connected() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for version in VERSIONS {
        for login in [r"a\cb", "a:b", r"a\\b", r"a\n", "a\\", r"a\t", " a "] {
            for command in ["CONNECT", "STOMP"] {
                let sent = format!("{command}\naccept-version:{version}\nlogin:{login}\n\n\0");
                answers(&gateway, &sent, &connected(version, offer(version), login)).await;
            }
        }
    }
}

#[tokio::test]
async fn the_users_name_is_that_of_login() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let heart_beat = "10000,10000";
    let sent = "CONNECT\naccept-version:1.2\nlogin:안나\npasscode:secret\n\n\0";
    answers(&gateway, sent, &connected("1.2", heart_beat, "안나")).await;
    let sent = "CONNECT\naccept-version:1.2\nlogin:\n\n\0";
    answers(&gateway, sent, &connected("1.2", heart_beat, "anonymous")).await;
    let sent = format!(
        "CONNECT\naccept-version:1.2\nlogin:{}\n\n\0",
        "a".repeat(129)
    );
    let mut wire = Wire::open(&gateway).await;
    wire.send(&sent).await;
    wire.expect_error("bad-header", "login: *", 1002).await;
}

#[tokio::test]
async fn any_line_end_is_read_in_connect_whatever_version_follows() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for version in VERSIONS {
        let golden = connected(version, offer(version), "kim");
        for sent in [
            format!("CONNECT\r\naccept-version:{version}\r\nlogin:kim\r\n\r\n\0\r\n"),
            format!("\n\r\nCONNECT\naccept-version:{version}\r\nlogin:kim\n\n\0\n"),
        ] {
            answers(&gateway, &sent, &golden).await;
        }
    }
}

#[tokio::test]
async fn a_receipt_on_connect_is_not_answered() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let sent = "CONNECT\naccept-version:1.2\nreceipt:c\nlogin:kim\n\n\0";
    let mut wire = answers(&gateway, sent, &connected("1.2", "10000,10000", "kim")).await;
    wire.send("DISCONNECT\nreceipt:bye\n\n\0").await;
    wire.expect("RECEIPT\nreceipt-id:bye\n\n\0").await;
}
