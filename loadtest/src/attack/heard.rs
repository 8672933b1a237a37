//! What a server said to a hostile client, as far as it says how the connection ended.

/// Octets of an answer, or of a frame, that are looked at.
const LOOKED_AT: usize = 512;

/// Opcodes of RFC 6455, section 5.2.
const CLOSE: u8 = 8;

/// What has come on a connection. Of whatever length, it holds a kilobyte.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// What is not understood yet.
    pending: Vec<u8>,
    /// Octets of a frame that come yet and are not looked at.
    skip: u64,
    /// The status of the answer.
    pub(super) status: Option<u16>,
    /// Whether CONNECTED has come.
    pub(super) connected: bool,
    /// The status of the Close frame.
    close: Option<u16>,
    /// The header `code` of the ERROR frame.
    code: Option<String>,
}

impl Heard {
    /// Takes what has come.
    pub(super) fn feed(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            if self.skip > 0 {
                let skipped = (octets.len() as u64).min(self.skip);
                self.skip -= skipped;
                octets = &octets[skipped as usize..];
                continue;
            }
            let (piece, rest) = octets.split_at(octets.len().min(LOOKED_AT));
            self.pending.extend(piece);
            octets = rest;
            while self.understand() {}
            // What is still not understood is no answer to anything.
            if self.pending.len() > 2 * LOOKED_AT {
                self.pending.drain(..LOOKED_AT);
            }
        }
    }

    /// How the connection ended, in a few words that many connections share.
    pub(super) fn ending(&self, is_reset: bool) -> String {
        let mut words = match (self.status, self.close) {
            (Some(101), Some(close)) => format!("closed {close}"),
            (None | Some(101), _) if is_reset => "reset".to_owned(),
            (None | Some(101), _) => "closed without a word".to_owned(),
            (Some(status), _) => format!("HTTP {status}"),
        };
        if let Some(code) = &self.code {
            words = format!("{words} {code}");
        }
        words
    }

    /// Understands one thing more; `false` where more is needed for that.
    fn understand(&mut self) -> bool {
        match self.status {
            None => self.understand_status(),
            Some(101) => self.understand_frame(),
            Some(_) => {
                self.pending.clear();
                false
            }
        }
    }

    fn understand_status(&mut self) -> bool {
        let end = self.pending.windows(4).position(|four| four == b"\r\n\r\n");
        let line = self.pending.get(..12).map(String::from_utf8_lossy);
        let status = line.and_then(|line| line.strip_prefix("HTTP/1.1 ")?.parse().ok());
        match (status, end) {
            // Its headers may be longer than what is looked at.
            (Some(status), _) if status != 101 => self.status = Some(status),
            (Some(status), Some(end)) => {
                self.status = Some(status);
                self.pending.drain(..end + 4);
            }
            _ => return false,
        }
        true
    }

    fn understand_frame(&mut self) -> bool {
        let [first, second, ..] = self.pending[..] else {
            return false;
        };
        let long = |from: usize, to: usize| {
            let octets = self.pending.get(from..to)?;
            Some(
                octets
                    .iter()
                    .fold(0, |all, octet| all << 8 | u64::from(*octet)),
            )
        };
        let (length, head) = match second & 0x7f {
            126 => (long(2, 4), 4),
            127 => (long(2, 10), 10),
            short => (Some(u64::from(short)), 2),
        };
        let Some(length) = length else {
            return false;
        };
        let seen = length.min(LOOKED_AT as u64) as usize;
        if self.pending.len() < head + seen {
            return false;
        }
        let payload = &self.pending[head..head + seen];
        if first & 0x0f == CLOSE {
            if let [high, low, ..] = payload {
                self.close = Some(u16::from_be_bytes([*high, *low]));
            }
        } else if payload.starts_with(b"CONNECTED\n") {
            self.connected = true;
        } else if payload.starts_with(b"ERROR\n") {
            let text = String::from_utf8_lossy(payload);
            let mut lines = text.lines();
            self.code = lines.find_map(|line| Some(line.strip_prefix("code:")?.to_owned()));
        }
        let here = (self.pending.len() as u64).min(head as u64 + length);
        self.pending.drain(..here as usize);
        self.skip = head as u64 + length - here;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::Heard;

    /// Feeds octets whole, then one by one, and tells the ending.
    fn ending(octets: &[u8]) -> String {
        let mut whole = Heard::default();
        whole.feed(octets);
        let mut pieces = Heard::default();
        for octet in octets {
            pieces.feed(&[*octet]);
        }
        assert_eq!(whole.ending(false), pieces.ending(false));
        whole.ending(false)
    }

    #[test]
    fn an_ending_has_the_status_or_the_close_code_and_the_code_of_the_error() {
        assert_eq!(ending(b""), "closed without a word");
        let refused = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n\r\nbusy";
        assert_eq!(ending(refused), "HTTP 503");

        let mut upgraded =
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n".to_vec();
        assert_eq!(ending(&upgraded), "closed without a word");
        let long = [b"MESSAGE\n".as_slice(), &[b'x'; 3000]].concat();
        upgraded.extend([0x81, 126]);
        upgraded.extend((long.len() as u16).to_be_bytes());
        upgraded.extend(long);
        let error = b"ERROR\nmessage:no\ncode:frame-timeout\n\n\0";
        upgraded.extend([0x81, error.len() as u8]);
        upgraded.extend(error);
        upgraded.extend([0x88, 2, 3, 240]);
        assert_eq!(ending(&upgraded), "closed 1008 frame-timeout");
    }

    #[test]
    fn a_reset_is_told_from_an_end() {
        assert_eq!(Heard::default().ending(true), "reset");
    }
}
