//! Every frame that the three specifications show as an example, by the rules of its version.

use shared::stomp::{Command, Decoded, Decoder, Frame, Limits, Version, encode};

/// A command, headers and a body, as the specification prints them.
type Example = (
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
);

/// STOMP 1.0. It prints spaces after some colons, which are then part of the value.
const V1_0: &[Example] = &[
    (
        "CONNECT",
        &[("login", " <username>"), ("passcode", "<passcode>")],
        "",
    ),
    ("CONNECTED", &[("session", " <session-id>")], ""),
    ("SEND", &[("destination", "/queue/a")], "hello queue a\n"),
    (
        "SUBSCRIBE",
        &[("destination", " /queue/foo"), ("ack", " client")],
        "",
    ),
    ("UNSUBSCRIBE", &[("destination", " /queue/a")], ""),
    ("BEGIN", &[("transaction", " <transaction-identifier>")], ""),
    (
        "COMMIT",
        &[("transaction", " <transaction-identifier>")],
        "",
    ),
    (
        "ACK",
        &[
            ("message-id", " <message-identifier>"),
            ("transaction", " <transaction-identifier>"),
        ],
        "",
    ),
    ("ABORT", &[("transaction", " <transaction-identifier>")], ""),
    ("DISCONNECT", &[], ""),
    (
        "SEND",
        &[("destination", "/queue/a"), ("receipt", "message-12345")],
        "Hello a!",
    ),
    (
        "MESSAGE",
        &[
            ("destination", "/queue/a"),
            ("message-id", " <message-identifier>"),
        ],
        "hello queue a",
    ),
    ("RECEIPT", &[("receipt-id", "message-12345")], ""),
    (
        "ERROR",
        &[("message", " malformed packet received")],
        "The message:\n-----\nMESSAGE\ndestined:/queue/a\n\nHello queue a!\n-----\nDid not contain a destination header, which is required \nfor message propagation.\n",
    ),
];

/// STOMP 1.1 and 1.2.
const SINCE_1_1: &[Example] = &[
    ("MESSAGE", &[("foo", "World"), ("foo", "Hello")], ""),
    (
        "CONNECT",
        &[
            ("accept-version", "1.0,1.1,2.0"),
            ("host", "stomp.github.org"),
        ],
        "",
    ),
    ("CONNECTED", &[("version", "1.1")], ""),
    (
        "ERROR",
        &[("version", "1.2,2.1"), ("content-type", "text/plain")],
        "Supported protocol versions are 1.2 2.1",
    ),
    ("CONNECT", &[("heart-beat", "<cx>,<cy>")], ""),
    ("CONNECTED", &[("heart-beat", "<sx>,<sy>")], ""),
    (
        "SEND",
        &[("destination", "/queue/a"), ("content-type", "text/plain")],
        "hello queue a\n",
    ),
    (
        "SEND",
        &[("destination", "/queue/a"), ("receipt", "message-12345")],
        "hello queue a",
    ),
    (
        "SUBSCRIBE",
        &[
            ("id", "0"),
            ("destination", "/queue/foo"),
            ("ack", "client"),
        ],
        "",
    ),
    ("UNSUBSCRIBE", &[("id", "0")], ""),
    ("BEGIN", &[("transaction", "tx1")], ""),
    ("COMMIT", &[("transaction", "tx1")], ""),
    ("ABORT", &[("transaction", "tx1")], ""),
    ("DISCONNECT", &[("receipt", "77")], ""),
    ("RECEIPT", &[("receipt-id", "77")], ""),
    (
        "MESSAGE",
        &[
            ("subscription", "0"),
            ("message-id", "007"),
            ("destination", "/queue/a"),
            ("content-type", "text/plain"),
        ],
        "hello queue a",
    ),
    ("RECEIPT", &[("receipt-id", "message-12345")], ""),
];

/// STOMP 1.1 only.
const V1_1: &[Example] = &[
    (
        "CONNECT",
        &[("accept-version", "1.1"), ("host", "stomp.github.org")],
        "",
    ),
    (
        "ACK",
        &[
            ("subscription", "0"),
            ("message-id", "007"),
            ("transaction", "tx1"),
        ],
        "",
    ),
    (
        "NACK",
        &[
            ("subscription", "0"),
            ("message-id", "007"),
            ("transaction", "tx1"),
        ],
        "",
    ),
    (
        "ERROR",
        &[
            ("receipt-id", "message-12345"),
            ("content-type", "text/plain"),
            ("content-length", "171"),
            ("message", " malformed frame received"),
        ],
        "The message:\n-----\nMESSAGE\ndestined:/queue/a\nreceipt:message-12345\n\n\nHello queue a!\n-----\nDid not contain a destination header, which is REQUIRED\nfor message propagation.\n",
    ),
];

/// STOMP 1.2 only.
const V1_2: &[Example] = &[
    (
        "CONNECT",
        &[("accept-version", "1.2"), ("host", "stomp.github.org")],
        "",
    ),
    ("CONNECTED", &[("version", "1.2")], ""),
    ("ACK", &[("id", "12345"), ("transaction", "tx1")], ""),
    ("NACK", &[("id", "12345"), ("transaction", "tx1")], ""),
    (
        "ERROR",
        &[
            ("receipt-id", "message-12345"),
            ("content-type", "text/plain"),
            ("content-length", "170"),
            ("message", "malformed frame received"),
        ],
        "The message:\n-----\nMESSAGE\ndestined:/queue/a\nreceipt:message-12345\n\nHello queue a!\n-----\nDid not contain a destination header, which is REQUIRED\nfor message propagation.\n",
    ),
];

#[test]
fn every_example_is_read_and_written_as_it_is_printed() {
    for (version, examples) in [
        (Version::V1_0, &[V1_0][..]),
        (Version::V1_1, &[SINCE_1_1, V1_1]),
        (Version::V1_2, &[SINCE_1_1, V1_2]),
    ] {
        for (command, headers, body) in examples.iter().copied().flatten() {
            let lines: String = headers
                .iter()
                .map(|(name, value)| format!("{name}:{value}\n"))
                .collect();
            let octets = format!("{command}\n{lines}\n{body}\0");
            let mut expected = Frame::new(Command::parse(command.as_bytes()).unwrap());
            for (name, value) in *headers {
                expected = expected.with(name, value);
            }
            let expected = expected.with_body(*body);
            assert_eq!(read(&octets, version), expected, "{version:?}");
            if version == Version::V1_2 {
                let (head, _) = octets.split_at(octets.len() - body.len() - 1);
                let crlf = format!("{}{body}\0", head.replace('\n', "\r\n"));
                assert_eq!(read(&crlf, version), expected);
            }

            // What is written is the same, but that content-length comes last, and always where
            // there may be a body.
            let others = lines
                .split_inclusive('\n')
                .filter(|line| !line.starts_with("content-length:"));
            let mut golden = format!("{command}\n{}", others.collect::<String>());
            if matches!(*command, "MESSAGE" | "ERROR") || !body.is_empty() {
                golden += &format!("content-length:{}\n", body.len());
            }
            golden += &format!("\n{body}\0");
            assert_eq!(encode(&expected, version), golden, "{version:?}");
        }
    }
}

/// The one frame that the octets are.
fn read(octets: &str, version: Version) -> Frame {
    let mut decoder = Decoder::new(Limits::default());
    decoder.set_version(version);
    decoder.feed(octets.as_bytes());
    match decoder.next() {
        Ok(Some(Decoded::Frame(frame))) if decoder.buffered() == 0 => frame,
        other => panic!("{octets:?} is {other:?}"),
    }
}
