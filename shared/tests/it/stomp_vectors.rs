//! Each rule of the three specifications, with the octets that show it.

use std::time::Duration;

use bytes::Bytes;
use shared::stomp::heartbeat::{self, HeartBeat};
use shared::stomp::{Command, DecodeError, Decoded, Decoder, Frame, Limits, Version, encode};

use Version::{V1_0, V1_1, V1_2};

/// Everything that the octets hold, by the rules of a version (`None`: not negotiated yet).
fn decode(octets: &[u8], version: Option<Version>) -> Result<Vec<Decoded>, DecodeError> {
    let mut decoder = Decoder::new(Limits::default());
    if let Some(version) = version {
        decoder.set_version(version);
    }
    decoder.feed(octets);
    let mut all = Vec::new();
    while let Some(decoded) = decoder.next()? {
        all.push(decoded);
    }
    Ok(all)
}

/// The one frame that the octets hold.
fn frame(octets: &[u8], version: Version) -> Result<Frame, DecodeError> {
    match &decode(octets, Some(version))?[..] {
        [Decoded::Frame(frame)] => Ok(frame.clone()),
        other => panic!("not one frame: {other:?}"),
    }
}

fn new(command: Command) -> Frame {
    Frame::new(command)
}

#[test]
fn escapes_are_those_of_the_version() {
    let value = |escaped: &str, version| {
        let octets = format!("SEND\nk{escaped}:{escaped}\n\n\0");
        let frame = frame(octets.as_bytes(), version)?;
        let (name, value) = frame.headers.iter().next().unwrap();
        assert_eq!(name, format!("k{value}"));
        Ok::<_, DecodeError>(value.to_owned())
    };
    assert_eq!(value(r"a\n\c\\b", V1_2).unwrap(), "a\n:\\b");
    assert_eq!(value(r"a\r", V1_2).unwrap(), "a\r");
    assert_eq!(value(r"a\n\c\\b", V1_1).unwrap(), "a\n:\\b");
    assert_eq!(value(r"a\r", V1_1), Err(DecodeError::BadEscape));
    assert_eq!(value(r"a\t", V1_0).unwrap(), r"a\t");
    assert_eq!(
        value(r"\\n", V1_2).unwrap(),
        r"\n",
        "an escaped backslash escapes nothing"
    );
    for version in [V1_1, V1_2] {
        assert_eq!(value(r"a\t", version), Err(DecodeError::BadEscape));
        assert_eq!(value(r"a\N", version), Err(DecodeError::BadEscape));
        assert_eq!(
            value("a\\", version),
            Err(DecodeError::BadEscape),
            "an escape without its end"
        );
        assert_eq!(value("a\\é", version), Err(DecodeError::BadEscape));
    }
}

#[test]
fn connect_and_connected_are_never_escaped() {
    for command in ["CONNECT", "STOMP", "CONNECTED"] {
        for version in Version::ALL {
            let octets = format!("{command}\nlogin:a\\c\\b\n\n\0");
            let frame = frame(octets.as_bytes(), version).unwrap();
            assert_eq!(frame.header("login"), Some("a\\c\\b"));
            let again = encode(&frame, version);
            assert_eq!(again, octets.as_bytes());
        }
    }
}

#[test]
fn the_first_of_repeated_headers_counts_and_nothing_is_trimmed() {
    let frame = frame(b"SEND\nfoo:World\nfoo:Hello\n bar : x \nempty:\n\n\0", V1_2).unwrap();
    assert_eq!(frame.header("foo"), Some("World"));
    assert_eq!(frame.header(" bar "), Some(" x "));
    assert_eq!(frame.header("bar"), None);
    assert_eq!(frame.header("empty"), Some(""));
    assert_eq!(frame.header("Foo"), None, "names are case-sensitive");
    assert_eq!(frame.headers.len(), 4);
}

#[test]
fn a_colon_in_a_value_needs_no_escape_to_be_read() {
    let frame = frame(b"SEND\nat:12:30\n\n\0", V1_2).unwrap();
    assert_eq!(frame.header("at"), Some("12:30"));
}

#[test]
fn a_line_ends_as_the_version_says() {
    let crlf = b"SUBSCRIBE\r\nid:0\r\n\r\n\0";
    assert_eq!(
        frame(crlf, V1_2).unwrap(),
        new(Command::Subscribe).with("id", "0")
    );
    for version in [V1_0, V1_1] {
        assert_eq!(frame(crlf, version), Err(DecodeError::UnknownCommand));
        let kept = frame(b"SUBSCRIBE\nid:0\r\n\n\0", version).unwrap();
        assert_eq!(
            kept.header("id"),
            Some("0\r"),
            "the CR is part of the value"
        );
    }
    assert_eq!(
        decode(b"CONNECT\r\naccept-version:1.1\r\n\r\n\0", None).unwrap(),
        [Decoded::Frame(
            new(Command::Connect).with("accept-version", "1.1")
        )],
    );
    for bare in [
        &b"SEND\na:x\ry\n\n\0"[..],
        b"SEND\na\r:x\n\n\0",
        b"SEND\na:x\r\r\n\n\0",
    ] {
        assert_eq!(frame(bare, V1_2), Err(DecodeError::BareCarriageReturn));
    }
    assert_eq!(
        decode(b"\rSEND\n\n\0", Some(V1_2)),
        Err(DecodeError::BareCarriageReturn)
    );
}

#[test]
fn line_ends_between_frames_are_heart_beats() {
    let beat = || Decoded::HeartBeat;
    let abort = || Decoded::Frame(new(Command::Abort));
    assert_eq!(
        decode(
            b"\n\r\nABORT\n\n\0\n\n\r\nABORT\n\n\0ABORT\n\n\0",
            Some(V1_1)
        )
        .unwrap(),
        [
            beat(),
            beat(),
            abort(),
            beat(),
            beat(),
            beat(),
            abort(),
            abort()
        ],
    );
    assert_eq!(
        decode(b"\r", Some(V1_2)).unwrap(),
        [],
        "its LF may still come"
    );
}

#[test]
fn content_length_counts_octets_and_wants_its_nul() {
    let sent = frame(b"SEND\ncontent-length:5\n\na\0b\0c\0", V1_2).unwrap();
    assert_eq!(sent.body, Bytes::from_static(b"a\0b\0c"));
    let sent = frame("SEND\ncontent-length:4\n\né한\0\0".as_bytes(), V1_2);
    assert_eq!(
        sent,
        Err(DecodeError::MissingNul),
        "é and 한 are five octets"
    );
    let short = frame(b"SEND\ncontent-length:2\n\nabc\0", V1_2);
    assert_eq!(short, Err(DecodeError::MissingNul));
    let first = frame(b"SEND\ncontent-length:1\ncontent-length:9\n\na\0", V1_2).unwrap();
    assert_eq!(
        first.body, "a",
        "the first of repeated ones counts here too"
    );
    let none = frame(b"SUBSCRIBE\ncontent-length:0\n\n\0", V1_2).unwrap();
    assert_eq!(none.body, "");
    for bad in ["", " 1", "1 ", "+1", "-1", "0x1", "one", "1.0"] {
        let octets = format!("SEND\ncontent-length:{bad}\n\na\0");
        assert_eq!(
            frame(octets.as_bytes(), V1_2),
            Err(DecodeError::BadContentLength),
            "{bad:?}"
        );
    }
}

#[test]
fn without_content_length_the_body_ends_at_nul() {
    // An Android client ends its bodies with two line ends.
    let sent = frame(b"SEND\ndestination:/a\n\n{\"x\":1}\n\n\0", V1_1).unwrap();
    assert_eq!(sent.body, "{\"x\":1}\n\n");
    let two = decode(b"SEND\n\nab\0SEND\n\n\0", Some(V1_2)).unwrap();
    let expected = [new(Command::Send).with_body("ab"), new(Command::Send)];
    assert_eq!(two, expected.map(Decoded::Frame));
}

#[test]
fn only_send_message_and_error_have_a_body() {
    for command in Command::ALL {
        let name = command.as_str();
        let open = frame(format!("{name}\n\nx\0").as_bytes(), V1_2);
        let counted = frame(format!("{name}\ncontent-length:1\n\nx\0").as_bytes(), V1_2);
        if matches!(command, Command::Send | Command::Message | Command::Error) {
            assert_eq!(open.unwrap().body, "x");
            assert_eq!(counted.unwrap().body, "x");
        } else {
            assert_eq!(open, Err(DecodeError::BodyNotAllowed));
            assert_eq!(counted, Err(DecodeError::BodyNotAllowed));
        }
    }
}

#[test]
fn what_is_no_frame_is_refused_with_its_reason() {
    let cases: &[(&[u8], DecodeError)] = &[
        (b"HELLO\n\n\0", DecodeError::UnknownCommand),
        (b"send\n\n\0", DecodeError::UnknownCommand),
        (b" SEND\n\n\0", DecodeError::UnknownCommand),
        (b"GET / HTTP/1.1", DecodeError::UnknownCommand),
        (b"\0", DecodeError::NulInHeaders),
        (b"SEND\nabc\n\n\0", DecodeError::HeaderWithoutColon),
        (b"SEND\n:abc\n\n\0", DecodeError::HeaderWithoutName),
        (b"SEND\na:\xff\n\n\0", DecodeError::NotUtf8),
        (
            b"SUBSCRIBE\nid:0\ndestination:/topic/rooms/a\0",
            DecodeError::NulInHeaders,
        ),
    ];
    for (octets, expected) in cases {
        assert_eq!(decode(octets, Some(V1_2)).as_ref(), Err(expected));
        assert!(!expected.is_too_large());
    }
}

#[test]
fn a_decoder_stays_in_its_error() {
    let mut decoder = Decoder::new(Limits::default());
    decoder.feed(b"HELLO\n\n\0SEND\n\n\0");
    assert_eq!(decoder.next(), Err(DecodeError::UnknownCommand));
    decoder.feed(b"SEND\n\n\0");
    assert_eq!(decoder.next(), Err(DecodeError::UnknownCommand));
    assert_eq!(decoder.buffered(), 0);
}

#[test]
fn each_limit_holds_to_the_octet() {
    let limits = Limits {
        frame_bytes: 60,
        headers: 3,
        header_bytes: 10,
        headers_bytes: 24,
    };
    let decode = |octets: &str| {
        let mut decoder = Decoder::new(limits);
        decoder.feed(octets.as_bytes());
        decoder.next().map(|decoded| decoded.is_some())
    };
    let too_large = Err(DecodeError::TooLarge { limit: 60 });

    assert_eq!(decode("SEND\na:45678910\n\n\0"), Ok(true));
    let long = Err(DecodeError::HeaderTooLong { limit: 10 });
    assert_eq!(decode("SEND\na:456789 11\n\n\0"), long);
    assert_eq!(decode("SEND\na:456789 11"), long, "before its end has come");

    assert_eq!(decode("SEND\na:1\nb:2\nc:3\n\n\0"), Ok(true));
    let many = Err(DecodeError::TooManyHeaders { limit: 3 });
    assert_eq!(decode("SEND\na:1\nb:2\nc:3\nd:4\n\n\0"), many);

    assert_eq!(decode("SEND\na:45678910\nb:45678910\nc:34\n\n\0"), Ok(true));
    let together = Err(DecodeError::HeadersTooLong { limit: 24 });
    assert_eq!(
        decode("SEND\na:45678910\nb:45678910\nc:345\n\n\0"),
        together
    );

    let body = "x".repeat(60 - "SEND\n\n\0".len());
    assert_eq!(decode(&format!("SEND\n\n{body}\0")), Ok(true));
    assert_eq!(decode(&format!("SEND\n\n{body}x\0")), too_large);
    assert_eq!(
        decode(&format!("SEND\n\n{body}x")),
        too_large,
        "before its end has come"
    );
    let body = "x".repeat(60 - "SEND\ncontent-length:nn\n\n\0".len());
    let wide = Limits {
        header_bytes: 20,
        ..limits
    };
    let decode = |octets: &str| {
        let mut decoder = Decoder::new(wide);
        decoder.feed(octets.as_bytes());
        decoder.next().map(|decoded| decoded.is_some())
    };
    assert_eq!(
        decode(&format!("SEND\ncontent-length:{}\n\n{body}\0", body.len())),
        Ok(true)
    );
    assert_eq!(
        decode(&format!("SEND\ncontent-length:{}\n\n", body.len() + 1)),
        too_large
    );
    let mut huge = Decoder::new(Limits::default());
    huge.feed(b"SEND\ncontent-length:99999999999999999999999999\n\n");
    assert!(huge.next().unwrap_err().is_too_large());
    for error in [long, many, together, too_large] {
        assert!(error.unwrap_err().is_too_large());
    }
}

#[test]
fn frames_are_written_octet_for_octet() {
    let message = new(Command::Message)
        .with("message-id", "7")
        .with("content-length", "99")
        .with("note:", "a:b\n\r\\")
        .with_body("hi");
    let cases = [
        (
            V1_2,
            &b"MESSAGE\nmessage-id:7\nnote\\c:a\\cb\\n\\r\\\\\ncontent-length:2\n\nhi\0"[..],
        ),
        (
            V1_1,
            b"MESSAGE\nmessage-id:7\nnote\\c:a\\cb\\n \\\\\ncontent-length:2\n\nhi\0",
        ),
        (
            V1_0,
            b"MESSAGE\nmessage-id:7\nnote :a:b  \\\ncontent-length:2\n\nhi\0",
        ),
    ];
    for (version, octets) in cases {
        assert_eq!(encode(&message, version), octets, "{version:?}");
    }
    assert_eq!(
        encode(&new(Command::Message), V1_2),
        &b"MESSAGE\ncontent-length:0\n\n\0"[..]
    );
    assert_eq!(
        encode(&new(Command::Error), V1_2),
        &b"ERROR\ncontent-length:0\n\n\0"[..]
    );
    assert_eq!(encode(&new(Command::Send), V1_2), &b"SEND\n\n\0"[..]);
    let sent = new(Command::Send).with_body("a\0b");
    assert_eq!(
        encode(&sent, V1_2),
        &b"SEND\ncontent-length:3\n\na\0b\0"[..]
    );
    let receipt = new(Command::Receipt).with("receipt-id", "77");
    assert_eq!(encode(&receipt, V1_2), &b"RECEIPT\nreceipt-id:77\n\n\0"[..]);
}

#[test]
fn the_highest_common_version_is_negotiated() {
    assert_eq!(Version::highest("1.0,1.1,2.0"), Some(V1_1));
    assert_eq!(Version::highest("1.2,1.1,1.0"), Some(V1_2));
    assert_eq!(Version::highest("1.0"), Some(V1_0));
    assert_eq!(Version::highest("2.0,"), None);
}

#[test]
fn heart_beats_take_the_longer_interval_of_each_direction() {
    let ms = |ms| Some(Duration::from_millis(ms));
    let negotiate = heartbeat::negotiate;
    let view = negotiate((10_000, 2_000), (1_000, 4_000));
    assert_eq!(
        view,
        HeartBeat {
            outgoing: ms(10_000),
            incoming: ms(2_000)
        }
    );
    assert_eq!(negotiate((10_000, 10_000), (0, 5)).incoming, None);
    assert_eq!(negotiate((10_000, 10_000), (5, 0)).outgoing, None);
    assert_eq!(negotiate((0, 0), (5, 5)), HeartBeat::default());

    assert_eq!(heartbeat::parse_header("0,10000"), Ok((0, 10_000)));
    for bad in [
        "",
        "1",
        "1,",
        ",1",
        "1,2,3",
        "1, 2",
        "-1,2",
        "+1,2",
        "1,4294967296",
        "a,b",
    ] {
        assert!(heartbeat::parse_header(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_log_of_headers_shows_no_secret() {
    let frame = new(Command::Connect)
        .with("login", "ann")
        .with("passcode", "hunter2")
        .with("AUTHORIZATION", "hunter2")
        .with("X-Auth-Token", "hunter2");
    let shown = format!("{frame:?}");
    assert!(
        shown.contains("ann") && !shown.contains("hunter2"),
        "{shown}"
    );
}

#[test]
fn a_frame_that_failed_is_named_by_its_receipt_where_that_had_come() {
    let failed = |octets: &str| {
        let mut decoder = Decoder::new(Limits::default());
        decoder.feed(octets.as_bytes());
        while decoder.next().is_ok_and(|decoded| decoded.is_some()) {}
        assert!(decoder.next().is_err(), "{octets:?}");
        decoder.receipt().map(str::to_owned)
    };
    let receipt = || Some("a:1".to_owned());
    assert_eq!(
        failed("SEND\nreceipt:a\\c1\nreceipt:2\nno colon\n"),
        receipt()
    );
    assert_eq!(
        failed("SEND\nreceipt:a\\c1\ncontent-length:x\n\n"),
        receipt()
    );
    assert_eq!(failed("ACK\nreceipt:a\\c1\n\nbody\0"), receipt());
    assert_eq!(
        failed("SEND\nno colon\nreceipt:1\n\n\0"),
        None,
        "it comes later"
    );
    assert_eq!(failed("SEND\nReceipt:1\nno colon\n"), None);
    assert_eq!(
        failed("SEND\nreceipt:1\n\n\0HELLO\n\n\0"),
        None,
        "another frame's"
    );
}

/// Whoever keeps a message keeps what its octets came in.
#[test]
fn a_body_does_not_keep_alive_what_else_was_read_with_it() {
    let padding = "\n".repeat(60_000);
    let send = format!("SEND\ndestination:/a\n\n{}\0", "x".repeat(2_000));
    for octets in [format!("{send}{padding}"), format!("{padding}{send}")] {
        let bodies = decode(octets.as_bytes(), Some(V1_2)).unwrap();
        let bodies = bodies.into_iter().filter_map(|decoded| match decoded {
            Decoded::Frame(frame) => Some(frame.body),
            Decoded::HeartBeat => None,
        });
        for body in bodies {
            let mut body = body.try_into_mut().unwrap();
            assert_eq!(body.len(), 2_000);
            assert!(!body.try_reclaim(30_000), "it lies in a large allocation");
        }
    }
}
