//! From a frame to octets.

use bytes::Bytes;

use super::escape::{Part, escape};
use super::{Command, Frame, Version};

/// The octets of a frame, its NUL included, in one allocation.
///
/// `content-length` is written where there is a body, and always on MESSAGE and ERROR; one that
/// the frame's headers carry is left out in its favour. A body is written only on frames that may
/// have one.
///
/// What a version cannot express in a header is replaced by a space, so that no header can end
/// its line or the frame: line ends and colons of names in 1.0 and in CONNECT, STOMP and
/// CONNECTED; carriage returns in 1.1, which many of its clients take for a line end; NUL always.
pub fn encode(frame: &Frame, version: Version) -> Bytes {
    let headers = &frame.headers;
    let size = headers.text_len() + headers.text_len() / 8 + 2 * headers.len() + frame.body.len();
    let mut encoder = Encoder::new(frame.command, version, size);
    for (name, value) in headers.iter() {
        encoder.header(name, value);
    }
    encoder.finish(&frame.body)
}

/// Writes a frame as [`encode`] does, header by header, without the frame.
#[derive(Debug)]
pub struct Encoder {
    out: Vec<u8>,
    command: Command,
    version: Version,
}

impl Encoder {
    /// Begins a frame. Headers and body of `size` octets fit into its first allocation.
    pub fn new(command: Command, version: Version, size: usize) -> Self {
        let mut out = Vec::with_capacity(64 + size);
        out.extend_from_slice(command.as_str().as_bytes());
        out.push(b'\n');
        Self {
            out,
            command,
            version: if command.escapes() {
                version
            } else {
                Version::V1_0
            },
        }
    }

    /// Appends a header; one that says `content-length` is left out.
    pub fn header(&mut self, name: &str, value: &str) {
        if name == "content-length" {
            return;
        }
        escape(name, Part::Name, self.version, &mut self.out);
        self.out.push(b':');
        escape(value, Part::Value, self.version, &mut self.out);
        self.out.push(b'\n');
    }

    /// Appends a header of ours, whose name has nothing to escape in any version.
    pub fn known(&mut self, name: &'static str, value: &str) {
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b':');
        escape(value, Part::Value, self.version, &mut self.out);
        self.out.push(b'\n');
    }

    /// Ends the frame.
    pub fn finish(mut self, body: &[u8]) -> Bytes {
        if self.command.may_have_body() {
            if !body.is_empty() || self.command != Command::Send {
                self.out.extend_from_slice(b"content-length:");
                let mut digits = [0; 20];
                let mut at = digits.len();
                let mut rest = body.len();
                loop {
                    at -= 1;
                    digits[at] = b'0' + (rest % 10) as u8;
                    rest /= 10;
                    if rest == 0 {
                        break;
                    }
                }
                self.out.extend_from_slice(&digits[at..]);
                self.out.push(b'\n');
            }
            self.out.push(b'\n');
            self.out.extend_from_slice(body);
        } else {
            self.out.push(b'\n');
        }
        self.out.push(0);
        self.out.into()
    }
}
