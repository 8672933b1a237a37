//! The message model: what is sent, what is accepted, and the names that both carry.

mod id;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use uuid::Uuid;

pub use self::id::{ID_LEN, MessageId, TIME_LEN};

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

macro_rules! display {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

display!(RoomName, UserName, IdempotencyKey, GatewayId);

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
