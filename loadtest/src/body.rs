//! What a message's body says: who sent it, which of his it is, and when it was due.

use std::time::Duration;

use bytes::Bytes;

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

    /// The message that this is the body of; `None` when an octet differs from what was written.
    pub(crate) fn read(&self, body: &[u8]) -> Option<Stamp> {
        let (head, filler) = body.split_at_checked(HEAD_BYTES as usize)?;
        let head = str::from_utf8(head).ok()?;
        let number = |from, to| u64::from_str_radix(head.get(from..to)?, 16).ok();
        if number(0, 8)? != u64::from(self.run) || filler != self.filler {
            return None;
        }
        Some(Stamp {
            user: number(8, 16)?.try_into().ok()?,
            seq: number(16, 24)?.try_into().ok()?,
            due: Duration::from_nanos(number(24, 40)?),
        })
    }
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
        for at in [0, 7, 41, 63] {
            let mut damaged = body.to_vec();
            damaged[at] ^= 0x40;
            assert_eq!(bodies.read(&damaged), None, "octet {at}");
        }
        assert_eq!(bodies.read(&body[..63]), None);
        let other = Bodies::new(8, 64, &mut fastrand::Rng::with_seed(1));
        assert_eq!(other.read(&body), None, "the body of another run");
    }
}
