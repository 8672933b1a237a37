//! Entity tags, by which a browser asks whether what it has is still the same (RFC 9110, section
//! 8.8.3).

use std::hash::{DefaultHasher, Hash, Hasher};

use hyper::header::{HeaderMap, HeaderValue, IF_NONE_MATCH};

/// The tag of this content.
pub(crate) fn tag(content: &impl Hash) -> HeaderValue {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    let tag = format!("\"{:016x}\"", hasher.finish());
    HeaderValue::try_from(tag).expect("hexadecimal digits are visible ASCII")
}

/// Whether a request has what this tag names: `If-None-Match` (RFC 9110, section 13.1.2), by the
/// weak comparison.
pub(crate) fn is_known(tag: &HeaderValue, headers: &HeaderMap) -> bool {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}
