//! The past on SUBSCRIBE, names of rooms, and keys that are repeated.

use crate::running::{Running, backend};
use crate::wire::{VERSIONS, Wire, is_like};

/// Sends each of these and waits for its RECEIPT: their ids, and when they were created.
async fn stored(wire: &mut Wire, room: &str, bodies: &[&str]) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for body in bodies {
        wire.send(&format!(
            "SEND\ndestination:/app/rooms/{room}\nreceipt:s\n\n{body}\0"
        ))
        .await;
        let receipt = wire.next().await;
        let golden = "RECEIPT\nreceipt-id:s\nmessage-id:*\ncreated-at:*\n\n\0";
        assert!(is_like(&receipt, golden), "{receipt:?}");
        let header = |name: &str| {
            let mut lines = receipt.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.unwrap().to_owned()
        };
        all.push((header("message-id"), header("created-at")));
    }
    all
}

/// SUBSCRIBE with this header: these messages must come first, then this RECEIPT.
async fn shows(
    gateway: &Running,
    room: &str,
    header: &str,
    messages: &[(&(String, String), &str)],
    recovered: &str,
) -> Wire {
    let mut wire = Wire::connected(gateway, "1.2").await;
    wire.send(&format!(
        "SUBSCRIBE\nid:p\ndestination:/topic/rooms/{room}\n{header}\nreceipt:p\n\n\0"
    ))
    .await;
    for ((id, created_at), body) in messages {
        wire.expect(&format!(
            "MESSAGE\nsubscription:p\nmessage-id:{id}\ndestination:/topic/rooms/{room}\n\
             sender:kim\ncreated-at:{created_at}\nreplayed:true\ncontent-length:1\n\n{body}\0"
        ))
        .await;
    }
    wire.expect(&format!("RECEIPT\nreceipt-id:p\n{recovered}\n\0"))
        .await;
    wire
}

#[tokio::test]
async fn the_past_comes_first_marked_as_such_then_the_receipt_then_what_is_new() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&["--max-history", "3"]).await;
    let mut kim = Wire::connected(&gateway, "1.2").await;
    let sent = stored(&mut kim, "r", &["1", "2", "3", "4"]).await;
    let past: Vec<_> = sent.iter().zip(["1", "2", "3", "4"]).collect();
    let whole = "recovered:true\n";
    for (header, shown, recovered) in [
        ("history:2", &past[2..], whole),
        // No more than the flag allows.
        ("history:200", &past[1..], whole),
        ("history:0", &[], ""),
        ("no:past", &[], ""),
        (&format!("after:{}", sent[1].0), &past[2..], whole),
        // What came after it is never bounded by the number of a page.
        (&format!("after:{}", sent[0].0), &past[1..], whole),
        (&format!("after:{}", sent[3].0), &[], whole),
    ] {
        shows(&gateway, "r", header, shown, recovered).await;
    }
    shows(&gateway, "empty", "history:5", &[], whole).await;

    let mut wire = shows(&gateway, "r", "history:1", &past[3..], whole).await;
    kim.send("SEND\ndestination:/app/rooms/r\n\n5\0").await;
    wire.expect(&format!(
        "MESSAGE\nsubscription:p\nmessage-id:*\ndestination:/topic/rooms/r\nsender:kim\n\
         created-at:*\nprev:{}\ncontent-length:1\n\n5\0",
        sent[3].0
    ))
    .await;
    storing.abort();
}

#[tokio::test]
async fn an_id_is_a_uuid_of_version_7_and_a_time_is_utc_in_milliseconds() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&[]).await;
    for version in VERSIONS {
        let mut wire = Wire::connected(&gateway, version).await;
        let (id, created_at) = stored(&mut wire, "r", &["1"]).await.remove(0);
        let uuid = uuid::Uuid::parse_str(&id).unwrap();
        assert_eq!(uuid.get_version_num(), 7, "{id}");
        assert_eq!(uuid.hyphenated().to_string(), id);
        // STOMP 1.0 has no escapes.
        let colon = if version == "1.0" { ":" } else { r"\c" };
        let pattern = format!("0000-00-00T00{colon}00{colon}00.000Z");
        let shape: String = created_at
            .chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        assert_eq!(shape, pattern);
    }
    storing.abort();
}

#[tokio::test]
async fn what_of_the_past_makes_no_sense_is_an_error() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for (header, detail) in [
        (
            "after:01a20406-bfce-7000-8000-000000000005\nhistory:1",
            "`after` and `history` exclude each other",
        ),
        ("after:", "after: *"),
        ("after:x", "after: *"),
        ("after:1", "after: *"),
        ("history:", "`history` is a number of messages"),
        ("history:-1", "`history` is a number of messages"),
        ("history:all", "`history` is a number of messages"),
        (
            "history:99999999999999999999999",
            "`history` is a number of messages",
        ),
    ] {
        let mut wire = Wire::connected(&gateway, "1.2").await;
        wire.send(&format!(
            "SUBSCRIBE\nid:s\ndestination:/topic/rooms/r\n{header}\n\n\0"
        ))
        .await;
        wire.expect_error("bad-header", &format!("SUBSCRIBE: {detail}"), 1002)
            .await;
    }
}

#[tokio::test]
async fn a_rooms_name_is_1_to_128_characters_of_its_alphabet() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&[]).await;
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~:@-";
    // The longest, and in 1.0, where a colon is no escape.
    let longest = alphabet.repeat(2)[..128].to_owned();
    let mut wire = Wire::connected(&gateway, "1.0").await;
    for name in ["a", "..", alphabet, &longest] {
        wire.send(&format!(
            "SUBSCRIBE\nid:{name}\ndestination:/topic/rooms/{name}\nreceipt:1\n\n\0"
        ))
        .await;
        wire.expect("RECEIPT\nreceipt-id:1\n\n\0").await;
        stored(&mut Wire::connected(&gateway, "1.0").await, name, &["x"]).await;
        wire.expect(&format!(
            "MESSAGE\nsubscription:{name}\nmessage-id:*\ndestination:/topic/rooms/{name}\n\
             sender:kim\ncreated-at:*\ncontent-length:1\n\nx\0"
        ))
        .await;
    }
    let long = "a".repeat(129);
    let detail = "a room name is 1 to 128 characters of A-Z a-z 0-9 . _ ~ : @ -";
    for name in [
        "", &long, "a b", " a", "a/b", "a/", "가", "a%20", "a+b", "a\tb", "a,b",
    ] {
        for (command, path) in [("SUBSCRIBE\nid:s", "/topic"), ("SEND", "/app")] {
            let mut wire = Wire::connected(&gateway, "1.0").await;
            wire.send(&format!("{command}\ndestination:{path}/rooms/{name}\n\n\0"))
                .await;
            let detail = format!("{}: {detail}", command.lines().next().unwrap());
            wire.expect_error("bad-destination", &detail, 1008).await;
        }
    }
    storing.abort();
}

#[tokio::test]
async fn a_key_that_is_repeated_has_the_first_ones_receipt_and_no_second_message() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&[]).await;
    let mut wire = Wire::connected(&gateway, "1.2").await;
    let send = |room: &str, key: &str, body: &str| {
        format!("SEND\ndestination:/app/rooms/{room}\nidempotency-key:{key}\nreceipt:1\n\n{body}\0")
    };
    wire.send(&send("r", "k", "first")).await;
    let first = wire.next().await;
    let golden = "RECEIPT\nreceipt-id:1\nmessage-id:*\ncreated-at:*\n\n\0";
    assert!(is_like(&first, golden), "{first:?}");
    wire.send(&send("r", "k", "again")).await;
    assert_eq!(wire.next().await, first);
    let mut back = Wire::connected(&gateway, "1.2").await;
    back.send(&send("r", "k", "and again")).await;
    assert_eq!(back.next().await, first);
    // Another key, room or sender is another message.
    let mut lee = Wire::connected_as(&gateway, "1.2", "lee").await;
    wire.send(&send("r", "other", "2")).await;
    assert_ne!(wire.next().await, first);
    wire.send(&send("other", "k", "3")).await;
    assert_ne!(wire.next().await, first);
    lee.send(&send("r", "k", "4")).await;
    assert_ne!(lee.next().await, first);
    wire.send("SUBSCRIBE\nid:p\ndestination:/topic/rooms/r\nhistory:9\nreceipt:p\n\n\0")
        .await;
    for (sender, body) in [("kim", "first"), ("kim", "2"), ("lee", "4")] {
        let length = body.len();
        wire.expect(&format!(
            "MESSAGE\nsubscription:p\nmessage-id:*\ndestination:/topic/rooms/r\nsender:{sender}\n\
             created-at:*\nreplayed:true\ncontent-length:{length}\n\n{body}\0"
        ))
        .await;
    }
    wire.expect("RECEIPT\nreceipt-id:p\nrecovered:true\n\n\0")
        .await;
    storing.abort();
}
