//! What holds for every frame, every way to cut octets into pieces, and every octet.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use shared::stomp::{Command, Decoded, Decoder, Frame, Limits, Version, encode};

use crate::stomp_oracle::{Case, TIGHT};

proptest! {
    #[test]
    fn what_is_written_is_read_back((version, frame) in frame_of_version()) {
        let mut decoder = Decoder::new(Limits::default());
        decoder.set_version(version);
        decoder.feed(&encode(&frame, version));
        let Some(Decoded::Frame(read)) = decoder.next().unwrap() else {
            panic!("no frame");
        };
        prop_assert_eq!(read.command, frame.command);
        prop_assert_eq!(&read.body, &frame.body);
        let sent = frame.headers.iter().collect::<Vec<_>>();
        let came = read.headers.iter().filter(|(n, _)| *n != "content-length").collect::<Vec<_>>();
        prop_assert_eq!(came, sent);
        prop_assert_eq!(decoder.next(), Ok(None));
        prop_assert_eq!(decoder.buffered(), 0);
    }

    #[test]
    fn no_header_can_break_out_of_its_line(
        version in select(&Version::ALL[..]),
        command in select(Command::ALL),
        headers in vec(("[a-c:\n\r\0\\\\]{1,8}", "[a-c:\n\r\0\\\\é]{0,8}"), 0..4),
    ) {
        let mut frame = Frame::new(command);
        for (name, value) in &headers {
            frame.headers.push(name, value);
        }
        let mut decoder = Decoder::new(Limits::default());
        decoder.set_version(version);
        decoder.feed(&encode(&frame, version));
        let Some(Decoded::Frame(read)) = decoder.next().unwrap() else {
            panic!("no frame");
        };
        let came = read.headers.iter().filter(|(n, _)| *n != "content-length").count();
        prop_assert_eq!(came, headers.len());
        prop_assert_eq!(decoder.next(), Ok(None));
    }

    #[test]
    fn any_octets_in_any_pieces_are_the_same_frames_within_the_limits(
        octets in prop_oneof![1 => vec(any::<u8>(), 0..300), 3 => stream()],
        version in proptest::option::of(select(&Version::ALL[..])),
        tight in any::<bool>(),
        sizes in vec(any::<u8>(), 0..6),
    ) {
        let limits = if tight { TIGHT } else { Limits::default() };
        Case { version, limits, sizes: &sizes, octets: &octets }.check();
        Case { version, limits, sizes: &[], octets: &octets }.check();
    }
}

/// What the fuzz target has found, and the examples that it started from.
#[test]
fn the_kept_corpus_of_the_decoder_holds() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/decoder");
    let mut files = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let data = std::fs::read(&path).unwrap();
        // Shown when the test fails.
        println!("{}", path.display());
        if let Some(case) = Case::of(&data) {
            case.check();
            files += 1;
        }
    }
    assert!(files > 20, "{corpus} has only {files} cases");
}

/// A frame that the version can express without loss.
fn frame_of_version() -> impl Strategy<Value = (Version, Frame)> {
    (select(&Version::ALL[..]), select(Command::ALL)).prop_flat_map(|(version, command)| {
        let (name, value) = match version {
            _ if !command.escapes() => ("[^:\n\r\0]{1,12}", "[^\n\r\0]{0,20}"),
            Version::V1_0 => ("[^:\n\r\0]{1,12}", "[^\n\r\0]{0,20}"),
            Version::V1_1 => ("[^\r\0]{1,12}", "[^\r\0]{0,20}"),
            Version::V1_2 => ("[^\0]{1,12}", "[^\0]{0,20}"),
        };
        let largest = if command.may_have_body() { 3000 } else { 0 };
        (vec((name, value), 0..6), vec(any::<u8>(), 0..=largest)).prop_map(
            move |(headers, body)| {
                let mut frame = Frame::new(command).with_body(Bytes::from(body));
                for (name, value) in headers {
                    frame.headers.push(&name, &value);
                }
                (version, frame)
            },
        )
    })
}

/// Octets that are mostly frames, with every kind of damage among them.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        6 => frame_of_version().prop_map(|(version, frame)| encode(&frame, version).to_vec()),
        2 => "(SEND|ACK|MESSAGE|CONNECT)\r?\n([a-d]{1,3}:[a-z\\\\:]{0,8}\r?\n){0,6}\r?\n[x\n]{0,9}\0"
            .prop_map(String::into_bytes),
        1 => "SEND\ncontent-length:[0-9]{1,3}\n\n[x\0]{0,80}\0".prop_map(String::into_bytes),
        2 => "[\r\n]{1,3}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..4),
    ];
    vec(part, 0..5).prop_map(|parts| parts.concat())
}
