//! MESSAGE, and what SEND says of it.

use harness::Redis;

use crate::running::{Running, backend, redis_backend};
use crate::wire::Wire;

async fn subscribed(gateway: &Running) -> Wire {
    let mut wire = Wire::connected(gateway, "1.2").await;
    wire.send("SUBSCRIBE\nid:s\ndestination:/topic/rooms/r\nreceipt:1\n\n\0")
        .await;
    wire.expect("RECEIPT\nreceipt-id:1\n\n\0").await;
    wire
}

#[tokio::test]
async fn application_headers_are_forwarded_and_those_that_are_ours_or_secret_never() {
    let backend = backend(&[]).await;
    let _storing = backend.storing().await;
    let mut wire = subscribed(&backend.gateway(&[]).await).await;
    wire.send("BEGIN\ntransaction:no\n\n\0").await;
    wire.send(
        "SEND\ndestination:/app/rooms/r\ncontent-type:text/plain\ncolour:blue\n\
         transaction:no\nreceipt:no\nReceipt:no\nsubscription:no\nSUBSCRIPTION:no\nmessage-id:no\nMessage-Id:no\n\
         sender:no\nSender:no\nlogin:no\nLogin:no\npasscode:no\nPassCode:no\n\
         authorization:no\nAuthorization:no\nX-Authorization:no\nX-Auth-Token:no\n\
         X-CSRF-TOKEN:no\nx-xsrf-token:no\nTransaction:no\nack:no\nAck:no\n\
         created-at:no\nprev:no\nreplayed:no\nephemeral:false\nEphemeral:no\npersist:false\n\
         idempotency-key:no\nreceipt-after:accepted\nrecovered:no\nContent-Type:no\n\
         content-length:2\nContent-Length:9\nDestination:no\nbody-encoding:no\n\
         colour:red\nempty:\nColour:Blue\n\nhi\0",
    )
    .await;
    wire.send("COMMIT\ntransaction:no\n\n\0").await;
    // The RECEIPT may come before the MESSAGE or after it.
    let mut frames = [wire.next().await, wire.next().await];
    frames.sort();
    let golden = "MESSAGE\nsubscription:s\nmessage-id:*\ndestination:/topic/rooms/r\nsender:kim\n\
                  created-at:*\ncontent-type:text/plain\ncolour:blue\nempty:\nColour:Blue\n\
                  content-length:2\n\nhi\0";
    assert!(crate::wire::is_like(&frames[0], golden), "{:?}", frames[0]);
    let golden = "RECEIPT\nreceipt-id:no\nmessage-id:*\ncreated-at:*\n\n\0";
    assert!(crate::wire::is_like(&frames[1], golden), "{:?}", frames[1]);
}

#[tokio::test]
async fn content_length_is_always_there_and_counts_octets() {
    let backend = backend(&[]).await;
    let _storing = backend.storing().await;
    let mut wire = subscribed(&backend.gateway(&[]).await).await;
    for (body, length) in [("", 0), ("안녕", 6), ("👋", 4)] {
        wire.send(&format!(
            "SEND\ndestination:/app/rooms/r\nephemeral:true\n\n{body}\0"
        ))
        .await;
        wire.expect(&format!(
            "MESSAGE\nsubscription:s\nmessage-id:*\ndestination:/topic/rooms/r\nsender:kim\n\
             created-at:*\nephemeral:true\ncontent-length:{length}\n\n{body}\0"
        ))
        .await;
    }
}

#[tokio::test]
async fn two_subscriptions_to_one_room_are_two_messages() {
    let backend = backend(&[]).await;
    let _storing = backend.storing().await;
    let mut wire = subscribed(&backend.gateway(&[]).await).await;
    wire.send("SUBSCRIBE\nid:t\ndestination:/topic/rooms/r\nreceipt:2\n\n\0")
        .await;
    wire.expect("RECEIPT\nreceipt-id:2\n\n\0").await;
    wire.send("SEND\ndestination:/app/rooms/r\n\nhi\0").await;
    let mut frames = [wire.next().await, wire.next().await];
    frames.sort();
    for (frame, id) in frames.iter().zip(["s", "t"]) {
        let golden = format!(
            "MESSAGE\nsubscription:{id}\nmessage-id:*\ndestination:/topic/rooms/r\nsender:kim\n\
             created-at:*\ncontent-length:2\n\nhi\0"
        );
        assert!(crate::wire::is_like(frame, &golden), "{frame:?}");
    }
}

#[tokio::test]
async fn the_frames_of_one_session_are_handled_in_order() {
    let backend = backend(&[]).await;
    let _storing = backend.storing().await;
    let gateway = backend.gateway(&[]).await;
    let mut wire = Wire::connected(&gateway, "1.2").await;
    let send = |body, header| format!("SEND\ndestination:/app/rooms/r\n{header}\n{body}\0\n");
    let frames = [
        send("before", ""),
        "SUBSCRIBE\nid:s\ndestination:/topic/rooms/r\nhistory:0\nreceipt:on\n\n\0".into(),
        send("1", "ephemeral:true\n"),
        send("2", "ephemeral:true\n"),
        send("3", "ephemeral:true\n"),
        "UNSUBSCRIBE\nid:s\nreceipt:off\n\n\0".into(),
    ];
    wire.send(&frames.concat()).await;
    let mut seen = Vec::new();
    while !seen.iter().any(|frame: &String| frame.contains(":off\n")) {
        seen.push(wire.next().await);
    }
    // What was sent before the SUBSCRIBE may be shown, what was sent after it may be unsubscribed
    // from in time; the order stays.
    let on = "RECEIPT\nreceipt-id:on\n\n\0";
    let at = seen.iter().position(|frame| frame == on).unwrap();
    let bodies: Vec<_> = seen[at + 1..seen.len() - 1]
        .iter()
        .filter(|frame| frame.contains("\nephemeral:true\n"))
        .map(|frame| frame.rsplit_once("\n\n").unwrap().1)
        .collect();
    assert!(["1\0", "2\0", "3\0"].starts_with(&bodies), "{seen:?}");
    assert_eq!(seen.last().unwrap(), "RECEIPT\nreceipt-id:off\n\n\0");
}

#[tokio::test]
async fn a_message_names_the_one_before_it_but_never_an_ephemeral_one() {
    let backend = backend(&[]).await;
    let _storing = backend.storing().await;
    let mut wire = subscribed(&backend.gateway(&[]).await).await;
    let mut prev = String::new();
    for round in 0..2 {
        wire.send("SEND\ndestination:/app/rooms/r\n\nhi\0").await;
        let message = wire.next().await;
        let golden = format!(
            "MESSAGE\nsubscription:s\nmessage-id:*\ndestination:/topic/rooms/r\nsender:kim\n\
             created-at:*\n{prev}content-length:2\n\nhi\0"
        );
        assert!(crate::wire::is_like(&message, &golden), "{message:?}");
        let id = message.split("\nmessage-id:").nth(1).unwrap();
        prev = format!("prev:{}\n", id.lines().next().unwrap());
        wire.send(&format!(
            "SEND\ndestination:/app/rooms/r\nephemeral:true\n\n{round}\0"
        ))
        .await;
        wire.expect(&format!(
            "MESSAGE\nsubscription:s\nmessage-id:*\ndestination:/topic/rooms/r\nsender:kim\n\
             created-at:*\nephemeral:true\ncontent-length:1\n\n{round}\0"
        ))
        .await;
    }
}

#[tokio::test]
async fn an_ephemeral_receipt_waits_for_no_store_and_the_message_is_shown_without_one() {
    // Nobody stores, and the broker is one whose messages are shown when they are stored.
    let backend = backend(&[]).await;
    let gateway = backend.gateway(&["--receipt-after", "stored"]).await;
    let mut reader = subscribed(&gateway).await;
    let mut wire = Wire::connected(&gateway, "1.2").await;
    for destination in ["/app/rooms/r\nephemeral:true", "/user/kim/queue/x"] {
        wire.send(&format!(
            "SEND\ndestination:{destination}\nreceipt:1\n\nhi\0"
        ))
        .await;
        wire.expect("RECEIPT\nreceipt-id:1\nmessage-id:*\ncreated-at:*\n\n\0")
            .await;
    }
    reader
        .expect(
            "MESSAGE\nsubscription:s\nmessage-id:*\ndestination:/topic/rooms/r\nsender:kim\n\
             created-at:*\nephemeral:true\ncontent-length:2\n\nhi\0",
        )
        .await;
    assert_eq!(backend.broker.backlog().await.unwrap(), 0);
}

#[tokio::test]
async fn nobody_resumes_after_what_has_no_place_in_the_order() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let mut wire = Wire::connected(&gateway, "1.2").await;
    wire.send("SEND\ndestination:/app/rooms/r\nephemeral:true\nreceipt:1\n\nhi\0")
        .await;
    let receipt = wire.next().await;
    let id = receipt.split("\nmessage-id:").nth(1).unwrap();
    let id = id.lines().next().unwrap();
    wire.send(&format!(
        "SUBSCRIBE\nid:s\ndestination:/topic/rooms/r\nafter:{id}\nreceipt:q\n\n\0"
    ))
    .await;
    wire.expect(
        "ERROR\nmessage:A header is missing or has a value that makes no sense.\n\
         code:bad-header\ncontent-type:text/plain\nreceipt-id:q\ncontent-length:99\n\n\
         SUBSCRIBE: after: it is the id of an ephemeral message, which has no place in the order of \
         the room\0",
    )
    .await;
    wire.expect_close(1002).await;
}

#[tokio::test]
async fn headers_that_contradict_each_other_or_are_neither_true_nor_false_are_refused() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let stored = "`receipt-after:stored` is for what is stored: not for `ephemeral:true`, and for \
                  a user's queue only with `persist:true`";
    let both = "`ephemeral` and `persist` exclude each other";
    for (headers, detail) in [
        (
            "/app/rooms/r\nephemeral:yes",
            "`ephemeral` is true or false",
        ),
        ("/app/rooms/r\nephemeral:", "`ephemeral` is true or false"),
        ("/app/rooms/r\npersist:TRUE", "`persist` is true or false"),
        ("/app/rooms/r\nephemeral:true\npersist:true", both),
        ("/user/lee/queue/x\nephemeral:true\npersist:true", both),
        ("/app/rooms/r\nephemeral:true\nreceipt-after:stored", stored),
        ("/user/lee/queue/x\nreceipt-after:stored", stored),
    ] {
        let mut wire = Wire::connected(&gateway, "1.2").await;
        wire.send(&format!("SEND\ndestination:{headers}\nreceipt:q\n\nhi\0"))
            .await;
        let length = "SEND: ".len() + detail.len();
        wire.expect(&format!(
            "ERROR\nmessage:A header is missing or has a value that makes no sense.\n\
             code:bad-header\ncontent-type:text/plain\nreceipt-id:q\ncontent-length:{length}\n\n\
             SEND: {detail}\0"
        ))
        .await;
        wire.expect_close(1002).await;
    }
}

#[tokio::test]
async fn a_broker_that_does_not_answer_is_called_what_front_ends_know_it_by() {
    let redis = Redis::start().await;
    let backend = redis_backend(&redis, &["--publish-timeout", "300ms"]).await;
    let gateway = backend.gateway(&[]).await;
    let mut wires = [
        Wire::connected(&gateway, "1.2").await,
        Wire::connected(&gateway, "1.2").await,
        Wire::connected(&gateway, "1.2").await,
    ];
    redis.pause();
    let frames = [
        "SEND\ndestination:/app/rooms/r\nreceipt:q\n\nhi\0",
        "SEND\ndestination:/app/rooms/r\nephemeral:true\nreceipt:q\n\nhi\0",
        "SEND\ndestination:/app/rooms/r\n\nhi\0",
    ];
    for (wire, frame) in wires.iter_mut().zip(frames) {
        wire.send(frame).await;
        let receipt = if frame.contains("receipt") {
            "receipt-id:q\n"
        } else {
            ""
        };
        wire.expect(&format!(
            "ERROR\nmessage:Broker not available.\ncode:broker-unavailable\n\
             content-type:text/plain\n{receipt}content-length:21\n\nBroker not available.\0"
        ))
        .await;
        wire.expect_close(1013).await;
    }
}

#[tokio::test]
async fn what_is_ephemeral_and_asks_for_no_receipt_may_be_lost_without_ending_the_session() {
    let redis = Redis::start().await;
    let backend = redis_backend(&redis, &["--publish-timeout", "300ms"]).await;
    let gateway = backend.gateway(&[]).await;
    let mut wire = Wire::connected(&gateway, "1.2").await;
    redis.pause();
    wire.send("SEND\ndestination:/app/rooms/r\nephemeral:true\n\nhi\0")
        .await;
    let failures = &gateway.metrics.gateway.publish_failures;
    harness::until("the loss to be counted", async || {
        failures.with_label_values(&["unavailable"]).get() == 1
    })
    .await;
    redis.resume();
    // What follows is not dropped with it.
    wire.send("DISCONNECT\nreceipt:bye\n\n\0").await;
    wire.expect("RECEIPT\nreceipt-id:bye\n\n\0").await;
    wire.expect_close(1000).await;
}
