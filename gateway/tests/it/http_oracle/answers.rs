//! What a server may say on a connection: answers of HTTP/1.1, and frames after an upgrade.

use httparse::{EMPTY_HEADER, Response, Status};

/// What this server answers, and hyper for what is no request. SockJS's clients want 500 where what
/// they sent makes no sense.
const KNOWN: [u16; 19] = [
    100, 101, 200, 201, 204, 304, 400, 401, 403, 404, 405, 408, 413, 414, 415, 426, 431, 500, 503,
];

/// Checks all that was said. Where the server ended the connection in order (`is_ended`), nothing
/// may break off in the middle.
pub(super) fn check(mut octets: &[u8], is_ended: bool) {
    while !octets.is_empty() {
        let mut headers = [EMPTY_HEADER; 64];
        let mut answer = Response::new(&mut headers);
        let head = match answer.parse(octets) {
            Ok(Status::Complete(head)) => head,
            Ok(Status::Partial) => return assert!(!is_ended, "an answer's head breaks off"),
            Err(error) => panic!("no answer ({error}): {}", octets.escape_ascii()),
        };
        let status = answer.code.unwrap();
        assert!(KNOWN.contains(&status), "{status}");
        let header = |name: &str| {
            let mut found = answer
                .headers
                .iter()
                .filter(|header| header.name.eq_ignore_ascii_case(name));
            let value = found.next().map(|header| header.value);
            assert!(found.next().is_none(), "{name} is there twice");
            value
        };
        let (length, encoding) = (header("content-length"), header("transfer-encoding"));
        octets = &octets[head..];
        // What is owed to HEAD has no body, whatever its head says of one.
        if matches!(status, 100 | 204 | 304) || octets.starts_with(b"HTTP/1.") {
            continue;
        }
        octets = match (status, length, encoding) {
            (101, ..) => return frames(octets),
            (_, None, Some(b"chunked")) => match chunks(octets) {
                Some(rest) => rest,
                None => return,
            },
            (_, Some(length), None) => {
                let length: usize = str::from_utf8(length).unwrap().parse().unwrap();
                let is_whole = octets.len() >= length || octets.is_empty();
                assert!(is_whole || !is_ended, "a body breaks off");
                &octets[length.min(octets.len())..]
            }
            // To the end of the connection.
            (_, None, None) => return,
            _ => panic!("two lengths in one answer"),
        };
    }
}

/// What follows the last chunk; `None` where it has not come, as when a stream is cut.
fn chunks(mut octets: &[u8]) -> Option<&[u8]> {
    loop {
        let end = octets.windows(2).position(|two| two == b"\r\n")?;
        let size = str::from_utf8(&octets[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        octets = octets.get(end + 2 + size..)?;
        octets = match octets.get(..2)? {
            b"\r\n" => &octets[2..],
            _ => panic!("a chunk is longer than it says"),
        };
        if size == 0 {
            return Some(octets);
        }
    }
}

/// Frames of a server (RFC 6455, section 5): not masked, not compressed, none after Close.
fn frames(mut octets: &[u8]) {
    let mut is_closed = false;
    while let [first, second, rest @ ..] = octets {
        assert!(!is_closed, "there is more after Close");
        let (opcode, is_last) = (first & 0x0f, first & 0x80 != 0);
        assert!(first & 0x70 == 0 && second & 0x80 == 0, "{first:x}");
        assert!([0, 1, 2, 8, 9, 10].contains(&opcode), "{opcode}");
        let (length, rest) = match (second, rest) {
            (126, [a, b, rest @ ..]) => (u16::from_be_bytes([*a, *b]).into(), rest),
            (127, [a, b, c, d, e, f, g, h, rest @ ..]) => {
                let length = [*a, *b, *c, *d, *e, *f, *g, *h];
                (u64::from_be_bytes(length), rest)
            }
            (126.., _) => return,
            (short, rest) => (u64::from(*short), rest),
        };
        assert!(opcode < 8 || (length < 126 && is_last), "{opcode}");
        let Some(payload) = usize::try_from(length)
            .ok()
            .and_then(|most| rest.get(..most))
        else {
            return;
        };
        if opcode == 1 && is_last {
            assert!(str::from_utf8(payload).is_ok(), "text is UTF-8");
        }
        if opcode == 8 {
            assert!(payload.len() != 1, "half a close code");
            is_closed = true;
        }
        octets = &rest[payload.len()..];
    }
}
