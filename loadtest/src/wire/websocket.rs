//! WebSocket's framing, as a client has it (RFC 6455, section 5).

use crate::connection::ClientError;

/// The largest message that is waited for, in octets.
const MAX_PAYLOAD: u64 = 32 << 20;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A message, or a part of one: text, binary or continuation.
    Data,
    /// To be answered.
    Ping,
    /// An answer.
    Pong,
    /// The end.
    Close,
}

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// What it is.
    pub kind: Kind,
    /// Octets of the head.
    pub head: usize,
    /// Octets that follow.
    pub payload: usize,
}

impl Head {
    /// The head of the frame that begins here; `None` where more octets are needed.
    ///
    /// # Errors
    /// [`ClientError::Wire`] for what no server may send, or for more than 32 MiB.
    pub(super) fn parse(octets: &[u8]) -> Result<Option<Self>, ClientError> {
        let &[first, second, ref rest @ ..] = octets else {
            return Ok(None);
        };
        if first & 0x70 != 0 || second & 0x80 != 0 {
            return Err(ClientError::Wire("no WebSocket frame of a server"));
        }
        let kind = match first & 0x0f {
            0..=2 => Kind::Data,
            8 => Kind::Close,
            9 => Kind::Ping,
            10 => Kind::Pong,
            _ => return Err(ClientError::Wire("a WebSocket frame of no known kind")),
        };
        let (head, payload) = match second {
            126 => match rest {
                &[a, b, ..] => (4, u64::from(u16::from_be_bytes([a, b]))),
                _ => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(length) => (10, u64::from_be_bytes(*length)),
                None => return Ok(None),
            },
            short => (2, u64::from(short)),
        };
        if payload > MAX_PAYLOAD {
            return Err(ClientError::Wire("a WebSocket frame of more than 32 MiB"));
        }
        let payload = payload as usize;
        Ok(Some(Self {
            kind,
            head,
            payload,
        }))
    }
}

/// Appends a text frame.
pub(super) fn text(out: &mut Vec<u8>, payload: &[u8]) {
    masked(out, 0x81, payload);
}

/// Appends the answer to a ping.
pub(super) fn pong(out: &mut Vec<u8>, payload: &[u8]) {
    masked(out, 0x8a, payload);
}

/// Appends a close frame with code 1000.
pub(super) fn close(out: &mut Vec<u8>) {
    masked(out, 0x88, &1000u16.to_be_bytes());
}

fn masked(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    out.push(first);
    match payload.len() {
        short @ 0..126 => out.push(0x80 | short as u8),
        middle @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    let mask = fastrand::u32(..).to_ne_bytes();
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    let mut chunks = out[start..].chunks_exact_mut(4);
    let mask = u32::from_ne_bytes(mask);
    for chunk in &mut chunks {
        let four = u32::from_ne_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]) ^ mask;
        chunk.copy_from_slice(&four.to_ne_bytes());
    }
    for (octet, mask) in chunks.into_remainder().iter_mut().zip(mask.to_ne_bytes()) {
        *octet ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;

    use super::*;

    #[test]
    fn what_is_written_is_what_the_library_reads() {
        for size in [0, 1, 125, 126, 127, 65_535, 65_536, 70_001] {
            let payload = (0..size).map(|at| at as u8).collect::<Vec<_>>();
            let mut out = Vec::new();
            text(&mut out, &payload);
            let mut cursor = Cursor::new(&out);
            let (header, length) = FrameHeader::parse(&mut cursor).unwrap().unwrap();
            assert_eq!(length, size as u64);
            let (start, mask) = (cursor.position() as usize, header.mask.unwrap());
            let plain = out[start..].iter().enumerate();
            let plain = plain
                .map(|(at, octet)| octet ^ mask[at % 4])
                .collect::<Vec<_>>();
            assert_eq!(plain, payload, "{size} octets");
        }
        let (mut answer, mut end) = (Vec::new(), Vec::new());
        pong(&mut answer, b"?");
        close(&mut end);
        for (frame, opcode, length) in [(answer, 0x8a, 1), (end, 0x88, 2)] {
            assert_eq!(frame[..2], [opcode, 0x80 | length]);
            assert_eq!(frame.len(), 6 + usize::from(length));
        }
    }

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        for (octets, expected) in [
            (&[0x82, 5][..], (Kind::Data, 2, 5)),
            (&[0x01, 126, 1, 0], (Kind::Data, 4, 256)),
            (
                &[0x80, 127, 0, 0, 0, 0, 0, 1, 0, 0],
                (Kind::Data, 10, 65_536),
            ),
            (&[0x88, 2], (Kind::Close, 2, 2)),
            (&[0x89, 0], (Kind::Ping, 2, 0)),
        ] {
            for end in 0..octets.len() {
                assert_eq!(Head::parse(&octets[..end]).unwrap(), None);
            }
            let head = Head::parse(octets).unwrap().unwrap();
            assert_eq!((head.kind, head.head, head.payload), expected);
        }
        for wrong in [
            &[0xc1, 0][..],
            &[0x81, 0x80],
            &[0x83, 0],
            &[0x82, 127, 1, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert!(Head::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
