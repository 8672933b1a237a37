//! Headers as they stand in a frame, and back.

use super::{DecodeError, Version};

/// Which octets a header cannot have as they are, in one version or another.
const SPECIAL: [bool; 256] = {
    let mut special = [false; 256];
    let mut at = 0;
    while at < ESCAPED.len() {
        special[ESCAPED[at] as usize] = true;
        at += 1;
    }
    special
};

const ESCAPED: &[u8] = b"\\\n\r:\0";

/// The part of a header that a text is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Name,
    Value,
}

/// Writes a part of a header, with what the version cannot express as `encode` says (STOMP 1.2 and
/// 1.1, Value Encoding).
pub(super) fn escape(text: &str, part: Part, version: Version, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    // Most headers have nothing to escape. Finding that out without a branch for each octet, and
    // copying them whole, halves the time of a frame.
    let is_special = |octet: &u8| SPECIAL[usize::from(*octet)];
    if !rest
        .iter()
        .fold(false, |any, octet| any | is_special(octet))
    {
        return out.extend_from_slice(rest);
    }
    while let Some(at) = rest.iter().position(is_special) {
        out.extend_from_slice(&rest[..at]);
        let octet = rest[at];
        let escaped: &[u8] = match (octet, version) {
            (b'\\', Version::V1_1 | Version::V1_2) => b"\\\\",
            (b'\n', Version::V1_1 | Version::V1_2) => b"\\n",
            (b':', Version::V1_1 | Version::V1_2) => b"\\c",
            (b'\r', Version::V1_2) => b"\\r",
            (b'\n' | b'\r' | 0, _) => b" ",
            (b':', Version::V1_0) if part == Part::Name => b" ",
            _ => &rest[at..=at],
        };
        out.extend_from_slice(escaped);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// STOMP 1.2 and 1.1, Value Encoding; 1.0 has none. An escape that is not defined, or has no end,
/// is an error.
pub(super) fn unescape(
    mut text: &str,
    version: Version,
    out: &mut String,
) -> Result<(), DecodeError> {
    if version == Version::V1_0 {
        out.push_str(text);
        return Ok(());
    }
    while let Some(at) = memchr::memchr(b'\\', text.as_bytes()) {
        out.push_str(&text[..at]);
        out.push(match text.as_bytes().get(at + 1) {
            Some(b'n') => '\n',
            Some(b'c') => ':',
            Some(b'\\') => '\\',
            Some(b'r') if version == Version::V1_2 => '\r',
            _ => return Err(DecodeError::BadEscape),
        });
        text = &text[at + 2..];
    }
    out.push_str(text);
    Ok(())
}
