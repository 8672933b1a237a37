//! What holds for every frame, every way to cut octets into pieces, and every octet.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use shared::stomp::{Command, DecodeError, Decoded, Decoder, Frame, Limits, Version, encode};

/// Limits that short input reaches.
const TIGHT: Limits = Limits {
    frame_bytes: 96,
    headers: 4,
    header_bytes: 24,
    headers_bytes: 40,
};

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
    fn pieces_make_no_difference(
        octets in stream(),
        version in proptest::option::of(select(&Version::ALL[..])),
        tight in any::<bool>(),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let limits = if tight { TIGHT } else { Limits::default() };
        let whole = decode(&[&octets], version, limits);
        let mut cuts = cuts.iter().map(|cut| cut.index(octets.len() + 1)).collect::<Vec<_>>();
        cuts.extend([0, octets.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| &octets[cut[0]..cut[1]]).collect::<Vec<_>>();
        prop_assert_eq!(&decode(&pieces, version, limits), &whole);
        let single = octets.chunks(1).collect::<Vec<_>>();
        prop_assert_eq!(&decode(&single, version, limits), &whole);
    }

    #[test]
    fn any_octets_are_held_within_the_limits(
        octets in prop_oneof![vec(any::<u8>(), 0..300), stream()],
        piece in 1_usize..40,
        version in proptest::option::of(select(&Version::ALL[..])),
    ) {
        let mut decoder = Decoder::new(TIGHT);
        if let Some(version) = version {
            decoder.set_version(version);
        }
        for piece in octets.chunks(piece) {
            decoder.feed(piece);
            while let Ok(Some(decoded)) = decoder.next() {
                if let Decoded::Frame(frame) = decoded {
                    prop_assert!(frame.body.len() < TIGHT.frame_bytes);
                    prop_assert!(frame.headers.len() <= TIGHT.headers);
                }
            }
            prop_assert!(decoder.buffered() <= TIGHT.frame_bytes);
        }
    }
}

/// Everything that the pieces hold, and the error that ended it.
fn decode(
    pieces: &[&[u8]],
    version: Option<Version>,
    limits: Limits,
) -> (Vec<Decoded>, Option<DecodeError>) {
    let mut decoder = Decoder::new(limits);
    if let Some(version) = version {
        decoder.set_version(version);
    }
    let mut all = Vec::new();
    for piece in pieces {
        decoder.feed(piece);
        loop {
            match decoder.next() {
                Ok(Some(decoded)) => all.push(decoded),
                Ok(None) => break,
                Err(error) => return (all, Some(error)),
            }
        }
    }
    (all, None)
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
