//! Where frames and messages end among a WebSocket's octets (RFC 6455, section 5.2).

/// The longest header of a frame.
const HEADER: usize = 14;

/// Follows the octets that a client sends, in whatever pieces they come. The WebSocket library tells
/// of whole messages only, and nobody would know how long half of one has been there.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    header: [u8; HEADER],
    /// Octets of the header that have come.
    have: usize,
    /// Octets of the payload that have not come.
    left: u64,
    /// Whether the next data frame goes on with a message.
    fragmented: bool,
}

impl Framing {
    /// Goes past these octets.
    pub(crate) fn feed(&mut self, mut octets: &[u8]) {
        while let Some((first, rest)) = octets.split_first() {
            if self.left > 0 {
                let here = self.left.min(octets.len() as u64);
                self.left -= here;
                octets = &octets[here as usize..];
                continue;
            }
            self.header[self.have] = *first;
            self.have += 1;
            octets = rest;
            self.end_header();
        }
    }

    /// Whether a frame, or a message in fragments, has begun and not ended.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.have > 0 || self.left > 0 || self.fragmented
    }

    fn end_header(&mut self) {
        let [first, second, extended @ ..] = &self.header;
        let length = second & 0x7f;
        let more = match length {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        if self.have < 2 || self.have < 2 + more + mask {
            return;
        }
        self.left = match more {
            0 => length.into(),
            _ => extended[..more]
                .iter()
                .fold(0, |all, octet| all << 8 | u64::from(*octet)),
        };
        let (is_last, is_control) = (first & 0x80 != 0, first & 0x08 != 0);
        if !is_control {
            self.fragmented = !is_last;
        }
        self.have = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::Framing;

    const MASK: [u8; 4] = [1, 2, 3, 4];

    fn frame(first: u8, payload: usize) -> Vec<u8> {
        let length = match payload {
            0..=125 => vec![0x80 | payload as u8],
            126..=0xffff => [&[0x80 | 126], &(payload as u16).to_be_bytes()[..]].concat(),
            _ => [&[0x80 | 127], &(payload as u64).to_be_bytes()[..]].concat(),
        };
        [&[first], &length[..], &MASK, &vec![0xff; payload]].concat()
    }

    #[test]
    fn a_frame_is_unfinished_from_its_first_octet_to_its_last() {
        for payload in [0, 1, 125, 126, 300, 70_000] {
            for first in [0x81, 0x82, 0x89] {
                let octets = frame(first, payload);
                let mut framing = Framing::default();
                for octet in &octets[..octets.len() - 1] {
                    framing.feed(&[*octet]);
                    assert!(framing.is_unfinished());
                }
                framing.feed(&octets[octets.len() - 1..]);
                assert!(!framing.is_unfinished(), "{first:x} {payload}");
            }
        }
    }

    #[test]
    fn a_message_in_fragments_is_unfinished_to_the_last_whatever_control_frames_come() {
        let mut framing = Framing::default();
        framing.feed(&frame(0x01, 5));
        for next in [frame(0x89, 3), frame(0x00, 0), frame(0x8a, 0)] {
            framing.feed(&next);
            assert!(framing.is_unfinished());
        }
        framing.feed(&frame(0x80, 2));
        assert!(!framing.is_unfinished());
        framing.feed(&[frame(0x89, 3), frame(0x81, 4), vec![0x81]].concat());
        assert!(framing.is_unfinished());
    }

    #[test]
    fn no_length_is_too_long_to_follow() {
        let mut framing = Framing::default();
        framing.feed(&[0x81, 0xff]);
        framing.feed(&[0xff; 12]);
        framing.feed(&[0; 100_000]);
        assert!(framing.is_unfinished());
    }
}
