//! Frames: line ends, lengths, escapes, repeated headers.

use tokio_tungstenite::tungstenite::Message;

use crate::running::{Running, backend};
use crate::wire::{VERSIONS, Wire};

/// Sends this on a connection of this version, and the answer must be that.
async fn answers(gateway: &Running, version: &str, sent: &str, golden: &str) {
    let mut wire = Wire::connected(gateway, version).await;
    wire.send(sent).await;
    wire.expect(golden).await;
}

/// Sends this on a connection of this version, and it must be a fault of the client's.
async fn fails(gateway: &Running, version: &str, sent: &[u8], detail: &str) {
    let mut wire = Wire::connected(gateway, version).await;
    wire.send_message(Message::binary(sent.to_vec())).await;
    wire.expect_error("malformed-frame", detail, 1002).await;
}

/// A client in a room of its own.
pub(super) async fn member(gateway: &Running, version: &str, room: &str) -> Wire {
    let mut wire = Wire::connected(gateway, version).await;
    let subscribe = format!("SUBSCRIBE\nid:s\ndestination:/topic/rooms/{room}\nreceipt:r\n\n\0");
    wire.send(&subscribe).await;
    wire.expect("RECEIPT\nreceipt-id:r\n\n\0").await;
    wire
}

/// The first MESSAGE of a room, with these lines after the server's own.
pub(super) fn message(room: &str, lines: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "MESSAGE\nsubscription:s\nmessage-id:*\ndestination:/topic/rooms/{room}\nsender:kim\n\
         created-at:*\n{lines}content-length:{length}\n\n{body}\0"
    )
}

#[tokio::test]
async fn a_line_ends_with_lf_and_in_1_2_also_with_cr_lf() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let lf = "SUBSCRIBE\nid:0\ndestination:/topic/rooms/r\nreceipt:1\n\n\0";
    for version in VERSIONS {
        answers(&gateway, version, lf, "RECEIPT\nreceipt-id:1\n\n\0").await;
    }
    let crlf = lf.replace('\n', "\r\n");
    answers(&gateway, "1.2", &crlf, "RECEIPT\nreceipt-id:1\n\n\0").await;
    let mixed = "SUBSCRIBE\r\nid:0\ndestination:/topic/rooms/r\r\nreceipt:1\n\r\n\0";
    answers(&gateway, "1.2", mixed, "RECEIPT\nreceipt-id:1\n\n\0").await;
    for version in ["1.0", "1.1"] {
        // The CR is part of the line there, and no command ends with one.
        fails(&gateway, version, crlf.as_bytes(), "unknown command: *").await;
    }
}

#[tokio::test]
async fn a_bare_carriage_return_is_an_error_in_1_2_and_between_frames() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let bare = "a carriage return without a line feed";
    let inside = b"SUBSCRIBE\nid:0\rdestination:/topic/rooms/r\n\n\0";
    fails(&gateway, "1.2", inside, bare).await;
    fails(&gateway, "1.2", b"SUBSCRIBE\nid:a\r\r\n\n\0", bare).await;
    for version in VERSIONS {
        fails(&gateway, version, b"\rSUBSCRIBE\n\n\0", bare).await;
    }
}

#[tokio::test]
async fn any_number_of_line_ends_may_follow_a_nul() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for version in VERSIONS {
        let subscribe = "SUBSCRIBE\nid:1\ndestination:/topic/rooms/r\nreceipt:1\n\n\0";
        let ends = "\n\n\r\n\n".repeat(20);
        let mut wire = Wire::connected(&gateway, version).await;
        wire.send(&format!(
            "{subscribe}{ends}UNSUBSCRIBE\nid:1\nreceipt:2\n\n\0{ends}"
        ))
        .await;
        wire.expect("RECEIPT\nreceipt-id:1\n\n\0").await;
        wire.expect("RECEIPT\nreceipt-id:2\n\n\0").await;
    }
}

#[tokio::test]
async fn content_length_is_octets_and_the_body_may_have_nuls_in_it() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&[]).await;
    for version in VERSIONS {
        for (case, body) in ["가나다", "a\0b\0\0", "\0", "", "x\n\n"].iter().enumerate() {
            let room = format!("length.{version}.{case}");
            let mut wire = member(&gateway, version, &room).await;
            let length = body.len();
            let send = format!("SEND\ndestination:/app/rooms/{room}\ncontent-length:{length}");
            wire.send(&format!("{send}\n\n{body}\0")).await;
            wire.expect(&message(&room, "", body)).await;
        }
    }
    storing.abort();
}

#[tokio::test]
async fn a_wrong_content_length_is_an_error() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    let no_nul = "no NUL octet where content-length says that the body ends";
    let garbage = "content-length is not a number of octets";
    let body = "only SEND, MESSAGE and ERROR may have a body";
    for version in VERSIONS {
        for (length, detail) in [
            ("2", no_nul),
            ("0", no_nul),
            ("", garbage),
            ("-1", garbage),
            ("+3", garbage),
            (" 3", garbage),
            ("3 ", garbage),
            ("0x3", garbage),
            ("three", garbage),
            ("3\ncontent-length:1", ""),
        ] {
            let send = "SEND\ndestination:/app/rooms/r\ncontent-length";
            let mut wire = Wire::connected(&gateway, version).await;
            // Characters are not what counts: these are two, of three octets.
            wire.send(&format!(
                "{send}:{length}\n\né!\0DISCONNECT\nreceipt:1\n\n\0"
            ))
            .await;
            if detail.is_empty() {
                wire.expect("RECEIPT\nreceipt-id:1\n\n\0").await;
            } else {
                wire.expect_error("malformed-frame", detail, 1002).await;
            }
        }
        // One that is too large takes what follows for its body.
        let swallows = b"SEND\ndestination:/app/rooms/r\ncontent-length:5\n\nabc\0DISCONNECT\n\n\0";
        fails(&gateway, version, swallows, no_nul).await;
        fails(
            &gateway,
            version,
            b"UNSUBSCRIBE\nid:0\ncontent-length:1\n\nx\0",
            body,
        )
        .await;
    }
}

#[tokio::test]
async fn without_content_length_the_body_ends_at_its_nul() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&[]).await;
    for version in VERSIONS {
        // The Android client ends bodies with two line feeds; they are part of them.
        let room = format!("nul.{version}");
        let mut wire = member(&gateway, version, &room).await;
        wire.send(&format!(
            "SEND\ndestination:/app/rooms/{room}\n\n{{\"x\":1}}\n\n\0"
        ))
        .await;
        wire.expect(&message(&room, "", "{\"x\":1}\n\n")).await;
    }
    storing.abort();
}

#[tokio::test]
async fn escapes_are_those_of_the_version() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&[]).await;
    for (version, header) in [
        ("1.0", r"k\c:v\n\r\t\x\"),
        ("1.0", "k:12:30"),
        ("1.1", r"k\c\n\\:v\c\n\\n"),
        ("1.2", r"k\c\n\r\\:v\c\n\r\\r"),
    ] {
        let room = format!("escapes.{version}.{}", header.len());
        let mut wire = member(&gateway, version, &room).await;
        wire.send(&format!(
            "SEND\ndestination:/app/rooms/{room}\n{header}\n\nhi\0"
        ))
        .await;
        // As it came, because both ends speak the same version.
        wire.expect(&message(&room, &format!("{header}\n"), "hi"))
            .await;
    }

    // What they stand for, in ids that are the same or not.
    for (version, same) in [("1.0", false), ("1.1", true), ("1.2", true)] {
        let mut wire = Wire::connected(&gateway, version).await;
        wire.send("SUBSCRIBE\nid:a\\c1\ndestination:/topic/rooms/r\nreceipt:1\n\n\0")
            .await;
        wire.expect("RECEIPT\nreceipt-id:1\n\n\0").await;
        wire.send("UNSUBSCRIBE\nid:a:1\nreceipt:b\\c2\n\n\0").await;
        if same {
            wire.expect("RECEIPT\nreceipt-id:b\\c2\n\n\0").await;
        } else {
            let error = wire.next().await;
            assert!(error.contains("\ncode:unknown-subscription\n"), "{error:?}");
            assert!(error.contains("\nreceipt-id:b\\c2\n"), "{error:?}");
        }
    }

    let bad = "a header has a backslash that starts no escape of this version of STOMP";
    for (version, escapes) in [
        (
            "1.1",
            &[r"\r", r"\t", r"\N", r"\x41", r"a\", r"\\\", "\\é"][..],
        ),
        ("1.2", &[r"\t", r"\N", r"\R", r"\x41", r"a\", r"\\\", "\\é"]),
    ] {
        for escape in escapes {
            for header in [format!("k:{escape}"), format!("{escape}:v")] {
                let sent = format!("SEND\ndestination:/app/rooms/r\n{header}\n\n\0");
                fails(&gateway, version, sent.as_bytes(), bad).await;
            }
        }
    }
    storing.abort();
}

#[tokio::test]
async fn headers_of_one_version_reach_a_client_of_another() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&[]).await;
    for (version, line) in [
        ("1.0", "k :a:b \\ "),
        ("1.1", r"k\c:a\cb\n\\ "),
        ("1.2", r"k\c:a\cb\n\\\r"),
    ] {
        let room = format!("versions.{version}");
        let mut reader = member(&gateway, version, &room).await;
        let mut writer = Wire::connected(&gateway, "1.2").await;
        writer
            .send(&format!(
                "SEND\ndestination:/app/rooms/{room}\nk\\c:a\\cb\\n\\\\\\r\n\nhi\0"
            ))
            .await;
        let line = if version == "1.0" {
            "k :a:b \\ \n".to_owned()
        } else {
            format!("{line}\n")
        };
        reader.expect(&message(&room, &line, "hi")).await;
    }
    storing.abort();
}

#[tokio::test]
async fn the_first_of_repeated_headers_counts_and_nothing_is_trimmed() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&[]).await;
    for version in VERSIONS {
        let room = format!("repeated.{version}");
        let mut wire = member(&gateway, version, &room).await;
        let headers = "k: first \nk:second\n k : 1\nempty:\nK:other\n";
        wire.send(&format!(
            "SEND\ndestination:/app/rooms/{room}\ndestination:/x\n{headers}\nhi\0"
        ))
        .await;
        let lines = "k: first \n k : 1\nempty:\nK:other\n";
        wire.expect(&message(&room, lines, "hi")).await;
        // Ids with spaces are others.
        let spaced = format!("/topic/rooms/spaced.{version}");
        wire.send(&format!("SUBSCRIBE\nid: s \ndestination:{spaced}\n\n\0"))
            .await;
        wire.send(&format!(
            "SEND\ndestination:{spaced}\nephemeral:true\n\nhi\0"
        ))
        .await;
        wire.expect(&format!(
            "MESSAGE\nsubscription: s \nmessage-id:*\ndestination:{spaced}\nsender:kim\n\
             created-at:*\nephemeral:true\ncontent-length:2\n\nhi\0"
        ))
        .await;
        wire.send("UNSUBSCRIBE\nid: s\nreceipt: u \n\n\0").await;
        let error = wire.next().await;
        assert!(error.contains("\ncode:unknown-subscription\n"), "{error:?}");
        assert!(error.contains("\nreceipt-id: u \n"), "{error:?}");
    }
    storing.abort();
}

#[tokio::test]
async fn commands_and_header_names_are_case_sensitive() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for version in VERSIONS {
        for sent in [
            &b"send\ndestination:/app/rooms/r\n\n\0"[..],
            b"Send\n\n\0",
            b" SEND\n\n\0",
            b"SEND \n\n\0",
        ] {
            fails(&gateway, version, sent, "unknown command: *").await;
        }
        let mut wire = Wire::connected(&gateway, version).await;
        wire.send("SEND\nDestination:/app/rooms/r\n\nhi\0").await;
        wire.expect_error(
            "bad-header",
            "SEND: the header `destination` is missing",
            1002,
        )
        .await;
    }
}

#[tokio::test]
async fn what_is_no_frame_is_named() {
    let gateway = backend(&[]).await.gateway(&[]).await;
    for version in VERSIONS {
        for (sent, detail) in [
            (&b"HELLO\n\n\0"[..], "unknown command: *"),
            (b"SEND\nno colon\n\n\0", "a header line has no colon"),
            (b"SEND\n:v\n\n\0", "a header has no name before its colon"),
            (
                b"SEND\na:b\0",
                "a NUL octet before the empty line that ends the headers",
            ),
            (b"SEND\na:\xff\n\n\0", "a header is not UTF-8"),
            (
                b"SUBSCRIBE\nid:0\n\nbody\0",
                "only SEND, MESSAGE and ERROR may have a body",
            ),
            (
                b"DISCONNECT\n\n\n\0",
                "only SEND, MESSAGE and ERROR may have a body",
            ),
            (
                b"RECEIPT\nreceipt-id:1\n\n\0",
                "RECEIPT: only a server sends this frame",
            ),
            (
                b"MESSAGE\n\nhi\0",
                "MESSAGE: only a server sends this frame",
            ),
        ] {
            fails(&gateway, version, sent, detail).await;
        }
    }
}
