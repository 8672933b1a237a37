//! From a frame to octets.

use bytes::Bytes;

use super::escape::{Part, escape};
use super::{Frame, Version};

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
    let may_have_body = frame.command.may_have_body();
    let body: &[u8] = if may_have_body { &frame.body } else { &[] };
    let headers = &frame.headers;
    let size = 64 + headers.text_len() + headers.text_len() / 8 + 2 * headers.len() + body.len();
    let mut out = Vec::with_capacity(size);

    out.extend_from_slice(frame.command.as_str().as_bytes());
    out.push(b'\n');
    let version = if frame.command.escapes() {
        version
    } else {
        Version::V1_0
    };
    for (name, value) in headers.iter().filter(|(name, _)| *name != "content-length") {
        escape(name, Part::Name, version, &mut out);
        out.push(b':');
        escape(value, Part::Value, version, &mut out);
        out.push(b'\n');
    }
    if may_have_body && (!body.is_empty() || frame.command != super::Command::Send) {
        out.extend_from_slice(format!("content-length:{}\n", body.len()).as_bytes());
    }
    out.push(b'\n');
    out.extend_from_slice(body);
    out.push(0);
    out.into()
}
