//! From octets to frames, in whatever pieces the octets come.

use std::mem;

use bytes::{Buf, Bytes, BytesMut};

use super::escape::unescape;
use super::{Command, DecodeError, Frame, HeaderList, Version};

/// A body of at least so many octets is handed out without copying it, unless most of what was read
/// with it is something else: whoever keeps the body would keep that alive too.
const SHARE_FROM: usize = 1024;

/// How many times as large as a body may be what it keeps alive.
const SHARE_OF: usize = 4;

/// What most frames' headers fit in, in octets.
const HEADERS_ROOM: usize = 512;

/// The longest command, UNSUBSCRIBE.
const COMMAND_BYTES: usize = 11;

/// What a frame may be at most (STOMP 1.2, Size Limits). They hold before memory is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets of a frame from its command to its NUL, both included. Default: 64 KiB.
    pub frame_bytes: usize,
    /// Header lines. Default: 100.
    pub headers: usize,
    /// Octets of one header line without its end. Default: 8 KiB.
    pub header_bytes: usize,
    /// Octets of all header lines without their ends. Default: 64 KiB.
    pub headers_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes: 64 << 10,
            headers: 100,
            header_bytes: 8 << 10,
            headers_bytes: 64 << 10,
        }
    }
}

/// What a [`Decoder`] finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A frame.
    Frame(Frame),
    /// The end of a line between frames: a heart-beat, or what clients like to put after a NUL.
    HeartBeat,
}

/// Cuts a stream of octets into frames, for a server or a client.
///
/// Feed it, take everything that [`next`](Self::next) has, feed it again. How the octets are cut
/// into pieces makes no difference to the outcome. Between two feeds it holds at most the part of
/// one frame that has come, which is within the limits, and no memory when that is nothing.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    version: Option<Version>,
    buffer: BytesMut,
    /// Octets of the memory in which `buffer` lies, what it has handed out included.
    allocated: usize,
    /// How much of `buffer` has been searched in vain for the end of the line or body.
    searched: usize,
    state: State,
    /// The `receipt` of the frame that failed.
    failed_receipt: Option<Box<str>>,
}

#[derive(Debug)]
enum State {
    Between,
    Command,
    Headers(Head),
    Body(Head, Option<usize>),
    Failed(DecodeError),
}

enum Between {
    HeartBeat,
    Frame,
    Wait,
}

enum Header {
    One,
    End,
    Wait,
}

/// What is known of a frame before its body is there.
#[derive(Debug)]
struct Head {
    command: Command,
    headers: HeaderList,
    /// Octets of the frame that have left the buffer.
    taken: usize,
    /// Octets of header lines among them.
    header_bytes: usize,
}

impl Decoder {
    /// A decoder for one connection, before its version is known.
    pub fn new(limits: Limits) -> Self {
        let buffer = BytesMut::new();
        Self {
            limits,
            version: None,
            buffer,
            allocated: 0,
            searched: 0,
            state: State::Between,
            failed_receipt: None,
        }
    }

    /// Sets the version that was negotiated; the frames that follow are read by its rules. Until
    /// then those of 1.2 hold, with any line end in CONNECT and CONNECTED.
    pub fn set_version(&mut self, version: Version) {
        self.version = Some(version);
    }

    /// Takes octets in. They are kept until [`next`](Self::next) has used them, so the caller
    /// bounds what it feeds at once; after an error they are dropped.
    pub fn feed(&mut self, octets: &[u8]) {
        if !matches!(self.state, State::Failed(_)) {
            let capacity = self.buffer.capacity();
            self.buffer.extend_from_slice(octets);
            // It only grows by moving to the start of an allocation.
            if self.buffer.capacity() > capacity {
                self.allocated = self.buffer.capacity();
            }
        }
    }

    /// The next frame or heart-beat, or `None` when more octets are needed.
    ///
    /// # Errors
    /// [`DecodeError`] for what can never become a frame. Every later call returns the same error.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator would not continue after None"
    )]
    pub fn next(&mut self) -> Result<Option<Decoded>, DecodeError> {
        let step = self.step();
        if let Err(error) = step {
            self.state = State::Failed(error);
            self.buffer = BytesMut::new();
        } else if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        step
    }

    /// Octets that are held for a frame which is not complete.
    pub fn buffered(&self) -> usize {
        let headers = match &self.state {
            State::Headers(head) | State::Body(head, _) => head.headers.text_len(),
            State::Between | State::Command | State::Failed(_) => 0,
        };
        self.buffer.len() + headers
    }

    /// Whether a frame, or a line end between frames, has begun and is not complete.
    pub fn is_unfinished(&self) -> bool {
        match self.state {
            State::Between => !self.buffer.is_empty(),
            State::Command | State::Headers(_) | State::Body(..) => true,
            State::Failed(_) => false,
        }
    }

    /// The header `receipt` of the frame that is not complete, or of the one that failed, where it
    /// was read before: what an ERROR about that frame should name (STOMP 1.2, section "ERROR").
    pub fn receipt(&self) -> Option<&str> {
        match &self.state {
            State::Headers(head) | State::Body(head, _) => head.receipt(),
            State::Failed(_) => self.failed_receipt.as_deref(),
            State::Between | State::Command => None,
        }
    }

    fn step(&mut self) -> Result<Option<Decoded>, DecodeError> {
        loop {
            match mem::replace(&mut self.state, State::Between) {
                State::Between => match self.between()? {
                    Between::HeartBeat => return Ok(Some(Decoded::HeartBeat)),
                    Between::Frame => self.state = State::Command,
                    Between::Wait => return Ok(None),
                },
                State::Command => {
                    let Some(head) = self.command()? else {
                        self.state = State::Command;
                        return Ok(None);
                    };
                    self.state = State::Headers(head);
                }
                State::Headers(mut head) => match self.header(&mut head) {
                    Err(error) => return Err(self.refuse(&head, error)),
                    Ok(Header::One) => self.state = State::Headers(head),
                    Ok(Header::End) => match self.content_length(&head) {
                        Err(error) => return Err(self.refuse(&head, error)),
                        Ok(length) => self.state = State::Body(head, length),
                    },
                    Ok(Header::Wait) => {
                        self.state = State::Headers(head);
                        return Ok(None);
                    }
                },
                State::Body(head, length) => {
                    let body = self.body(&head, length);
                    let Some(body) = body.map_err(|error| self.refuse(&head, error))? else {
                        self.state = State::Body(head, length);
                        return Ok(None);
                    };
                    let Head {
                        command, headers, ..
                    } = head;
                    return Ok(Some(Decoded::Frame(Frame {
                        command,
                        headers,
                        body,
                    })));
                }
                State::Failed(error) => return Err(error),
            }
        }
    }

    fn refuse(&mut self, head: &Head, error: DecodeError) -> DecodeError {
        self.failed_receipt = head.receipt().map(Box::from);
        error
    }

    /// STOMP 1.2, Augmented BNF: any number of line ends may stand between frames. CR LF counts in
    /// every version, because clients of 1.1 send it as a heart-beat.
    fn between(&mut self) -> Result<Between, DecodeError> {
        let end = match *self.buffer {
            [] | [b'\r'] => return Ok(Between::Wait),
            [b'\n', ..] => 1,
            [b'\r', b'\n', ..] => 2,
            [b'\r', ..] => return Err(DecodeError::BareCarriageReturn),
            _ => return Ok(Between::Frame),
        };
        self.buffer.advance(end);
        Ok(Between::HeartBeat)
    }

    fn command(&mut self) -> Result<Option<Head>, DecodeError> {
        let Some(end) = self.line(COMMAND_BYTES, DecodeError::UnknownCommand)? else {
            return Ok(None);
        };
        let line = &self.buffer[..end];
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        let command = Command::parse(text).ok_or(DecodeError::UnknownCommand)?;
        if text.len() < end && self.rules(command) != Version::V1_2 {
            return Err(DecodeError::UnknownCommand);
        }
        self.buffer.advance(end + 1);
        // Room for what has come already, which is mostly headers, but not for a large body.
        let headers = HeaderList::with_room(self.buffer.len().min(HEADERS_ROOM));
        Ok(Some(Head {
            command,
            headers,
            taken: end + 1,
            header_bytes: 0,
        }))
    }

    fn header(&mut self, head: &mut Head) -> Result<Header, DecodeError> {
        let Limits {
            frame_bytes,
            headers,
            header_bytes,
            headers_bytes,
        } = self.limits;
        // The tightest limit decides, so that the error does not depend on how much has come.
        let (allowed, error) = [
            (
                header_bytes,
                DecodeError::HeaderTooLong {
                    limit: header_bytes,
                },
            ),
            (
                headers_bytes.saturating_sub(head.header_bytes),
                DecodeError::HeadersTooLong {
                    limit: headers_bytes,
                },
            ),
            (
                frame_bytes.saturating_sub(head.taken),
                DecodeError::TooLarge { limit: frame_bytes },
            ),
        ]
        .into_iter()
        .min_by_key(|(allowed, _)| *allowed)
        .expect("there are three limits");
        let Some(end) = self.line(allowed, error)? else {
            return Ok(Header::Wait);
        };
        head.taken += end + 1;

        let rules = self.rules(head.command);
        let mut text = &self.buffer[..end];
        if rules == Version::V1_2 {
            // STOMP 1.2, Augmented BNF: EOL is [CR] LF, and no header holds a CR. In 1.0 and 1.1
            // the CR is part of the header.
            text = text.strip_suffix(b"\r").unwrap_or(text);
            if memchr::memchr(b'\r', text).is_some() {
                return Err(DecodeError::BareCarriageReturn);
            }
        }
        if text.is_empty() {
            self.buffer.advance(end + 1);
            return Ok(Header::End);
        }
        if head.headers.len() == headers {
            return Err(DecodeError::TooManyHeaders { limit: headers });
        }
        head.header_bytes += text.len();
        let text = str::from_utf8(text).map_err(|_| DecodeError::NotUtf8)?;
        // Colons in a value should be escaped, but clients are not strict, and the first one is
        // always the separator. Spaces belong to the value (STOMP 1.2, Value Encoding).
        let colon = memchr::memchr(b':', text.as_bytes());
        let colon = colon.ok_or(DecodeError::HeaderWithoutColon)?;
        let (name, value) = (&text[..colon], &text[colon + 1..]);
        if name.is_empty() {
            return Err(DecodeError::HeaderWithoutName);
        }
        let escapes = if head.command.escapes() {
            rules
        } else {
            Version::V1_0
        };
        // Most lines have none, which is found out at once for both parts.
        if memchr::memchr(b'\\', text.as_bytes()).is_none() {
            head.headers.push(name, value);
        } else {
            head.headers.push_with(|out| {
                unescape(name, escapes, out)?;
                let name_end = out.len();
                unescape(value, escapes, out)?;
                Ok(name_end)
            })?;
        }
        self.buffer.advance(end + 1);
        Ok(Header::One)
    }

    /// STOMP 1.2, Header content-length: a count of octets. What it claims is checked here, before
    /// any of it is waited for.
    fn content_length(&self, head: &Head) -> Result<Option<usize>, DecodeError> {
        let too_large = DecodeError::TooLarge {
            limit: self.limits.frame_bytes,
        };
        let mut lengths = head
            .headers
            .iter()
            .filter(|(name, _)| *name == "content-length");
        let Some((_, text)) = lengths.next() else {
            return Ok(None);
        };
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(DecodeError::BadContentLength);
        }
        let length: usize = text.parse().map_err(|_| too_large)?;
        if length > 0 && !head.command.may_have_body() {
            return Err(DecodeError::BodyNotAllowed);
        }
        if length >= self.limits.frame_bytes.saturating_sub(head.taken) {
            return Err(too_large);
        }
        Ok(Some(length))
    }

    /// STOMP 1.2, Body.
    fn body(&mut self, head: &Head, length: Option<usize>) -> Result<Option<Bytes>, DecodeError> {
        let too_large = DecodeError::TooLarge {
            limit: self.limits.frame_bytes,
        };
        let length = if let Some(length) = length {
            match self.buffer.get(length) {
                None => return Ok(None),
                Some(0) => length,
                Some(_) => return Err(DecodeError::MissingNul),
            }
        } else {
            if !head.command.may_have_body() && self.buffer.first().is_some_and(|b| *b != 0) {
                return Err(DecodeError::BodyNotAllowed);
            }
            let end = self.find(|octets| memchr::memchr(0, octets));
            if end.unwrap_or(self.buffer.len())
                >= self.limits.frame_bytes.saturating_sub(head.taken)
            {
                return Err(too_large);
            }
            let Some(end) = end else {
                return Ok(None);
            };
            end
        };
        let body = if length < SHARE_FROM.max(self.allocated / SHARE_OF) {
            let body = Bytes::copy_from_slice(&self.buffer[..length]);
            self.buffer.advance(length);
            body
        } else {
            self.buffer.split_to(length).freeze()
        };
        self.buffer.advance(1);
        Ok(Some(body))
    }

    /// Where the line that the buffer starts with has its LF, when that is there. `too_long` is
    /// the error for one of more than `allowed` octets, not counting a CR at its end.
    fn line(
        &mut self,
        allowed: usize,
        too_long: DecodeError,
    ) -> Result<Option<usize>, DecodeError> {
        let end = self.find(|octets| memchr::memchr2(b'\n', 0, octets));
        let line = &self.buffer[..end.unwrap_or(self.buffer.len())];
        if line.strip_suffix(b"\r").unwrap_or(line).len() > allowed {
            return Err(too_long);
        }
        let Some(end) = end else {
            return Ok(None);
        };
        if self.buffer[end] == 0 {
            // The grammar lets a header hold a NUL, but what comes here is a frame whose author
            // forgot the empty line: saying so beats waiting for it.
            return Err(DecodeError::NulInHeaders);
        }
        Ok(Some(end))
    }

    /// Searches what has not been searched yet, so that a frame that comes octet by octet costs no
    /// more than one that comes whole.
    fn find(&mut self, search: impl FnOnce(&[u8]) -> Option<usize>) -> Option<usize> {
        let found = search(&self.buffer[self.searched..]).map(|at| self.searched + at);
        self.searched = if found.is_some() {
            0
        } else {
            self.buffer.len()
        };
        found
    }

    /// The version whose rules a frame is read by. CONNECT and CONNECTED come before there is
    /// one.
    fn rules(&self, command: Command) -> Version {
        if command.escapes() {
            self.version.unwrap_or(Version::V1_2)
        } else {
            Version::V1_2
        }
    }
}

impl Head {
    fn receipt(&self) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(name, _)| *name == "receipt")
            .map(|(_, value)| value)
    }
}
