//! What a message's body says: who sent it, which of his it is, and when it was due.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;

use crate::target::Checks;

/// Octets that name the message; what follows is filler.
pub(crate) const HEAD_BYTES: u32 = 40;

/// A message of this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The sender's number in the run.
    pub user: u32,
    /// Which of the sender's messages it is, from 0.
    pub seq: u32,
    /// When it was due, since the run's start.
    pub due: Duration,
}

/// Writes and reads the bodies of one run. A body is text: 8 hexadecimal digits each of the run,
/// the user and the sequence, 16 of the nanoseconds, then the same filler in every message.
#[derive(Clone, Debug)]
pub(crate) struct Bodies {
    run: u32,
    filler: Bytes,
}

impl Bodies {
    /// Bodies of `size` octets, at least [`HEAD_BYTES`]. Those of another `run` are told apart.
    pub(crate) fn new(run: u32, size: u32, rng: &mut fastrand::Rng) -> Self {
        let filler = (HEAD_BYTES..size)
            .map(|_| rng.alphanumeric() as u8)
            .collect();
        Self { run, filler }
    }

    /// The body of a message.
    pub(crate) fn write(&self, stamp: Stamp) -> Bytes {
        let Stamp { user, seq, due } = stamp;
        let head = format!("{:08x}{user:08x}{seq:08x}{:016x}", self.run, nanos(due));
        [head.as_bytes(), &self.filler].concat().into()
    }

    /// What follows the head of a message's SEND: the headers that differ from message to message, and
    /// the body. Its receipt names the run and the sequence, and so does its idempotency key, where the
    /// server knows such.
    pub(crate) fn send(&self, stamp: Stamp, checks: Checks, out: &mut Vec<u8>) {
        let Stamp { user, seq, due } = stamp;
        let (run, size) = (self.run, self.filler.len() + HEAD_BYTES as usize);
        let written = (|| {
            if checks.receipts {
                writeln!(out, "receipt:{run:08x}.{seq}")?;
            }
            if checks.ids {
                writeln!(out, "idempotency-key:{run:08x}.{seq}")?;
            }
            let nanos = nanos(due);
            write!(
                out,
                "content-length:{size}\n\n{run:08x}{user:08x}{seq:08x}{nanos:016x}"
            )
        })();
        written.expect("a vector takes all that is written");
        out.extend_from_slice(&self.filler);
        out.push(0);
    }

    /// Which message a receipt of [`send`](Self::send) is for: `Some(None)` where it is of another run,
    /// and `None` where nobody asked for it.
    pub(crate) fn receipt(&self, text: &[u8]) -> Option<Option<usize>> {
        let run = hex(text.get(..8)?)?;
        let seq = text[8..].strip_prefix(b".")?;
        let seq = str::from_utf8(seq).ok()?.parse().ok()?;
        Some((run == u64::from(self.run)).then_some(seq))
    }

    /// Whether this is a body of the same shape, from another run.
    pub(crate) fn is_of_another(&self, body: &[u8]) -> bool {
        let run = body.get(..8).and_then(hex);
        let head = body.get(8..HEAD_BYTES as usize);
        run.is_some_and(|run| run != u64::from(self.run))
            && head.is_some_and(|head| head.iter().all(u8::is_ascii_hexdigit))
    }

    /// The message that this is the body of; `None` when an octet differs from what was written.
    pub(crate) fn read(&self, body: &[u8]) -> Option<Stamp> {
        let (head, filler) = body.split_at_checked(HEAD_BYTES as usize)?;
        if hex(&head[..8])? != u64::from(self.run) || filler != self.filler {
            return None;
        }
        Some(Stamp {
            user: hex(&head[8..16])?.try_into().ok()?,
            seq: hex(&head[16..24])?.try_into().ok()?,
            due: Duration::from_nanos(hex(&head[24..])?),
        })
    }
}

/// At most 16 lower-case hexadecimal digits. The library's reader takes signs and capitals too, at
/// several times the cost.
fn hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(digit))
    })
}

fn nanos(due: Duration) -> u64 {
    u64::try_from(due.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_names_its_message_and_any_other_octet_is_noticed() {
        let bodies = Bodies::new(7, 64, &mut fastrand::Rng::with_seed(1));
        let stamp = Stamp {
            user: 3,
            seq: 0xffff_fff0,
            due: Duration::from_nanos(123_456_789),
        };
        let body = bodies.write(stamp);
        assert_eq!(body.len(), 64);
        assert_eq!(bodies.read(&body), Some(stamp));
        for at in [0, 7, 25, 41, 63] {
            let mut damaged = body.to_vec();
            damaged[at] ^= 0x40;
            assert_eq!(bodies.read(&damaged), None, "octet {at}");
        }
        assert_eq!(bodies.read(&body[..63]), None);
        let other = Bodies::new(8, 64, &mut fastrand::Rng::with_seed(1));
        assert_eq!(other.read(&body), None, "the body of another run");
        assert!(other.is_of_another(&body) && !bodies.is_of_another(&body));
        assert!(!bodies.is_of_another(b"anything else that is as long as a body of this run"));
    }

    #[test]
    fn a_send_ends_with_the_body_and_its_receipt_names_the_message() {
        let bodies = Bodies::new(7, 64, &mut fastrand::Rng::with_seed(1));
        let stamp = Stamp {
            user: 3,
            seq: 12,
            due: Duration::from_micros(5),
        };
        let mut out = Vec::new();
        bodies.send(stamp, Checks::ALL, &mut out);
        let text = String::from_utf8(out).unwrap();
        let (headers, body) = text.split_once("\n\n").unwrap();
        assert_eq!(body.as_bytes()[..64], bodies.write(stamp)[..]);
        assert_eq!(&body[64..], "\0");
        assert_eq!(
            headers,
            "receipt:00000007.12\nidempotency-key:00000007.12\ncontent-length:64"
        );
        assert_eq!(bodies.receipt(b"00000007.12"), Some(Some(12)));
        assert_eq!(bodies.receipt(b"00000008.12"), Some(None));
        assert_eq!(bodies.receipt(b"12"), None);
    }
}
