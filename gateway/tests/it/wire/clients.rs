//! Clients that the tests cannot run, as they speak: Spring's own, and those of phones.

use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::running::backend;
use crate::wire::Wire;

#[tokio::test]
async fn springs_client_is_served() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&[]).await;
    for (heart_beat, ours) in [
        ("10000,10000", "10000,10000"),
        // Without a scheduler.
        ("0,0", "10000,10000"),
    ] {
        let (selected, mut wire) =
            Wire::offering(&gateway, &["v10.stomp", "v11.stomp", "v12.stomp"]).await;
        assert_eq!(selected.as_deref(), Some("v12.stomp"));
        wire.send(&format!(
            "CONNECT\naccept-version:1.1,1.2\nheart-beat:{heart_beat}\n\n\0"
        ))
        .await;
        wire.expect(&format!(
            "CONNECTED\nversion:1.2\nheart-beat:{ours}\nsession:*\nserver:roomcast/*\n\
             user-name:anonymous\n\n\0"
        ))
        .await;
        let room = heart_beat.replace(',', "-");
        wire.send(&format!(
            "SUBSCRIBE\nid:0\ndestination:/topic/rooms/{room}\nreceipt:1\n\n\0"
        ))
        .await;
        wire.expect("RECEIPT\nreceipt-id:1\n\n\0").await;
        // It writes into binary messages what its converter made octets of.
        let send = format!(
            "SEND\ndestination:/app/rooms/{room}\ncontent-type:application/json\n\
             content-length:7\n\n{{\"a\":1}}\0"
        );
        wire.send_message(Message::binary(send.into_bytes())).await;
        wire.expect(&format!(
            "MESSAGE\nsubscription:0\nmessage-id:*\ndestination:/topic/rooms/{room}\n\
             sender:anonymous\ncreated-at:*\ncontent-type:application/json\ncontent-length:7\n\n\
             {{\"a\":1}}\0"
        ))
        .await;
        wire.send("\n").await;
        wire.send("DISCONNECT\nreceipt:2\n\n\0").await;
        wire.expect("RECEIPT\nreceipt-id:2\n\n\0").await;
        wire.expect_close(1000).await;
    }
    storing.abort();
}

#[tokio::test]
async fn the_ios_client_subscribes_under_its_destination_and_acknowledges() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&["--max-unacknowledged", "1"]).await;
    for mode in ["auto", "client", "client-individual"] {
        let mut wire = Wire::open(&gateway).await;
        wire.send("CONNECT\naccept-version:1.1,1.2\n\n\0").await;
        wire.expect(
            "CONNECTED\nversion:1.2\nheart-beat:10000,10000\nsession:*\nserver:roomcast/*\n\
             user-name:anonymous\n\n\0",
        )
        .await;
        let topic = format!("/topic/rooms/ios.{mode}");
        wire.send(&format!(
            "SUBSCRIBE\ndestination:{topic}\nack:{mode}\nid:{topic}\n\n\0"
        ))
        .await;
        wire.send("\n").await;
        let send =
            format!("SEND\ncontent-type:text/plain\ndestination:{topic}\ncontent-length:2\n\nhi\0");
        let mut prev = "";
        // It names a message by what the application gives it: `ack`, or `message-id`, with the
        // subscription or without.
        for named in ["ack", "message-id", "both"] {
            wire.send(&send).await;
            let message = wire.next().await;
            let id = message.split("\nmessage-id:").nth(1).unwrap();
            let id = id.lines().next().unwrap();
            let ack = match mode {
                "auto" => String::new(),
                _ => format!("ack:{id}/{topic}\n"),
            };
            let golden = format!(
                "MESSAGE\nsubscription:{topic}\nmessage-id:*\ndestination:{topic}\n\
                 sender:anonymous\ncreated-at:*\ncontent-type:text/plain\n{prev}{ack}\
                 content-length:2\n\nhi\0"
            );
            assert!(crate::wire::is_like(&message, &golden), "{message:?}");
            prev = "prev:*\n";
            wire.send(&match named {
                "ack" => format!("ACK\nid:{id}/{topic}\n\n\0"),
                "message-id" => format!("ACK\nid:{id}\n\n\0"),
                _ => format!("ACK\nid:{id}\nsubscription:{topic}\n\n\0"),
            })
            .await;
        }
        wire.send(&format!("UNSUBSCRIBE\nid:{topic}\n\n\0")).await;
        wire.send("DISCONNECT\nDISCONNECT:1700000000\n\n\0").await;
        wire.expect_close(1000).await;
    }
    storing.abort();
}

#[tokio::test]
async fn the_android_client_pings_with_cr_lf_and_closes_without_disconnect() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&[]).await;
    let mut wire = Wire::open(&gateway).await;
    wire.send("CONNECT\naccept-version:1.1,1.2\nheart-beat:0,0\n\n\0")
        .await;
    wire.expect(
        "CONNECTED\nversion:1.2\nheart-beat:10000,10000\nsession:*\nserver:roomcast/*\n\
         user-name:anonymous\n\n\0",
    )
    .await;
    let id = "2351c4c8-f1df-4ef3-8a73-787d878200e7";
    wire.send(&format!(
        "SUBSCRIBE\nid:{id}\ndestination:/topic/rooms/r\nack:auto\n\n\0"
    ))
    .await;
    wire.send("\r\n").await;
    wire.send("SEND\ndestination:/app/rooms/r\n\nhi\n\n\0")
        .await;
    wire.expect(&format!(
        "MESSAGE\nsubscription:{id}\nmessage-id:*\ndestination:/topic/rooms/r\nsender:anonymous\n\
         created-at:*\ncontent-length:4\n\nhi\n\n\0"
    ))
    .await;
    // What it has just sent is published although it leaves.
    wire.send("SEND\ndestination:/app/rooms/r\n\nbye\0").await;
    let close = CloseFrame {
        code: 1000.into(),
        reason: "".into(),
    };
    wire.send_message(Message::Close(Some(close))).await;
    let answer = loop {
        match wire.next_message().await {
            Message::Text(_) => {}
            other => break other,
        }
    };
    assert!(
        matches!(&answer, Message::Close(Some(frame)) if u16::from(frame.code) == 1000),
        "{answer:?}"
    );
    let gone = &gateway.metrics.gateway.disconnects;
    let gone = gone.with_label_values(&["client-closed"]);
    harness::until("the metric", async || gone.get() == 1).await;
    let mut wire = Wire::connected(&gateway, "1.2").await;
    harness::until("what was sent", async || {
        backend.broker.backlog().await.unwrap() == 0
    })
    .await;
    wire.send("SUBSCRIBE\nid:h\ndestination:/topic/rooms/r\nhistory:9\nreceipt:h\n\n\0")
        .await;
    for body in ["hi\n\n", "bye"] {
        let length = body.len();
        wire.expect(&format!(
            "MESSAGE\nsubscription:h\nmessage-id:*\ndestination:/topic/rooms/r\nsender:anonymous\n\
             created-at:*\nreplayed:true\ncontent-length:{length}\n\n{body}\0"
        ))
        .await;
    }
    wire.expect("RECEIPT\nreceipt-id:h\nrecovered:true\n\n\0")
        .await;
    storing.abort();
}
