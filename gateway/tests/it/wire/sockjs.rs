//! SockJS, protocol 0.3.3.

mod endings;
mod http;
mod origins;
mod pages;
mod websockets;

use tokio_tungstenite::tungstenite::Message;

use self::http::{Client, TRANSPORTS, request};
use crate::running::backend;
use crate::wire::Wire;

#[tokio::test]
async fn every_transport_carries_the_same_session() {
    let backend = backend(&["--recent-max", "10"]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&[]).await;
    for transport in TRANSPORTS {
        let mut kim = Client::open(&gateway, transport).await;
        let connect = "CONNECT\naccept-version:1.1,1.2\nlogin:kim\nheart-beat:0,0\n\n\0";
        kim.send(&[connect]).await;
        kim.expect(
            "CONNECTED\nversion:1.2\nheart-beat:10000,10000\nsession:*\nserver:roomcast/*\nuser-name:kim\n\n\0",
        )
        .await;
        let room = format!("/topic/rooms/{transport}");
        kim.send(&[&format!(
            "SUBSCRIBE\nid:0\ndestination:{room}\nreceipt:s\n\n\0"
        )])
        .await;
        kim.expect("RECEIPT\nreceipt-id:s\n\n\0").await;
        // One frame in two messages, and two frames in one.
        let text = "</script> \u{2028}";
        let send = format!("SEND\ndestination:/app/rooms/{transport}\n\n{text}");
        kim.send(&[&send, "\0SEND\ndestination:/app/"]).await;
        kim.send(&[&format!("rooms/{transport}\n\nünd\0\n")]).await;
        let message = format!(
            "MESSAGE\nsubscription:0\nmessage-id:*\ndestination:{room}\nsender:kim\ncreated-at:*\n"
        );
        kim.expect(&format!("{message}content-length:13\n\n{text}\0"))
            .await;
        kim.expect(&format!("{message}prev:*\ncontent-length:4\n\nünd\0"))
            .await;
        kim.send(&["DISCONNECT\nreceipt:bye\n\n\0"]).await;
        kim.expect("RECEIPT\nreceipt-id:bye\n\n\0").await;
        kim.expect_last("c[1000,\"The client disconnected.\"]")
            .await;
    }
    for label in ["xhr", "xhr-streaming", "eventsource", "htmlfile", "jsonp"] {
        let served = &gateway.metrics.gateway.connections_total;
        assert_eq!(served.with_label_values(&[label]).get(), 1, "{label}");
    }
    assert_eq!(gateway.metrics.gateway.connections.get(), 0);
    storing.abort();
}

#[tokio::test]
async fn a_body_that_is_no_text_comes_as_base64_and_says_so() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&[]).await;
    for transport in TRANSPORTS {
        let mut kim = Client::connected(&gateway, transport).await;
        kim.send(&[&format!(
            "SUBSCRIBE\nid:0\ndestination:/topic/rooms/{transport}\nreceipt:s\n\n\0"
        )])
        .await;
        kim.expect("RECEIPT\nreceipt-id:s\n\n\0").await;
        let mut lee = Wire::connected_as(&gateway, "1.2", "lee").await;
        let mut prev = "";
        for (kind, body, encoding, shown) in [
            (
                "image/png",
                &b"\xff\x00\xfe"[..],
                "body-encoding:base64\n",
                "/wD+",
            ),
            // What is text needs no encoding, whatever it is called.
            ("application/octet-stream", b"a\0b", "", "a\0b"),
        ] {
            let head = format!("SEND\ndestination:/app/rooms/{transport}\ncontent-type:{kind}");
            let head = format!("{head}\ncontent-length:{}\n\n", body.len());
            let octets = [head.as_bytes(), body, b"\0"].concat();
            lee.send_message(Message::binary(octets)).await;
            let length = shown.len();
            kim.expect(&format!(
                "MESSAGE\nsubscription:0\nmessage-id:*\ndestination:/topic/rooms/{transport}\n\
                 sender:lee\ncreated-at:*\ncontent-type:{kind}\n{prev}{encoding}\
                 content-length:{length}\n\n{shown}\0"
            ))
            .await;
            prev = "prev:*\n";
        }
    }
    storing.abort();
}

#[tokio::test]
async fn a_stream_ends_at_its_limit_and_the_next_one_goes_on() {
    let backend = backend(&["--recent-max", "10"]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&[]).await;
    for transport in ["xhr_streaming", "eventsource", "htmlfile"] {
        let mut kim = Client::connected(&gateway, transport).await;
        let room = format!("rooms/{transport}");
        kim.send(&[&format!(
            "SUBSCRIBE\nid:0\ndestination:/topic/{room}\nreceipt:s\n\n\0"
        )])
        .await;
        kim.expect("RECEIPT\nreceipt-id:s\n\n\0").await;
        let body = "x".repeat(50 << 10);
        for number in 0..7 {
            kim.send(&[&format!(
                "SEND\ndestination:/app/{room}\n\n{number}{body}\0"
            )])
            .await;
            let message = kim.message().await;
            assert!(message.ends_with(&format!("\n\n{number}{body}\0")));
        }
        // Each ends with the third message, which goes beyond 128 KiB.
        assert_eq!(kim.streams, 3, "{transport}");
    }
    storing.abort();
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_told_so_and_the_session_goes_on() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for transport in ["xhr", "jsonp"] {
        let mut kim = Client::open(&gateway, transport).await;
        for (body, told) in [
            ("", "Payload expected.\n"),
            ("[\"x", "Broken JSON encoding.\n"),
            ("{}", "Broken JSON encoding.\n"),
            ("[1]", "Broken JSON encoding.\n"),
            ("\"x\"", "Broken JSON encoding.\n"),
        ] {
            let mut reply = kim.post(body.as_bytes()).await;
            assert_eq!((reply.status, &*reply.text().await), (500, told), "{body}");
        }
        kim.send(&[]).await;
        kim.send(&["CONNECT\naccept-version:1.2\nlogin:kim\n\n\0"])
            .await;
        kim.expect("CONNECTED\n*\n*\n*\n*\n*\n\n\0").await;
    }
    for line in [
        "POST /sockjs/0/unknown/xhr_send",
        "POST /sockjs/0/unknown/jsonp_send",
    ] {
        assert_eq!(
            request(&gateway.address, line, &[], b"[\"x\"]")
                .await
                .status,
            404
        );
    }
}

#[tokio::test]
async fn a_session_is_known_by_its_own_id_whatever_the_server_part_is() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let mut kim = Client::open(&gateway, "xhr").await;
    kim.path = kim.path.replace("/000/", "/999/");
    kim.send(&["CONNECT\naccept-version:1.2\nlogin:kim\n\n\0"])
        .await;
    kim.expect("CONNECTED\n*\n*\n*\n*\n*\n\n\0").await;
}

#[tokio::test]
async fn a_session_counts_as_a_connection() {
    let gateway = backend(&[])
        .await
        .gateway(&["--max-connections", "2"])
        .await;
    let kim = Client::open(&gateway, "xhr_streaming").await;
    // The session and its stream are two.
    let path = "POST /sockjs/000/another/xhr";
    let mut reply = request(&gateway.address, path, &[], b"").await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.header("Retry-After"), Some("5"));
    assert!(reply.text().await.contains("\"overloaded\""));
    drop(kim);
    harness::until("there to be room again", async || {
        request(&gateway.address, path, &[], b"").await.status == 200
    })
    .await;
}
