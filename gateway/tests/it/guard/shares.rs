//! What one address may take.

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{ask_from, from, turned_away};
use crate::posting::next;
use crate::running::backend;
use crate::serving::{answer, head};
use crate::wire::Wire;

const INFO: &[u8] = b"GET /sockjs/info HTTP/1.1\r\nHost: a\r\n\r\n";
pub(super) const UPGRADE: &[u8] =
    b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[tokio::test]
async fn connections_of_an_address_are_bounded_and_of_others_are_not() {
    let flags = ["--address-max-connections", "2"];
    let gateway = backend(&[]).await.gateway(&flags).await;
    let mut first = ask_from(1, &gateway, UPGRADE).await;
    assert_eq!(head(&mut first).await.status, 101);
    let mut second = ask_from(1, &gateway, INFO).await;
    assert_eq!(next(&mut second).await.status, 200);
    // Upgraded, it is the same connection.
    second.write_all(UPGRADE).await.unwrap();
    assert_eq!(head(&mut second).await.status, 101);

    let refused = answer(&mut ask_from(1, &gateway, UPGRADE).await).await;
    assert_eq!(
        (refused.status, &*refused.code()),
        (429, "too-many-connections")
    );
    assert!(refused.header("Retry-After").is_some());
    assert_eq!(turned_away(&gateway, "address"), 1);
    let mut other = ask_from(2, &gateway, UPGRADE).await;
    assert_eq!(head(&mut other).await.status, 101);

    drop(first);
    harness::until("the place to be free", async || {
        let mut third = ask_from(1, &gateway, UPGRADE).await;
        head(&mut third).await.status == 101
    })
    .await;
}

#[tokio::test]
async fn who_is_refused_and_says_nothing_takes_no_place_from_others() {
    let flags = ["--address-max-connections", "1", "--max-connections", "3"];
    let gateway = backend(&[]).await.gateway(&flags).await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(from(1, &gateway).await);
    }
    let mut honest = ask_from(2, &gateway, UPGRADE).await;
    assert_eq!(head(&mut honest).await.status, 101);
    harness::until("all to be counted", async || {
        turned_away(&gateway, "address") == 299
    })
    .await;
    // They are not kept either, though they never ask.
    let mut rest = Vec::new();
    for mut stream in silent.split_off(1) {
        stream.read_to_end(&mut rest).await.ok();
    }
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn who_is_refused_over_and_over_is_not_answered_every_time() {
    let gateway = backend(&[])
        .await
        .gateway(&["--max-connections", "1"])
        .await;
    let mut there = ask_from(1, &gateway, UPGRADE).await;
    assert_eq!(head(&mut there).await.status, 101);
    let (mut answered, mut asked) = (0, 0);
    harness::until("one to be closed without a word", async || {
        // Fewer at once than may be told at one time. With TLS each answer would cost a handshake.
        let refused = (0..64).map(|_| async {
            let mut refused = from(2, &gateway).await;
            refused.write_all(INFO).await.ok();
            let mut octets = Vec::new();
            refused.read_to_end(&mut octets).await.ok();
            u64::from(!octets.is_empty())
        });
        let told: u64 = join_all(refused).await.into_iter().sum();
        (answered, asked) = (answered + told, asked + 64);
        told < 64
    })
    .await;
    assert!(answered >= 256, "{answered}");
    assert_eq!(turned_away(&gateway, "connections"), asked);
}

#[tokio::test]
async fn a_session_of_many_requests_counts_with_its_address() {
    let flags = ["--address-max-connections", "2"];
    let gateway = backend(&[]).await.gateway(&flags).await;
    let begin = |name: &str| gateway.request("POST", &format!("/sockjs/0/{name}/xhr"), &[], b"");
    let mut stream = ask_from(1, &gateway, &begin("a")).await;
    assert_eq!(head(&mut stream).await.status, 200);
    // The connection is one, the session the other; a second session is one too many.
    harness::until("the second session to be refused", async || {
        let mut stream = ask_from(1, &gateway, &begin("b")).await;
        head(&mut stream).await.status == 429
    })
    .await;
    assert!(turned_away(&gateway, "address") > 0);
    assert_eq!(gateway.metrics.gateway.connections.get(), 1);
}

#[tokio::test]
async fn clients_behind_a_trusted_proxy_count_with_their_own_addresses() {
    let flags = [
        "--address-max-connections",
        "1",
        "--trusted-proxy",
        "127.0.0.9",
    ];
    let gateway = backend(&[]).await.gateway(&flags).await;
    let upgrade = |client: &str| {
        let line = format!("X-Forwarded-For: {client}\r\nUpgrade: ");
        str::from_utf8(UPGRADE)
            .unwrap()
            .replacen("Upgrade: ", &line, 1)
    };
    let mut open = Vec::new();
    for (client, status) in [
        ("192.0.2.1", 101),
        ("192.0.2.2", 101),
        ("192.0.2.1", 429),
        ("2001:db8::1", 101),
        ("2001:db8::2", 429),
        ("2001:db8:0:1::", 101),
    ] {
        let mut stream = ask_from(9, &gateway, upgrade(client).as_bytes()).await;
        assert_eq!(head(&mut stream).await.status, status, "{client}");
        open.push(stream);
    }
    // Whoever is no proxy is who it is, whatever it says.
    for (client, status) in [("192.0.2.7", 101), ("192.0.2.8", 429)] {
        let mut stream = ask_from(3, &gateway, upgrade(client).as_bytes()).await;
        assert_eq!(head(&mut stream).await.status, status, "{client}");
        open.push(stream);
    }
    assert_eq!(turned_away(&gateway, "address"), 3);
    drop(open);
    harness::until("the places to be free", async || {
        let mut stream = ask_from(9, &gateway, upgrade("192.0.2.1").as_bytes()).await;
        head(&mut stream).await.status == 101
    })
    .await;
}

#[tokio::test]
async fn who_is_refused_behind_a_proxy_takes_no_place_from_others_either() {
    let flags = [
        "--address-max-connections",
        "1",
        "--max-connections",
        "3",
        "--proxy-protocol",
        "--trusted-proxy",
        "127.0.0.9",
    ];
    let gateway = backend(&[]).await.gateway(&flags).await;
    // The PROXY protocol, version 2: TCP over IPv4, from 192.0.2.x.
    let proxied = |x: u8| {
        let signature = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";
        [&signature[..], &[192, 0, 2, x, 127, 0, 0, 1, 9, 9, 9, 9]].concat()
    };
    let mut silent = Vec::new();
    for nth in 1..=20 {
        silent.push(ask_from(9, &gateway, &proxied(1)).await);
        harness::until("it to be counted", async || {
            turned_away(&gateway, "address") == nth - 1
        })
        .await;
    }
    let honest = [&proxied(2), UPGRADE].concat();
    let mut honest = ask_from(9, &gateway, &honest).await;
    assert_eq!(head(&mut honest).await.status, 101);
}

#[tokio::test]
async fn who_connects_too_often_is_told_when_to_come_back() {
    let flags = ["--address-connect-rate", "1"];
    let gateway = backend(&[]).await.gateway(&flags).await;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        let mut stream = ask_from(1, &gateway, UPGRADE).await;
        let answer = head(&mut stream).await;
        if answer.status == 429 {
            let after: u64 = answer.header("Retry-After").unwrap().parse().unwrap();
            assert!((1..=2).contains(&after), "{after}");
        }
        statuses.push(answer.status);
    }
    assert_eq!(statuses[..2], [101, 101]);
    assert!(statuses.contains(&429), "{statuses:?}");
    assert!(turned_away(&gateway, "rate") > 0);
    let mut other = ask_from(2, &gateway, UPGRADE).await;
    assert_eq!(head(&mut other).await.status, 101);
}

#[tokio::test]
async fn requests_count_with_the_frames_of_an_address() {
    let flags = ["--address-frame-rate", "5"];
    let gateway = backend(&[]).await.gateway(&flags).await;
    let mut stream = ask_from(1, &gateway, &INFO.repeat(100)).await;
    let mut refused = 0;
    for _ in 0..100 {
        let answer = next(&mut stream).await;
        if answer.status == 429 {
            assert_eq!(answer.code(), "rate-limited");
            assert!(answer.header("Retry-After").is_some());
            refused += 1;
        }
    }
    assert!(refused >= 50, "{refused}");
    assert_eq!(turned_away(&gateway, "rate"), refused);
    let mut other = ask_from(2, &gateway, INFO).await;
    assert_eq!(next(&mut other).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_one_address_share_its_rate_and_a_presser_is_cut_off() {
    let flags = ["--address-frame-rate", "20", "--rate-patience", "2s"];
    let gateway = backend(&[]).await.gateway(&flags).await;
    let mut wires = Vec::new();
    for _ in 0..3 {
        wires.push(Wire::connected(&gateway, "1.2").await);
    }
    for wire in &mut wires {
        wire.send(&"BEGIN\ntransaction:t\n\n\0ABORT\ntransaction:t\n\n\0".repeat(500))
            .await;
    }
    for mut wire in wires {
        let detail = "more frames a second than are allowed from one address";
        wire.expect_error("rate-limited", detail, 1013).await;
    }
    let slowed = &gateway.metrics.gateway.slowed;
    assert_eq!(slowed.with_label_values(&["address"]).get(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn octets_over_the_rate_are_slowed_down_and_none_is_lost() {
    let backend = backend(&[]).await;
    let _storing = backend.storing().await;
    let gateway = backend
        .gateway(&["--byte-rate", "64KiB", "--rate-patience", "20s"])
        .await;
    let mut wire = Wire::connected(&gateway, "1.2").await;
    let body = "x".repeat(50_000);
    for _ in 0..6 {
        wire.send(&format!(
            "SEND\ndestination:/app/rooms/r\nreceipt:1\n\n{body}\0"
        ))
        .await;
    }
    for _ in 0..6 {
        wire.expect("RECEIPT\nreceipt-id:1\nmessage-id:*\ncreated-at:*\n\n\0")
            .await;
    }
    let slowed = &gateway.metrics.gateway.slowed;
    assert!(slowed.with_label_values(&["connection"]).get() > 0);
}

#[tokio::test]
async fn rooms_and_subscriptions_are_bounded_for_connections_and_addresses() {
    let backend = backend(&[]).await;
    let subscribe = |id: &str, room: &str| {
        format!("SUBSCRIBE\nid:{id}\ndestination:/topic/rooms/{room}\nreceipt:{id}\n\n\0")
    };
    for (flags, across, code, detail) in [
        (
            ["--max-rooms", "2"],
            false,
            "too-many-rooms",
            "SUBSCRIBE: at most 2 rooms per connection",
        ),
        (
            ["--address-max-rooms", "2"],
            true,
            "too-many-rooms",
            "SUBSCRIBE: at most 2 rooms per address",
        ),
        (
            ["--address-max-subscriptions", "3"],
            true,
            "too-many-subscriptions",
            "SUBSCRIBE: at most 3 per address",
        ),
    ] {
        let gateway = backend.gateway(&flags).await;
        let mut wire = Wire::connected(&gateway, "1.2").await;
        for (id, room) in [("1", "a"), ("2", "b"), ("3", "a")] {
            wire.send(&subscribe(id, room)).await;
            wire.expect(&format!("RECEIPT\nreceipt-id:{id}\n\n\0"))
                .await;
        }
        let mut wires = vec![wire];
        if across {
            wires.push(Wire::connected(&gateway, "1.2").await);
        }
        let last = wires.last_mut().unwrap();
        last.send("SUBSCRIBE\nid:4\ndestination:/topic/rooms/c\n\n\0")
            .await;
        last.expect_error(code, detail, 1008).await;
        drop(wires);
        // What a connection had is given back when it ends.
        harness::until("room for others", async || {
            let mut wire = Wire::connected(&gateway, "1.2").await;
            wire.send(&subscribe("5", "c")).await;
            wire.next().await == "RECEIPT\nreceipt-id:5\n\n\0"
        })
        .await;
    }
}
