//! Ids of messages, and how they are read.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use super::{InvalidName, Stamp};

/// The length of a time as clients read it.
pub const TIME_LEN: usize = "2026-01-01T00:00:00.000Z".len();

/// The length of a message's id as text.
pub const ID_LEN: usize = 36;

/// Milliseconds.
const DAY: u64 = 86_400_000;

/// A message's id: a UUID of version 7 (RFC 9562, section 5.7) made of the stamp and the shard.
///
/// 48 bits of milliseconds, the version, 12 bits and then 46 bits of sequence with the variant
/// between them, and 16 bits of shard. It sorts by time as text and as octets, and nothing of the
/// stamp is lost, so that an id leads back to its stream entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(Uuid);

impl MessageId {
    /// Less than every id that a broker gives.
    pub const MIN: Self = Self(Uuid::nil());

    const SEQ_LOW_BITS: u32 = 46;

    /// The sequence's highest bit, which no stream reaches.
    const EPHEMERAL: u64 = 1 << 57;

    /// The id of what was accepted at `stamp` in `shard`. Bits of the stamp beyond 48 and 58 are
    /// cut off; no clock or stream reaches them.
    pub fn new(stamp: Stamp, shard: u16) -> Self {
        let high = (stamp.seq >> Self::SEQ_LOW_BITS) & 0xfff;
        let low = stamp.seq & ((1 << Self::SEQ_LOW_BITS) - 1);
        let first = (stamp.ms << 16) | 0x7000 | high;
        let second = (0b10 << 62) | (low << 16) | u64::from(shard);
        Self(Uuid::from_u64_pair(first, second))
    }

    /// The id of what is ephemeral. No message that is stored can have it.
    pub fn ephemeral(Stamp { ms, seq }: Stamp, shard: u16) -> Self {
        let seq = seq | Self::EPHEMERAL;
        Self::new(Stamp { ms, seq }, shard)
    }

    /// Whether it is the id of what is ephemeral. By whose clock it was made is not said, so that
    /// "after" it means nothing.
    pub fn is_ephemeral(self) -> bool {
        self.stamp().seq & Self::EPHEMERAL != 0
    }

    /// The stamp that it was made of.
    pub fn stamp(self) -> Stamp {
        let (first, second) = self.0.as_u64_pair();
        let low = (second >> 16) & ((1 << Self::SEQ_LOW_BITS) - 1);
        Stamp {
            ms: first >> 16,
            seq: ((first & 0xfff) << Self::SEQ_LOW_BITS) | low,
        }
    }

    /// The shard that it was accepted in.
    pub fn shard(self) -> u16 {
        (self.0.as_u64_pair().1 & 0xffff) as u16
    }

    /// The id next below it that a message of the same room may have: [`Span::After`](super::Span::After)
    /// it begins with this one.
    #[must_use]
    pub fn before(self) -> Self {
        let Stamp { ms, seq } = self.stamp();
        let stamp = match (ms, seq) {
            (0, 0) => return Self::MIN,
            (_, 0) => Stamp {
                ms: ms - 1,
                seq: Self::EPHEMERAL - 1,
            },
            _ => Stamp { ms, seq: seq - 1 },
        };
        Self::new(stamp, self.shard())
    }

    /// When it was accepted, by the broker's clock.
    pub fn created_at(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.stamp().ms)
    }

    /// When it was accepted, as clients read it: RFC 3339 in UTC with milliseconds. Times after the
    /// year 9999, which it cannot express, show as its end.
    pub fn created_at_rfc3339(self) -> String {
        self.write_created_at(&mut [0; TIME_LEN]).to_owned()
    }

    /// The same, into memory that the caller has.
    pub fn write_created_at(self, text: &mut [u8; TIME_LEN]) -> &str {
        const END_OF_9999: u64 = 253_402_300_799_999;
        let ms = self.stamp().ms.min(END_OF_9999);
        let (days, of_day) = (ms / DAY, ms % DAY);
        let (year, month, day) = date(days);
        *text = *b"0000-00-00T00:00:00.000Z";
        for (value, end) in [
            (year, 4),
            (month, 7),
            (day, 10),
            (of_day / 3_600_000, 13),
            (of_day / 60_000 % 60, 16),
            (of_day / 1_000 % 60, 19),
            (of_day % 1_000, 23),
        ] {
            let (mut rest, mut at) = (value, end);
            while rest > 0 {
                at -= 1;
                text[at] = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
        str::from_utf8(text).expect("it is made of ASCII digits and signs")
    }

    /// The id as text, into memory that the caller has.
    pub fn write(self, text: &mut [u8; ID_LEN]) -> &str {
        self.0.hyphenated().encode_lower(text)
    }

    /// The id as a UUID, for stores.
    pub fn uuid(self) -> Uuid {
        self.0
    }

    /// Takes a UUID back from a store.
    ///
    /// # Errors
    /// [`InvalidName::Id`] when it is not of version 7 and the RFC's variant.
    pub fn from_uuid(uuid: Uuid) -> Result<Self, InvalidName> {
        let (first, second) = uuid.as_u64_pair();
        if (first >> 12) & 0xf != 7 || second >> 62 != 0b10 {
            return Err(InvalidName::Id);
        }
        Ok(Self(uuid))
    }
}

/// The year, month and day that begin so many days after 1970 does: the algorithm `civil_from_days`
/// of Howard Hinnant, in which years begin with March, so that a leap day is a year's last.
fn date(days: u64) -> (u64, u64, u64) {
    // From the first of March of the year 0, of which 400 years have 146,097 days.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

impl FromStr for MessageId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uuid = Uuid::try_parse(text).map_err(|_| InvalidName::Id)?;
        Self::from_uuid(uuid)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
