//! SockJS's frames (protocol 0.3.3, sections "Protocol and framing" and "JSON Unicode Encoding"):
//! texts to octets and back, without any I/O.

use std::fmt::Write;

use bytes::Bytes;
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, de};

/// The first frame of a session.
pub(super) const OPEN: &str = "o";

/// A heart-beat.
pub(super) const HEART_BEAT: &str = "h";

/// How much longer a text can become in a frame: `\u0001` for one octet.
pub(super) const GROWTH: usize = 6;

/// `a["…","…"]`: messages, in order. Octets that are no UTF-8 become U+FFFD, for there is no other
/// way to send them.
pub(super) fn messages<'a>(messages: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut frame = String::from("a");
    let mut separator = '[';
    for message in messages {
        frame.push(separator);
        quote(&String::from_utf8_lossy(message), &mut frame);
        separator = ',';
    }
    frame.push(']');
    frame
}

/// `c[code,"reason"]`: the session has ended.
pub(super) fn close(code: u16, reason: &str) -> String {
    let mut frame = format!("c[{code},");
    quote(reason, &mut frame);
    frame.push(']');
    frame
}

/// A frame as a string in JavaScript, which may stand in a page's script: `</script>` is in none.
pub(super) fn in_script(frame: &str) -> String {
    let mut string = String::with_capacity(frame.len() + frame.len() / 4 + 2);
    string.push('"');
    for c in frame.chars() {
        match c {
            '"' | '\\' => string.extend(['\\', c]),
            '<' => string.push_str("\\u003c"),
            c => string.push(c),
        }
    }
    string.push('"');
    string
}

/// What a client sends: an array of strings, or where `single` one string alone.
///
/// Half a surrogate pair, which JavaScript's strings can have, becomes U+FFFD as it does when a
/// browser sends it over a WebSocket.
///
/// # Errors
/// [`Broken`] for everything else.
pub(super) fn decode(payload: &[u8], single: bool) -> Result<Vec<Bytes>, Broken> {
    let payload = str::from_utf8(payload).map_err(|_| Broken)?;
    let texts: Vec<Text> = if single && payload.trim_start().starts_with('"') {
        vec![serde_json::from_str(payload).map_err(|_| Broken)?]
    } else {
        serde_json::from_str(payload).map_err(|_| Broken)?
    };
    Ok(texts.into_iter().map(|text| text.0).collect())
}

/// What arrived is not what SockJS's clients send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Broken JSON encoding.")]
pub(super) struct Broken;

/// A string of JSON.
struct Text(Bytes);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyString;

        impl Visitor<'_> for AnyString {
            type Value = Text;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E: Error>(self, octets: &[u8]) -> Result<Text, E> {
                Ok(Text(match str::from_utf8(octets) {
                    Ok(_) => Bytes::copy_from_slice(octets),
                    Err(_) => without_surrogates(octets).into(),
                }))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                self.visit_bytes(text.as_bytes())
            }
        }

        // As a string the library would refuse half a surrogate pair.
        deserializer.deserialize_bytes(AnyString)
    }
}

/// Each half of a pair is three octets from `ED A0 80` on, which no character's UTF-8 has.
fn without_surrogates(octets: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(octets.len());
    let mut rest = octets;
    while let [first, tail @ ..] = rest {
        if let [0xED, 0xA0..=0xBF, 0x80..=0xBF, after @ ..] = rest {
            text.extend("\u{FFFD}".as_bytes());
            rest = after;
        } else {
            text.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&text).into_owned().into_bytes()
}

/// A string in JSON. Beside what JSON wants, the characters are escaped that browsers are known to
/// mangle on their way through one of the transports.
fn quote(text: &str, frame: &mut String) {
    frame.reserve(text.len() + 2);
    frame.push('"');
    let mut plain = 0;
    for (at, c) in text.char_indices() {
        let short = match c {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            '\u{8}' => "\\b",
            '\u{c}' => "\\f",
            '\0'..='\u{1f}'
            | '\u{200c}'..='\u{200f}'
            | '\u{2028}'..='\u{202f}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fff0}'..='\u{ffff}' => "",
            _ => continue,
        };
        frame.push_str(&text[plain..at]);
        plain = at + c.len_utf8();
        if short.is_empty() {
            write!(frame, "\\u{:04x}", u32::from(c)).expect("a String takes everything");
        } else {
            frame.push_str(short);
        }
    }
    frame.push_str(&text[plain..]);
    frame.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{GROWTH, close, decode, in_script, messages};

    #[test]
    fn the_frames_are_those_of_the_protocol() {
        assert_eq!(messages([&b"x"[..]]), r#"a["x"]"#);
        assert_eq!(messages([&b"a"[..], b"", b"b"]), r#"a["a","","b"]"#);
        assert_eq!(messages([&b"  \0\n\r "[..]]), r#"a["  \u0000\n\r "]"#);
        assert_eq!(close(3000, "Go away!"), r#"c[3000,"Go away!"]"#);
        assert_eq!(close(1000, "\"\n"), r#"c[1000,"\"\n"]"#);
        assert_eq!(in_script(r#"a["x"]"#), r#""a[\"x\"]""#);
        assert_eq!(in_script("</script>"), r#""\u003c/script>""#);
    }

    #[test]
    fn what_browsers_mangle_is_escaped() {
        let ranges = [
            0..=0x1f,
            0x200c..=0x200f,
            0x2028..=0x202f,
            0x2060..=0x206f,
            0xfff0..=0xffff,
        ];
        for code in ranges.into_iter().flatten() {
            let c = char::from_u32(code).unwrap();
            let frame = messages([c.to_string().as_bytes()]);
            assert!(frame.is_ascii() && frame.starts_with("a[\"\\"), "{frame:?}");
        }
        assert_eq!(messages(["ü😀".as_bytes()]), "a[\"ü😀\"]");
    }

    #[test]
    fn what_is_no_utf_8_does_not_stop_anything() {
        assert_eq!(messages([&[b'x', 0xff][..]]), "a[\"x\\ufffd\"]");
    }

    #[test]
    fn a_client_sends_an_array_of_strings_or_one_alone() {
        let decoded = |payload: &str, single| {
            decode(payload.as_bytes(), single)
                .map(|texts| texts.iter().map(|text| text.to_vec()).collect::<Vec<_>>())
                .ok()
        };
        assert_eq!(decoded(r#"["a","\u0062"]"#, false).unwrap(), [b"a", b"b"]);
        assert_eq!(decoded("[]", false).unwrap(), Vec::<Vec<u8>>::new());
        assert_eq!(decoded(r#""a""#, true).unwrap(), [b"a"]);
        for broken in [
            r#""a""#,
            r#"["a"#,
            "",
            "[1]",
            "[null]",
            "[[]]",
            r#"[["a"]]"#,
            "{}",
            "null",
            r#"["a"]x"#,
        ] {
            assert_eq!(decoded(broken, false), None, "{broken}");
        }
        assert!(decode(b"[\"\xff\"]", false).is_err());
    }

    #[test]
    fn half_a_surrogate_pair_is_what_a_web_socket_makes_of_it() {
        for (payload, text) in [
            (r#"["a\ud800b"]"#, "a\u{FFFD}b"),
            (r#"["\udc00"]"#, "\u{FFFD}"),
            (r#"["\ud83d\ude00"]"#, "😀"),
            (r#"["ü\ud83d"]"#, "ü\u{FFFD}"),
        ] {
            assert_eq!(
                decode(payload.as_bytes(), false).unwrap(),
                [text],
                "{payload}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_again(texts: Vec<String>) {
            prop_assume!(!texts.is_empty());
            let frame = messages(texts.iter().map(String::as_bytes));
            let octets: usize = texts.iter().map(|text| text.len() * GROWTH + 3).sum();
            prop_assert!(frame.len() <= octets + 2);
            prop_assert!(!frame.bytes().any(|b| b < 0x20));
            prop_assert_eq!(decode(&frame.as_bytes()[1..], false).unwrap(), texts);
            let script: String = serde_json::from_str(&in_script(&frame)).unwrap();
            prop_assert_eq!(script, frame);
        }

        #[test]
        fn no_payload_panics(payload: Vec<u8>, single: bool) {
            let _any_answer = decode(&payload, single);
        }
    }
}
