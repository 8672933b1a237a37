//! Why octets are no STOMP frame.

/// The first thing that was wrong with what was fed to a [`Decoder`](super::Decoder). Each text
/// tells the author of a client what to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The frame has more octets than [`Limits::frame_bytes`](super::Limits::frame_bytes).
    #[error("the frame is larger than {limit} octets")]
    TooLarge {
        /// The limit, in octets.
        limit: usize,
    },
    /// A header line has more octets than
    /// [`Limits::header_bytes`](super::Limits::header_bytes).
    #[error("a header is longer than {limit} octets")]
    HeaderTooLong {
        /// The limit, in octets.
        limit: usize,
    },
    /// The header lines have more octets than
    /// [`Limits::headers_bytes`](super::Limits::headers_bytes).
    #[error("the headers are longer than {limit} octets together")]
    HeadersTooLong {
        /// The limit, in octets.
        limit: usize,
    },
    /// There are more header lines than [`Limits::headers`](super::Limits::headers).
    #[error("the frame has more than {limit} headers")]
    TooManyHeaders {
        /// The limit.
        limit: usize,
    },
    /// The first line is no command of STOMP 1.0 to 1.2; commands are case-sensitive.
    #[error("unknown command: a frame starts with a STOMP command in capitals on its own line")]
    UnknownCommand,
    /// A header line has no colon.
    #[error("a header line has no colon")]
    HeaderWithoutColon,
    /// A header line starts with its colon.
    #[error("a header has no name before its colon")]
    HeaderWithoutName,
    /// A NUL before the empty line that ends the headers.
    #[error("a NUL octet before the empty line that ends the headers")]
    NulInHeaders,
    /// A backslash that starts no escape of the version in use.
    #[error("a header has a backslash that starts no escape of this version of STOMP")]
    BadEscape,
    /// A carriage return that no line feed follows.
    #[error("a carriage return without a line feed")]
    BareCarriageReturn,
    /// A header is not UTF-8.
    #[error("a header is not UTF-8")]
    NotUtf8,
    /// `content-length` is no number of octets.
    #[error("content-length is not a number of octets")]
    BadContentLength,
    /// A body on a frame other than SEND, MESSAGE and ERROR.
    #[error("only SEND, MESSAGE and ERROR may have a body")]
    BodyNotAllowed,
    /// `content-length` octets were read and something else than NUL follows.
    #[error("no NUL octet where content-length says that the body ends")]
    MissingNul,
}

impl DecodeError {
    /// Whether a limit was passed, as against a rule broken.
    pub fn is_too_large(self) -> bool {
        match self {
            Self::TooLarge { .. }
            | Self::HeaderTooLong { .. }
            | Self::HeadersTooLong { .. }
            | Self::TooManyHeaders { .. } => true,
            Self::UnknownCommand
            | Self::HeaderWithoutColon
            | Self::HeaderWithoutName
            | Self::NulInHeaders
            | Self::BadEscape
            | Self::BareCarriageReturn
            | Self::NotUtf8
            | Self::BadContentLength
            | Self::BodyNotAllowed
            | Self::MissingNul => false,
        }
    }
}
