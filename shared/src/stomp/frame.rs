//! A frame as a value.

use std::fmt;

use bytes::Bytes;

/// A version of the protocol, in order of age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// No escapes, no heart-beats.
    V1_0,
    /// Escapes without `\r`; a line ends with LF.
    V1_1,
    /// All escapes; a line ends with LF or CR LF.
    V1_2,
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: [Self; 3] = [Self::V1_0, Self::V1_1, Self::V1_2];

    /// The version as `accept-version` and `version` spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_0 => "1.0",
            Self::V1_1 => "1.1",
            Self::V1_2 => "1.2",
        }
    }

    /// The version that is spelt so.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
    }

    /// The highest version that an `accept-version` header offers and that exists here (STOMP
    /// 1.2, Protocol Negotiation).
    pub fn highest(accept_version: &str) -> Option<Self> {
        accept_version
            .split(',')
            .filter_map(|version| Self::parse(version.trim()))
            .max()
    }
}

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What a frame asks or tells.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Command {
            $($(#[$doc])* $name,)*
        }

        impl Command {
            /// Every command of STOMP 1.0, 1.1 and 1.2.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The command as it stands in a frame.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// The command that is spelt so; case matters.
            pub fn parse(text: &[u8]) -> Option<Self> {
                $(if text == $text.as_bytes() {
                    return Some(Self::$name);
                })*
                None
            }
        }
    };
}

commands! {
    /// Client: publish a message.
    Send = "SEND",
    /// Client: open a subscription.
    Subscribe = "SUBSCRIBE",
    /// Client: close a subscription.
    Unsubscribe = "UNSUBSCRIBE",
    /// Client: a message has been dealt with.
    Ack = "ACK",
    /// Client: a message will not be dealt with.
    Nack = "NACK",
    /// Client: open a transaction.
    Begin = "BEGIN",
    /// Client: carry a transaction out.
    Commit = "COMMIT",
    /// Client: drop a transaction.
    Abort = "ABORT",
    /// Client: end the session.
    Disconnect = "DISCONNECT",
    /// Client: open the session.
    Connect = "CONNECT",
    /// Client: the same as CONNECT, since 1.1.
    Stomp = "STOMP",
    /// Server: the session is open.
    Connected = "CONNECTED",
    /// Server: a message of a subscription.
    Message = "MESSAGE",
    /// Server: a frame that asked for it has been dealt with.
    Receipt = "RECEIPT",
    /// Server: what went wrong, before it closes.
    Error = "ERROR",
}

impl Command {
    /// Whether its frames may have a body (STOMP 1.2, Body).
    pub fn may_have_body(self) -> bool {
        matches!(self, Self::Send | Self::Message | Self::Error)
    }

    /// Whether its headers are escaped where the version has escapes. CONNECT and CONNECTED never
    /// are, for the sake of 1.0 (STOMP 1.2, Value Encoding); STOMP is CONNECT by another name.
    pub fn escapes(self) -> bool {
        !matches!(self, Self::Connect | Self::Stomp | Self::Connected)
    }
}

/// One frame, with its headers and body unescaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it asks or tells.
    pub command: Command,
    /// Its headers, in order.
    pub headers: HeaderList,
    /// Its body, octet for octet.
    pub body: Bytes,
}

impl Frame {
    /// A frame without headers and body.
    pub fn new(command: Command) -> Self {
        Self {
            command,
            headers: HeaderList::default(),
            body: Bytes::new(),
        }
    }

    /// The frame with one more header.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push(name, value);
        self
    }

    /// The frame with this body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The value of a header; of repeated ones the first counts (STOMP 1.2, Repeated Header
    /// Entries).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(each, _)| *each == name)
            .map(|(_, value)| value)
    }
}

/// Headers in order, repeated ones included. One text holds them all, so that a frame costs two
/// allocations however many it has.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HeaderList {
    text: String,
    /// Where each name and each value ends in `text`.
    ends: Vec<(usize, usize)>,
}

impl HeaderList {
    /// Appends a header.
    pub fn push(&mut self, name: &str, value: &str) {
        self.text.push_str(name);
        let name_end = self.text.len();
        self.text.push_str(value);
        self.ends.push((name_end, self.text.len()));
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut start = 0;
        self.ends.iter().map(move |&(name_end, end)| {
            let name = &self.text[start..name_end];
            start = end;
            (name, &self.text[name_end..end])
        })
    }

    /// How many headers there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// A list with room for so many octets of names and values, and a few headers.
    pub(super) fn with_room(octets: usize) -> Self {
        Self {
            text: String::with_capacity(octets),
            ends: Vec::with_capacity(8),
        }
    }

    /// Octets of all names and values.
    pub fn text_len(&self) -> usize {
        self.text.len()
    }

    /// Appends the header that `write` adds to the text; it returns where the name ends.
    pub(super) fn push_with<E>(
        &mut self,
        write: impl FnOnce(&mut String) -> Result<usize, E>,
    ) -> Result<(), E> {
        let name_end = write(&mut self.text)?;
        self.ends.push((name_end, self.text.len()));
        Ok(())
    }
}

impl fmt::Debug for HeaderList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A log must not show what a client authenticates with.
        const SECRETS: [&str; 6] = [
            "passcode",
            "authorization",
            "x-authorization",
            "x-auth-token",
            "x-csrf-token",
            "x-xsrf-token",
        ];
        let hide = |name: &str| SECRETS.iter().any(|it| name.eq_ignore_ascii_case(it));
        f.debug_map()
            .entries(
                self.iter()
                    .map(|(name, value)| (name, if hide(name) { "…" } else { value })),
            )
            .finish()
    }
}
