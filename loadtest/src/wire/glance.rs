//! A STOMP frame that is looked at where it lies, for what a ledger needs.

use std::borrow::Cow;

use memchr::memchr;
use shared::stomp::Command;

use crate::connection::ClientError;

/// The longest line that is waited for, in octets.
const MAX_LINE: usize = 64 << 10;

/// What stands next in a stream of octets.
pub(super) enum Next<'a> {
    /// The end of a line between frames, of so many octets.
    Beat(usize),
    /// A frame, and how many octets it has.
    Frame(Glance<'a>, usize),
    /// More octets are needed.
    Wait,
}

/// A frame with the headers that matter, still escaped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glance<'a> {
    /// What it tells.
    pub command: Command,
    /// `message-id`.
    pub id: Option<&'a [u8]>,
    /// `sender`.
    pub sender: Option<&'a [u8]>,
    /// `receipt-id`.
    pub receipt: Option<&'a [u8]>,
    /// Its body.
    pub body: &'a [u8],
    headers: &'a [u8],
}

impl<'a> Glance<'a> {
    /// Cuts the next frame off. It is no check of the server's STOMP: what it does not look at may be
    /// anything.
    ///
    /// # Errors
    /// [`ClientError::Wire`] for what can never become a frame.
    pub(super) fn next(octets: &'a [u8]) -> Result<Next<'a>, ClientError> {
        match octets {
            [] | [b'\r'] => return Ok(Next::Wait),
            [b'\n', ..] => return Ok(Next::Beat(1)),
            [b'\r', b'\n', ..] => return Ok(Next::Beat(2)),
            _ => {}
        }
        let Some(end) = line(octets)? else {
            return Ok(Next::Wait);
        };
        let command = Command::parse(trimmed(&octets[..end])).ok_or(ClientError::Wire(
            "a frame with a command that STOMP has not",
        ))?;
        let start = end + 1;
        let mut at = start;
        let mut length = None;
        let (mut id, mut sender, mut receipt) = (None, None, None);
        loop {
            let Some(end) = line(&octets[at..])? else {
                return Ok(Next::Wait);
            };
            let header = trimmed(&octets[at..at + end]);
            at += end + 1;
            if header.is_empty() {
                break;
            }
            let colon =
                memchr(b':', header).ok_or(ClientError::Wire("a header without a colon"))?;
            let (name, value) = (&header[..colon], &header[colon + 1..]);
            // Of repeated headers the first counts (STOMP 1.2, Repeated Header Entries).
            match name {
                b"message-id" => id = id.or(Some(value)),
                b"sender" => sender = sender.or(Some(value)),
                b"receipt-id" => receipt = receipt.or(Some(value)),
                b"content-length" if length.is_none() => {
                    let number = str::from_utf8(value).ok().and_then(|it| it.parse().ok());
                    length =
                        Some(number.ok_or(ClientError::Wire("a content-length that is none"))?);
                }
                _ => {}
            }
        }
        let rest = &octets[at..];
        let body: usize = match length {
            Some(length) => match rest.get(length) {
                Some(0) => length,
                Some(_) => return Err(ClientError::Wire("a body without a NUL at its end")),
                None => return Ok(Next::Wait),
            },
            None => match memchr(0, rest) {
                Some(end) => end,
                None => return Ok(Next::Wait),
            },
        };
        let glance = Self {
            command,
            id,
            sender,
            receipt,
            body: &rest[..body],
            headers: &octets[start..at],
        };
        Ok(Next::Frame(glance, at + body + 1))
    }

    /// The value of any header; of repeated ones the first counts.
    pub(crate) fn header(&self, name: &str) -> Option<Cow<'a, str>> {
        let lines = self.headers.split(|octet| *octet == b'\n');
        let mut values = lines.filter_map(|line| {
            let colon = memchr(b':', line)?;
            (line[..colon] == *name.as_bytes()).then(|| trimmed(&line[colon + 1..]))
        });
        values.next().map(unescaped)
    }

    /// What an ERROR frame says.
    pub(crate) fn refusal(&self) -> ClientError {
        let text = |name| self.header(name).map(Cow::into_owned);
        ClientError::Refused {
            message: text("message").unwrap_or_else(|| "(no message)".to_owned()),
            code: text("code"),
        }
    }
}

/// A header's value without its escapes (STOMP 1.2, Value Encoding). What is no text is replaced.
pub(crate) fn unescaped(value: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(value);
    if !text.contains('\\') {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        out.push(match character {
            '\\' => match characters.next() {
                Some('c') => ':',
                Some('n') => '\n',
                Some('r') => '\r',
                Some(other) => other,
                None => '\\',
            },
            other => other,
        });
    }
    out.into()
}

fn line(octets: &[u8]) -> Result<Option<usize>, ClientError> {
    match memchr(b'\n', octets) {
        None if octets.len() > MAX_LINE => Err(ClientError::Wire("a line that does not end")),
        end => Ok(end),
    }
}

fn trimmed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use shared::stomp::{Frame, Version, encode};

    use super::*;

    fn cut(octets: &[u8]) -> Option<(Glance<'_>, usize)> {
        match Glance::next(octets).unwrap() {
            Next::Frame(glance, length) => Some((glance, length)),
            Next::Beat(_) | Next::Wait => None,
        }
    }

    #[test]
    fn a_frame_is_whole_or_not_there_at_all() {
        let frame = Frame::new(Command::Message)
            .with("message-id", "a:b")
            .with("sender", "kim")
            .with("sender", "not kim")
            .with_body("two\nlines\0and a NUL");
        let octets = encode(&frame, Version::V1_2);
        for end in 1..octets.len() {
            assert!(cut(&octets[..end]).is_none(), "{end} octets");
        }
        let (glance, length) = cut(&octets).unwrap();
        assert_eq!(length, octets.len());
        assert_eq!(glance.body, &frame.body[..]);
        assert_eq!(glance.sender, Some(&b"kim"[..]));
        assert_eq!(glance.id, Some(&b"a\\cb"[..]));
        assert_eq!(glance.header("message-id").as_deref(), Some("a:b"));
        assert_eq!(glance.header("receipt-id"), None);
    }

    #[test]
    fn what_servers_of_1_0_and_those_with_cr_lf_send_is_read() {
        let (glance, length) = cut(b"RECEIPT\r\nreceipt-id:7\r\n\r\n\0\n").unwrap();
        assert_eq!((glance.receipt, length), (Some(&b"7"[..]), 26));
        let (glance, _) = cut(b"RECEIPT\nreceipt-id:7\nreceipt-id:8\n\n\0").unwrap();
        assert_eq!(glance.receipt, Some(&b"7"[..]), "the first counts");
        let repeated = b"MESSAGE\nmessage-id:1\nmessage-id:2\nsender:a\nsender:b\n\n\0";
        let (glance, _) = cut(repeated).unwrap();
        assert_eq!(
            (glance.id, glance.sender),
            (Some(&b"1"[..]), Some(&b"a"[..]))
        );
        assert_eq!(unescaped(b"\\c\\n\\r\\\\ a"), ":\n\r\\ a");
        let (glance, _) = cut(b"MESSAGE\nx:y\n\nbody\0MESSAGE").unwrap();
        assert_eq!(glance.body, b"body");
        assert!(matches!(Glance::next(b"\r\nX"), Ok(Next::Beat(2))));
        for wrong in [
            &b"GET / HTTP/1.1\n"[..],
            b"MESSAGE\nno colon\n",
            b"MESSAGE\ncontent-length:x\n",
            b"MESSAGE\ncontent-length:1\n\nab\0",
            &[b'x'; MAX_LINE + 1],
        ] {
            assert!(Glance::next(wrong).is_err(), "{wrong:?}");
        }
    }
}
