//! Heart-beats.

use std::time::Duration;

use gateway::close::CloseReason;
use gateway::transport::TransportName;
use tokio_tungstenite::tungstenite::Message;

use crate::running::backend;
use crate::virtual_client::{Client, JOURNALED};
use crate::wire::Wire;

const SECOND: Duration = Duration::from_secs(1);
const TENTH: Duration = Duration::from_millis(100);

#[tokio::test]
async fn our_offer_is_the_flags_and_a_client_may_have_it_as_short_as_a_second() {
    let backend = backend(&[]).await;
    let (ten, none) = (["--heartbeat", "10s"], ["--heartbeat", "0s"]);
    let (ten, none) = (backend.gateway(&ten).await, backend.gateway(&none).await);
    for (gateway, version, asked, offered) in [
        (&ten, "1.2", None, "10000,10000"),
        (&ten, "1.2", Some("0,0"), "10000,10000"),
        (&ten, "1.1", Some("10000,10000"), "10000,10000"),
        (&ten, "1.1", Some("1000,1000"), "1000,1000"),
        (&ten, "1.2", Some("20000,30000"), "10000,10000"),
        (&ten, "1.2", Some("2000,3000"), "3000,2000"),
        (&ten, "1.2", Some("1,999"), "1000,1000"),
        (&ten, "1.2", Some("0,3000"), "3000,10000"),
        (&ten, "1.0", Some("1000,1000"), "0,0"),
        (&none, "1.2", Some("1000,1000"), "0,0"),
        (&none, "1.2", None, "0,0"),
    ] {
        let mut wire = Wire::open(gateway).await;
        let asked = asked.map_or(String::new(), |asked| format!("heart-beat:{asked}\n"));
        wire.send(&format!("CONNECT\naccept-version:{version}\n{asked}\n\0"))
            .await;
        let golden = format!("CONNECTED\nversion:{version}\nheart-beat:{offered}\nsession:");
        let connected = wire.next().await;
        assert!(connected.starts_with(&golden), "{asked:?}: {connected:?}");
    }
}

#[tokio::test]
async fn a_heart_beat_that_is_not_two_numbers_is_an_error() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for bad in [
        "",
        "1000",
        "1000,",
        "1000,1000,1000",
        "-1,0",
        "1e3,0",
        "1000, 1000",
        "4294967296,0",
    ] {
        let mut wire = Wire::open(&gateway).await;
        wire.send(&format!(
            "CONNECT\naccept-version:1.2\nheart-beat:{bad}\n\n\0"
        ))
        .await;
        let detail = "heart-beat must be two numbers of milliseconds, such as 10000,10000";
        wire.expect_error("bad-header", detail, 1002).await;
    }
}

#[tokio::test]
async fn a_ping_is_one_line_feed_as_a_message_of_its_own_and_may_be_answered_with_one() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for version in ["1.1", "1.2"] {
        let mut wire = Wire::open(&gateway).await;
        wire.send(&format!(
            "CONNECT\naccept-version:{version}\nheart-beat:0,1000\n\n\0"
        ))
        .await;
        assert!(wire.next().await.starts_with("CONNECTED\n"));
        for _ in 0..2 {
            assert_eq!(wire.next_message().await, Message::text("\n"));
            wire.send("\n").await;
        }
        wire.send("DISCONNECT\nreceipt:bye\n\n\0").await;
        wire.expect("RECEIPT\nreceipt-id:bye\n\n\0").await;
    }
}

#[tokio::test]
async fn a_mute_client_is_dropped_with_an_error() {
    let gateway = backend(&[]).await.gateway(&["--heartbeat", "10s"]).await;
    let mut wire = Wire::open(&gateway).await;
    wire.send("CONNECT\naccept-version:1.2\nheart-beat:1000,0\n\n\0")
        .await;
    assert!(wire.next().await.starts_with("CONNECTED\n"));
    let detail = "the client has been silent for too long";
    wire.expect_error("heart-beat-timeout", detail, 1008).await;
    let gone = &gateway.metrics.gateway.disconnects;
    let gone = gone.with_label_values(&["heart-beat-timeout"]);
    harness::until("the metric", async || gone.get() == 1).await;
}

#[tokio::test]
async fn every_kind_of_ping_is_taken_in_every_version() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for version in ["1.0", "1.1", "1.2"] {
        let mut wire = Wire::connected(&gateway, version).await;
        for ping in ["\n", "\r\n", "\n\n\r\n"] {
            wire.send(ping).await;
            wire.send_message(Message::binary(ping.as_bytes().to_vec()))
                .await;
        }
        wire.send("\r").await;
        wire.send("\nDISCONNECT\nreceipt:bye\n\n\0").await;
        wire.expect("RECEIPT\nreceipt-id:bye\n\n\0").await;
    }
}

/// A session that has connected with this header; its clock is the test's.
fn agreed(version: &str, heart_beat: &str) -> Client {
    let mut client = Client::new(&["--heartbeat", "10s"], JOURNALED);
    let heart_beat = format!("heart-beat:{heart_beat}");
    client.say(&format!(
        "CONNECT\naccept-version:{version}\n{heart_beat}\n\n\0"
    ));
    client.take();
    client
}

#[test]
fn each_direction_takes_the_longer_interval_and_a_zero_ends_it() {
    for (asked, outgoing, incoming) in [
        ("10000,10000", Some(10), Some(10)),
        ("1000,1000", Some(1), Some(1)),
        ("30000,20000", Some(20), Some(30)),
        ("1000,0", None, Some(1)),
        ("0,1000", Some(1), None),
        ("0,0", None, None),
    ] {
        let mut client = agreed("1.2", asked);
        // One who answers our transport's ping lives, if it owes us no heart-beat.
        let mut beats = Vec::new();
        for tenth in 1..=900 {
            client.pass(TENTH);
            if client.beats > beats.len() {
                beats.push(tenth);
            }
            if client.pings > 0 {
                client.pings = 0;
                client.session.heard(client.now);
            }
            if client.closed.is_some() {
                let interval = incoming.expect("only who owes heart-beats is dropped") * 10;
                assert!(
                    (2 * interval..=3 * interval).contains(&tenth),
                    "{asked}: {tenth}"
                );
                break;
            }
        }
        assert_eq!(client.closed.is_some(), incoming.is_some(), "{asked}");
        let Some(interval) = outgoing else {
            assert!(beats.is_empty(), "{asked}");
            continue;
        };
        assert!(beats.len() > 1, "{asked}");
        let gaps = beats
            .iter()
            .scan(0, |last, beat| Some(beat - std::mem::replace(last, *beat)));
        for gap in gaps {
            assert!(
                (interval * 5..=interval * 10).contains(&gap),
                "{asked}: {gap}"
            );
        }
    }
}

#[test]
fn over_sockjs_something_comes_every_25_seconds_however_rare_the_heart_beats_are() {
    for (asked, pings) in [("0,0", 4), ("0,100000", 3), ("0,20000", 0)] {
        let mut client = Client::through(TransportName::XhrStreaming, &[], JOURNALED);
        client.say(&format!(
            "CONNECT\naccept-version:1.2\nheart-beat:{asked}\n\n\0"
        ));
        client.take();
        let mut heard = 0;
        for _ in 0..1_050 {
            client.pass(TENTH);
            // What the client takes is its sign of life.
            if client.pings + client.beats > heard {
                heard = client.pings + client.beats;
                client.session.heard(client.now);
            }
            assert_eq!(client.closed, None, "{asked}");
        }
        assert_eq!(client.pings, pings, "{asked}");
    }
}

#[test]
fn any_octet_is_a_sign_of_life() {
    let signs = ["\n", "\r\n", "S", "SEND\ndestination:/app/rooms/r\n\nhi\0"];
    for sign in signs {
        let mut client = agreed("1.2", "1000,0");
        client.pass(2 * SECOND);
        client.say(sign);
        client.pass(2 * SECOND);
        assert_eq!(client.closed, None, "{sign:?}");
        client.pass(SECOND);
        assert_eq!(
            client.closed,
            Some(CloseReason::HeartBeatTimeout),
            "{sign:?}"
        );
    }
    // One octet of a frame at a time.
    let mut client = agreed("1.2", "1000,0");
    for octet in "SUBSCRIBE\nid:0\ndestination:/topic/rooms/r\n\n\0".chars() {
        client.pass(SECOND);
        client.say(&octet.to_string());
        assert_eq!(client.closed, None);
    }
    assert_eq!(client.joins.len(), 1);
}

#[test]
fn version_1_0_has_no_heart_beats() {
    let mut client = agreed("1.0", "1000,1000");
    for _ in 0..20 {
        client.pass(SECOND);
    }
    assert_eq!((client.beats, client.closed), (0, None));
}
