//! What clients send: the opening of a WebSocket (RFC 6455, section 4.1), its messages (section 5),
//! and the STOMP frames in them. Whoever sends anything else is cut off.

use std::str;

use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The longest opening, and the longest message.
const MAX_BYTES: usize = 16 << 20;

/// What a message of a WebSocket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text or octets: STOMP.
    Data,
    /// The other side leaves.
    Close,
    /// It wants the same back.
    Ping,
    /// It answers nothing that was asked.
    Pong,
}

/// A message of a WebSocket.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    /// What it is.
    pub kind: Kind,
    /// What it has, unmasked.
    pub payload: &'a mut [u8],
    /// Where the next one begins.
    pub next: usize,
}

/// A STOMP frame, its headers as they came: what is escaped stays so, and is sent back so.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    /// Its first line.
    pub command: &'a str,
    headers: &'a str,
    /// What follows the empty line, up to the last NUL.
    pub body: &'a [u8],
}

/// The answer to an opening, and how long that was; nothing while it has not all come.
///
/// # Errors
/// When it opens no WebSocket.
pub(super) fn opened(octets: &[u8]) -> Result<Option<(String, usize)>, ()> {
    let Some(end) = octets.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if octets.len() < MAX_BYTES {
            Ok(None)
        } else {
            Err(())
        };
    };
    let text = str::from_utf8(&octets[..end]).map_err(drop)?;
    let header = |wanted: &str| {
        let named = |line: &'_ str| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted)
                .then(|| value.trim().to_owned())
        };
        text.lines().find_map(named)
    };
    let key = header("sec-websocket-key").ok_or(())?;
    let accept = derive_accept_key(key.as_bytes());
    // Of what the client offers, the first is as good as any.
    let offered = header("sec-websocket-protocol").unwrap_or_default();
    let protocol = match offered.split(',').next().map(str::trim) {
        Some("") | None => String::new(),
        Some(first) => format!("Sec-WebSocket-Protocol: {first}\r\n"),
    };
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{protocol}\r\n"
    );
    Ok(Some((answer, end + 4)))
}

/// The first message in `octets`, unmasked where it lies; nothing while it has not all come.
///
/// # Errors
/// When it is in several pieces, too long, or none.
pub(super) fn message(octets: &mut [u8]) -> Result<Option<Piece<'_>>, ()> {
    let &[first, second, ..] = &*octets else {
        return Ok(None);
    };
    let kind = match first {
        0x81 | 0x82 => Kind::Data,
        0x88 => Kind::Close,
        0x89 => Kind::Ping,
        0x8a => Kind::Pong,
        _ => return Err(()),
    };
    // Clients mask.
    if second & 0x80 == 0 {
        return Err(());
    }
    let (length, start) = match (second & 0x7f, octets.get(2..)) {
        (126, Some(&[a, b, ..])) => (usize::from(u16::from_be_bytes([a, b])), 4),
        (127, Some(&[a, b, c, d, e, f, g, h, ..])) => {
            let length = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
            (usize::try_from(length).map_err(drop)?, 10)
        }
        (126 | 127, _) => return Ok(None),
        (short, _) => (usize::from(short), 2),
    };
    if length > MAX_BYTES {
        return Err(());
    }
    let end = start + 4 + length;
    let Some(all) = octets.get_mut(start..end) else {
        return Ok(None);
    };
    let (mask, payload) = all.split_at_mut(4);
    let mask = [mask[0], mask[1], mask[2], mask[3]];
    // Eight at a time, which the compiler makes more of.
    let wide = u64::from_ne_bytes([
        mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3],
    ]);
    let mut eights = payload.chunks_exact_mut(8);
    for eight in &mut eights {
        let value = u64::from_ne_bytes([
            eight[0], eight[1], eight[2], eight[3], eight[4], eight[5], eight[6], eight[7],
        ]);
        eight.copy_from_slice(&(value ^ wide).to_ne_bytes());
    }
    for (octet, mask) in eights.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *octet ^= mask;
    }
    Ok(Some(Piece {
        kind,
        payload,
        next: end,
    }))
}

impl<'a> Request<'a> {
    /// The frame in a message; nothing where that is a heart-beat.
    ///
    /// # Errors
    /// When it is no frame.
    pub(super) fn parse(message: &'a [u8]) -> Result<Option<Self>, ()> {
        if message.iter().all(|octet| matches!(octet, b'\r' | b'\n')) {
            return Ok(None);
        }
        let nul = message.iter().rposition(|octet| *octet == 0).ok_or(())?;
        let message = &message[..nul];
        let gap = message
            .windows(2)
            .position(|two| two == b"\n\n")
            .ok_or(())?;
        let head = str::from_utf8(&message[..gap]).map_err(drop)?;
        let (command, headers) = head.split_once('\n').unwrap_or((head, ""));
        Ok(Some(Self {
            command,
            headers,
            body: &message[gap + 2..],
        }))
    }

    /// The value of the first header of this name.
    pub(super) fn header(&self, name: &str) -> Option<&'a str> {
        let mut lines = self.headers.split('\n');
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_whole_or_not_yet() {
        // RFC 6455, section 5.7: a masked text message that contains "Hello".
        let hello = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        for length in 0..hello.len() {
            let mut part = hello[..length].to_vec();
            assert_eq!(message(&mut part), Ok(None), "{length}");
            assert_eq!(part, hello[..length], "nothing is unmasked twice");
        }
        let mut more = [&hello[..], &[0x88]].concat();
        let Piece {
            kind,
            payload,
            next,
        } = message(&mut more).unwrap().unwrap();
        assert_eq!(
            (kind, &*payload, next),
            (Kind::Data, &b"Hello"[..], hello.len())
        );
        assert_eq!(message(&mut [0x81, 5, b'H', b'e']), Err(()), "not masked");
        assert_eq!(message(&mut [0x01, 0x85]), Err(()), "a first piece");
    }

    #[test]
    fn long_messages_say_their_length_in_two_octets_or_eight() {
        for (length, head) in [
            (126, vec![0x82, 0xfe, 0, 126]),
            (70_000, vec![0x82, 0xff, 0, 0, 0, 0, 0, 1, 0x11, 0x70]),
        ] {
            let mask = [1, 2, 3, 4];
            let plain = (0..length).map(|at| at as u8).collect::<Vec<_>>();
            let masked = plain.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b);
            let mut all = [head, mask.to_vec(), masked.collect()].concat();
            for end in 2..14 {
                assert_eq!(message(&mut all[..end]), Ok(None), "{end} of {length}");
            }
            let Piece { payload, next, .. } = message(&mut all).unwrap().unwrap();
            assert_eq!(payload, plain);
            assert_eq!(next, all.len());
        }
        let mut endless = [0x82, 0xff, 0, 0, 0, 0, 1, 0, 0, 1];
        assert_eq!(message(&mut endless), Err(()), "more than 16 MiB");
    }

    #[test]
    fn a_frame_has_headers_and_a_body_with_any_octet() {
        let frame = Request::parse(b"SEND\ndestination:/a/b\nreceipt:7\n\nx\0\n\ny\0\n").unwrap();
        let frame = frame.unwrap();
        assert_eq!(frame.command, "SEND");
        assert_eq!(frame.header("destination"), Some("/a/b"));
        assert_eq!(frame.header("receipt"), Some("7"));
        assert_eq!(frame.header("login"), None);
        assert_eq!(frame.body, b"x\0\n\ny");
        assert_eq!(Request::parse(b"\n"), Ok(None));
        assert_eq!(Request::parse(b"SEND\n\n"), Err(()));
        let bare = Request::parse(b"DISCONNECT\n\n\0").unwrap().unwrap();
        assert_eq!((bare.command, bare.header("receipt")), ("DISCONNECT", None));
    }

    #[test]
    fn the_specifications_opening_has_the_specifications_answer() {
        // RFC 6455, section 1.3.
        let request =
            b"GET /chat HTTP/1.1\r\nHost: a\r\nsec-websocket-KEY: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                        Sec-WebSocket-Protocol: v12.stomp, v11.stomp\r\n\r\nrest";
        let (answer, length) = opened(request).unwrap().unwrap();
        assert_eq!(&request[length..], b"rest");
        assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(answer.contains("Sec-WebSocket-Protocol: v12.stomp\r\n"));
        assert_eq!(opened(&request[..length - 1]), Ok(None));
        assert_eq!(opened(b"GET / HTTP/1.1\r\n\r\n"), Err(()));
    }
}
