//! How WebSocket messages carry frames.

use bytes::Bytes;
use tokio_tungstenite::tungstenite::Message;

use super::frames::{member, message};
use crate::running::backend;
use crate::wire::VERSIONS;
use crate::wire::raw::{BINARY, TEXT};

#[tokio::test]
async fn a_frame_may_span_messages_of_either_kind_and_a_message_may_hold_several() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&[]).await;
    let send = |room: &str| format!("SEND\ndestination:/app/rooms/{room}\nk:v\n\n안녕\0");
    for (case, kind) in ["text", "binary", "octets", "across", "fragments"]
        .iter()
        .enumerate()
    {
        let room = format!("span.{kind}");
        let mut wire = member(&gateway, VERSIONS[case % 3], &room).await;
        let sent = send(&room);
        // In the middle of a character.
        let (one, two) = sent.as_bytes().split_at(sent.find('안').unwrap() + 1);
        match *kind {
            "text" => {
                for part in sent.split_inclusive('\n') {
                    wire.send(part).await;
                }
            }
            "binary" => {
                wire.send_message(Message::binary(one.to_vec())).await;
                wire.send_message(Message::binary(two.to_vec())).await;
            }
            "octets" => {
                for octet in sent.bytes() {
                    wire.send_message(Message::binary(vec![octet])).await;
                }
            }
            "across" => {
                wire.send(&sent[..9]).await;
                wire.send_message(Message::binary(sent.as_bytes()[9..30].to_vec()))
                    .await;
                wire.send("").await;
                wire.send(&sent[30..]).await;
            }
            _ => wire.fragments(TEXT, &[b"", one, b"", two]).await,
        }
        wire.expect(&message(&room, "k:v\n", "안녕")).await;
    }

    let mut wire = member(&gateway, "1.2", "several").await;
    let (sent, again) = (send("several"), send("several").replace("안녕", "bye"));
    wire.fragments(
        BINARY,
        &[b"\n\n", sent.as_bytes(), b"\r\n\n", again.as_bytes(), b"\n"],
    )
    .await;
    wire.expect(&message("several", "k:v\n", "안녕")).await;
    wire.expect(&message("several", "prev:*\nk:v\n", "bye"))
        .await;
    storing.abort();
}

#[tokio::test]
async fn each_frame_out_is_a_message_of_its_own_and_whole() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&[]).await;
    let mut wire = member(&gateway, "1.2", "out").await;
    let body = "x".repeat(20_000);
    let mut all = String::new();
    for number in 0..20 {
        all += &format!("SEND\ndestination:/app/rooms/out\n\n{number} {body}\0");
    }
    for octets in all.as_bytes().chunks(50_000) {
        wire.send_message(Message::binary(octets.to_vec())).await;
    }
    for number in 0..20 {
        let lines = if number == 0 { "" } else { "prev:*\n" };
        wire.expect(&message("out", lines, &format!("{number} {body}")))
            .await;
    }
    storing.abort();
}

#[tokio::test]
async fn text_goes_out_as_text_and_what_is_none_as_binary() {
    let backend = backend(&[]).await;
    let storing = backend.storing().await;
    let gateway = backend.gateway(&[]).await;
    for (case, (content_type, body, is_text)) in [
        ("", &b"plain"[..], true),
        (
            "content-type:application/json\n",
            "{\"가\":1}".as_bytes(),
            true,
        ),
        ("content-type:text/plain\n", b"caf\xe9", false),
        ("content-type:application/octet-stream\n", b"plain", false),
        (
            "content-type:Application/Octet-Stream ; type=x\n",
            b"plain",
            false,
        ),
        ("content-type:application/octet-streams\n", b"plain", true),
        (
            "content-type:text/plain;x=application/octet-stream\n",
            b"plain",
            true,
        ),
        ("", b"\xff\xfe", false),
        ("content-type:image/png\n", b"a\0b", true),
        ("", b"", true),
    ]
    .into_iter()
    .enumerate()
    {
        let room = format!("kind.{case}");
        let mut wire = member(&gateway, "1.2", &room).await;
        let head = format!("SEND\ndestination:/app/rooms/{room}\n{content_type}");
        let head = format!("{head}content-length:{}\n\n", body.len());
        let sent = [head.as_bytes(), body, b"\0"].concat();
        wire.send_message(Message::binary(sent)).await;
        let got = wire.next_message().await;
        assert_eq!(got.is_text(), is_text, "{content_type:?} {body:?}");
        let got: Bytes = got.into_data();
        let end = [b"\n\n", body, b"\0"].concat();
        assert!(got.ends_with(&end), "{got:?}");
        let length = format!("\ncontent-length:{}\n\n", body.len());
        assert!(memmem(&got, length.as_bytes()), "{got:?}");
        assert!(
            content_type.is_empty() || memmem(&got, content_type.as_bytes()),
            "{got:?}"
        );
    }
    storing.abort();
}

fn memmem(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
