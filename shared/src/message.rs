//! The message model: what is sent, what is accepted, and the names that both carry.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use uuid::Uuid;

/// The length of a time as clients read it.
pub const TIME_LEN: usize = "2026-01-01T00:00:00.000Z".len();

/// The length of a message's id as text.
pub const ID_LEN: usize = 36;

/// Milliseconds.
const DAY: u64 = 86_400_000;

/// What the name of every user's queue begins with.
const USER: &str = "user/";

/// What a client asks to have delivered: a message before the broker has given it an id.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The room to deliver it to.
    pub room: RoomName,
    /// Who authenticated on the connection that sent it; never what a header claims.
    pub sender: UserName,
    /// The MIME type that the sender gave.
    pub content_type: Option<Arc<str>>,
    /// Application headers to pass on, in the sender's order.
    pub headers: Headers,
    /// The body, octet for octet.
    pub body: Bytes,
    /// A repeat with the same sender, room and key within 10 minutes is the same message.
    pub idempotency_key: Option<IdempotencyKey>,
    /// The newest message that the publisher has seen in the room: the new id is greater, even
    /// when the broker's clock has run back.
    pub newer_than: Option<MessageId>,
    /// The gateway to notify once the message is stored, when a receipt waits for that.
    pub notify: Option<GatewayId>,
    /// The drafts whose order its sender relies on.
    pub series: Series,
    /// To be delivered to those who listen now, and never stored. It stands in no series.
    pub ephemeral: bool,
}

impl Draft {
    /// The message that it has become: its id, and the one before it in its room.
    pub fn accepted(self, id: MessageId, prev: Option<MessageId>) -> Message {
        Message {
            id,
            room: self.room,
            sender: self.sender,
            content_type: self.content_type,
            headers: self.headers,
            body: self.body,
            idempotency_key: self.idempotency_key,
            prev,
            ephemeral: self.ephemeral,
        }
    }
}

/// Drafts whose order their sender relies on: once one of them was not accepted, none that follows
/// it is. The sender repeats them all, and what it repeats must not come after what it sent later.
#[derive(Clone, Debug, Default)]
pub struct Series(Arc<AtomicBool>);

impl Series {
    /// One of them was not accepted.
    pub fn fail(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Tells it from every other series that is alive.
    pub(crate) fn identity(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Whether one of them was not accepted.
    pub fn has_failed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// An accepted message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Unique; its order is the order of the room, its time is `created_at`.
    pub id: MessageId,
    /// The room that it was sent to.
    pub room: RoomName,
    /// Who sent it.
    pub sender: UserName,
    /// The MIME type that the sender gave.
    pub content_type: Option<Arc<str>>,
    /// Application headers, in the sender's order.
    pub headers: Headers,
    /// The body, octet for octet.
    pub body: Bytes,
    /// The key that the sender gave.
    pub idempotency_key: Option<IdempotencyKey>,
    /// The message before it in the room, where the broker knew it when it accepted this one.
    /// A store does not keep it.
    pub prev: Option<MessageId>,
    /// It was for those who listened, and is in no store. Its id is unique, and has no place in
    /// the order of the room.
    pub ephemeral: bool,
}

/// Application headers of a message, in order.
pub type Headers = Vec<(Box<str>, Box<str>)>;

/// A room: 1–128 characters of `[A-Za-z0-9._~:@-]`, or [one user's queue](Self::queue).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomName(Arc<str>);

impl RoomName {
    /// The longest name, in octets.
    pub const MAX_LEN: usize = 128;

    /// Checks a name that a client gives.
    ///
    /// # Errors
    /// [`InvalidName::Room`] when the text is no room name.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._~:@-".contains(&b);
        if text.is_empty() || text.len() > Self::MAX_LEN || !text.bytes().all(allowed) {
            return Err(InvalidName::Room);
        }
        Ok(Self(text.into()))
    }

    /// The room behind a queue of one user: `queue` is what follows `/user/` in the destination
    /// that the user subscribes to, such as `queue/errors`. Its name has slashes, so that no text
    /// from a client [is parsed](Self::parse) as it.
    ///
    /// # Errors
    /// [`InvalidName::Queue`] when the text is no queue's name.
    pub fn queue(user: &UserName, queue: &str) -> Result<Self, InvalidName> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._~:@-/".contains(&b);
        let name = queue
            .strip_prefix("queue/")
            .or_else(|| queue.strip_prefix("topic/"));
        if name.is_none_or(|name| name.is_empty() || name.len() > Self::MAX_LEN)
            || !queue.bytes().all(allowed)
        {
            return Err(InvalidName::Queue);
        }
        let user = utf8_percent_encode(user.as_str(), NON_ALPHANUMERIC);
        Ok(Self(format!("{USER}{user}/{queue}").into()))
    }

    /// Takes a name back from where it was kept, a queue's too.
    ///
    /// # Errors
    /// [`InvalidName`] when it is neither.
    pub fn recorded(text: &str) -> Result<Self, InvalidName> {
        let Some((user, queue)) = text
            .strip_prefix(USER)
            .and_then(|rest| rest.split_once('/'))
        else {
            return Self::parse(text);
        };
        let user = percent_decode_str(user)
            .decode_utf8()
            .map_err(|_| InvalidName::User)?;
        Self::queue(&UserName::parse(&user)?, queue)
    }

    /// Whether it is one user's queue.
    pub fn is_queue(&self) -> bool {
        self.0.starts_with(USER)
    }

    /// Whether it is a queue of this user.
    pub fn is_queue_of(&self, user: &UserName) -> bool {
        let Some((owner, _)) = self.0.strip_prefix(USER).and_then(|of| of.split_once('/')) else {
            return false;
        };
        utf8_percent_encode(user.as_str(), NON_ALPHANUMERIC)
            .flat_map(str::bytes)
            .eq(owner.bytes())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Who sends: 1–128 octets of text without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserName(Arc<str>);

impl UserName {
    /// The longest name, in octets.
    pub const MAX_LEN: usize = 128;

    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidName::User`] when the text is no user name.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        if text.is_empty() || text.len() > Self::MAX_LEN || text.chars().any(char::is_control) {
            return Err(InvalidName::User);
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A sender's own name for a message: 1–256 octets of text without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Arc<str>);

impl IdempotencyKey {
    /// The longest key, in octets.
    pub const MAX_LEN: usize = 256;

    /// Checks a key.
    ///
    /// # Errors
    /// [`InvalidName::Key`] when the text is no key.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        if text.is_empty() || text.len() > Self::MAX_LEN || text.chars().any(char::is_control) {
            return Err(InvalidName::Key);
        }
        Ok(Self(text.into()))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An idempotency key that a sender has used in a room, and the message that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedKey {
    /// The message.
    pub id: MessageId,
    /// Its room.
    pub room: RoomName,
    /// Its sender.
    pub sender: UserName,
    /// The key.
    pub key: IdempotencyKey,
}

/// Why a text is not the name it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Not a room.
    #[error("a room name is 1 to 128 characters of A-Z a-z 0-9 . _ ~ : @ -")]
    Room,
    /// Not a user's queue.
    #[error("a queue is queue/ or topic/ and 1 to 128 characters of A-Z a-z 0-9 . _ ~ : @ / -")]
    Queue,
    /// Not a user.
    #[error("a user name is 1 to 128 octets without control characters")]
    User,
    /// Not an idempotency key.
    #[error("an idempotency key is 1 to 256 octets without control characters")]
    Key,
    /// The id of an ephemeral message, where one that is stored is meant.
    #[error("it is the id of an ephemeral message, which has no place in the order of the room")]
    Ephemeral,
    /// Not a message id.
    #[error("a message id is a UUID of version 7, as given in `message-id`")]
    Id,
}

/// One gateway process, for as long as it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GatewayId(Uuid);

impl GatewayId {
    /// A new, unique id.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl FromStr for GatewayId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// When a message was accepted: the broker's milliseconds and a sequence within them. It is the
/// id that Redis gives a stream entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stamp {
    /// Milliseconds since 1970, 48 bits.
    pub ms: u64,
    /// The sequence within the millisecond, 58 bits.
    pub seq: u64,
}

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

    /// The id next below it that a message of the same room may have: [`Span::After`] it begins with
    /// this one.
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

macro_rules! display {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

display!(RoomName, UserName, IdempotencyKey, GatewayId, MessageId);

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which messages of a room to read. Every reading is oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// The oldest messages after this one.
    After(MessageId),
    /// The newest messages before this one.
    Before(MessageId),
    /// The newest messages.
    Newest,
}

impl Span {
    /// Whether a message with this id can be in the span.
    pub fn contains(self, id: MessageId) -> bool {
        match self {
            Self::After(bound) => id > bound,
            Self::Before(bound) => id < bound,
            Self::Newest => true,
        }
    }

    /// Cuts ordered messages down to the `limit` that the span names.
    pub fn cut<T>(self, ordered: &mut Vec<T>, limit: usize) {
        match self {
            Self::After(_) => ordered.truncate(limit),
            Self::Before(_) | Self::Newest => {
                ordered.drain(..ordered.len().saturating_sub(limit));
            }
        }
    }
}
