//! What a message looks like in Redis: a BSON document, made once where it is published, and the
//! text in front of it that says which message it became. Fields that are not known are ignored,
//! so that processes of two versions can share one Redis.

use std::sync::Arc;

use bson::raw::{
    RawArray, RawArrayBuf, RawBinaryRef, RawBsonRef, RawDocument, RawDocumentBuf, cstr,
};
use bson::spec::BinarySubtype;
use bytes::Bytes;

use crate::message::{
    Draft, GatewayId, Headers, IdempotencyKey, Message, MessageId, RoomName, Stamp, UserName,
};

/// A document in which nothing is.
const EMPTY: &[u8] = &[5, 0, 0, 0, 0];

/// About what a document takes beside its headers and its body, and a header beside its texts.
const NAMES: usize = 384;
const PAIR: usize = 32;

/// Encodes what the sender gave.
///
/// The gateway to notify lies beside the payload in a journal; where there is none, `notify` puts
/// it inside.
pub(super) fn encode(draft: &Draft, notify: Option<GatewayId>) -> Vec<u8> {
    let headers = draft.headers.iter();
    let headers: usize = headers.map(|(k, v)| PAIR + k.len() + v.len()).sum();
    let mut octets = Vec::with_capacity(NAMES + headers + draft.body.len());
    octets.extend_from_slice(EMPTY);
    let mut document = RawDocumentBuf::from_bytes(octets).expect("it is an empty document");
    document.append(cstr!("room"), draft.room.as_str());
    document.append(cstr!("sender"), draft.sender.as_str());
    if let Some(content_type) = &draft.content_type {
        document.append(cstr!("contentType"), content_type.as_ref());
    }
    if !draft.headers.is_empty() {
        let mut headers = RawArrayBuf::new();
        for (name, value) in &draft.headers {
            let mut pair = RawArrayBuf::new();
            pair.push(name.as_ref());
            pair.push(value.as_ref());
            headers.push(pair);
        }
        document.append(cstr!("headers"), headers);
    }
    if let Some(key) = &draft.idempotency_key {
        document.append(cstr!("idempotencyKey"), key.as_str());
    }
    if draft.ephemeral {
        document.append(cstr!("ephemeral"), true);
    }
    if let Some(gateway) = notify {
        document.append(cstr!("notify"), gateway.to_string().as_str());
    }
    let body = RawBinaryRef {
        subtype: BinarySubtype::Generic,
        bytes: &draft.body,
    };
    document.append(cstr!("body"), body);
    document.into_bytes()
}

/// Decodes a payload. The body shares its memory.
///
/// # Errors
/// Says in words what is wrong with it.
pub(super) fn decode(
    id: MessageId,
    prev: Option<MessageId>,
    payload: &Bytes,
) -> Result<(Message, Option<GatewayId>), String> {
    let document = RawDocument::from_bytes(payload).map_err(|error| error.to_string())?;
    let (mut room, mut sender, mut body) = (None, None, None);
    let (mut content_type, mut idempotency_key, mut notify) = (None, None, None);
    let mut ephemeral = false;
    let mut headers = Headers::new();
    for element in document {
        let (name, value) = element.map_err(|error| error.to_string())?;
        match name.as_str() {
            "room" => room = Some(RoomName::recorded(text(name.as_str(), value)?)),
            "sender" => sender = Some(UserName::parse(text(name.as_str(), value)?)),
            "contentType" => content_type = Some(Arc::from(text(name.as_str(), value)?)),
            "headers" => headers = pairs(value.as_array().ok_or("headers is no array")?)?,
            "idempotencyKey" => {
                idempotency_key = Some(IdempotencyKey::parse(text(name.as_str(), value)?));
            }
            "ephemeral" => ephemeral = value.as_bool().ok_or("ephemeral is no truth value")?,
            "notify" => {
                notify = Some(
                    text(name.as_str(), value)?
                        .parse()
                        .map_err(|_| "notify is no id")?,
                );
            }
            "body" => body = Some(value.as_binary().ok_or("body is not binary")?.bytes),
            _ => {}
        }
    }
    let invalid = |error: crate::message::InvalidName| error.to_string();
    let message = Message {
        id,
        room: room.ok_or("room is missing")?.map_err(invalid)?,
        sender: sender.ok_or("sender is missing")?.map_err(invalid)?,
        content_type,
        headers,
        body: payload.slice_ref(body.ok_or("body is missing")?),
        idempotency_key: idempotency_key.transpose().map_err(invalid)?,
        prev,
        ephemeral,
    };
    Ok((message, notify))
}

/// Puts the id in front of a payload, as the script does: `ID PREV PAYLOAD`, PREV maybe empty.
pub(super) fn published(id: Stamp, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{}-{}  ", id.ms, id.seq).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// The id of what a room's channel carries.
pub(super) fn id(shard: u16, bytes: &[u8]) -> Option<MessageId> {
    let id = bytes.split(|octet| *octet == b' ').next()?;
    Some(MessageId::new(stamp(id)?, shard))
}

/// Takes apart what a room's channel carries.
///
/// # Errors
/// Says in words what is wrong with it.
pub(super) fn heard(shard: u16, bytes: &Bytes) -> Result<(Message, Option<GatewayId>), String> {
    let mut parts = bytes.splitn(3, |octet| *octet == b' ');
    let (Some(id), Some(prev), Some(payload)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("the id is missing".into());
    };
    let id = stamp(id).ok_or("the id is no stamp")?;
    let prev = stamp(prev).map(|prev| MessageId::new(prev, shard));
    decode(MessageId::new(id, shard), prev, &bytes.slice_ref(payload))
}

/// Reads a stream entry's id, `MS-SEQ`.
pub(super) fn stamp(id: &[u8]) -> Option<Stamp> {
    let (ms, rest) = number(id)?;
    let (seq, rest) = number(rest.strip_prefix(b"-")?)?;
    rest.is_empty().then_some(Stamp { ms, seq })
}

/// Reads a number's digits, of which there is one at least, and what follows them.
pub(super) fn number(octets: &[u8]) -> Option<(u64, &[u8])> {
    let digits = octets.iter().take_while(|octet| octet.is_ascii_digit());
    let mut number = 0_u64;
    let mut count = 0;
    for digit in digits {
        number = number.checked_mul(10)?;
        number = number.checked_add(u64::from(digit - b'0'))?;
        count += 1;
    }
    (count > 0).then(|| (number, &octets[count..]))
}

fn text<'a>(name: &str, value: RawBsonRef<'a>) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| format!("{name} is no text"))
}

fn pairs(array: &RawArray) -> Result<Headers, String> {
    let mut headers = Headers::new();
    for pair in array {
        let pair = pair.map_err(|error| error.to_string())?;
        let pair = pair.as_array().ok_or("a header is no pair")?;
        let (Ok(name), Ok(value)) = (pair.get_str(0), pair.get_str(1)) else {
            return Err("a header is no pair of texts".into());
        };
        headers.push((name.into(), value.into()));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_a_later_version_is_ignored() {
        let draft = Draft {
            room: RoomName::parse("r").unwrap(),
            sender: UserName::parse("김").unwrap(),
            content_type: None,
            headers: vec![("a".into(), "1".into()), ("a".into(), "2".into())],
            body: Bytes::from_static(b"\x00 \xff"),
            idempotency_key: None,
            newer_than: None,
            notify: None,
            series: crate::message::Series::default(),
            ephemeral: false,
        };
        let mut document = RawDocumentBuf::from_bytes(encode(&draft, None)).unwrap();
        document.append(cstr!("reactions"), 3_i32);
        let stamp = Stamp { ms: 1, seq: 2 };
        let bytes = Bytes::from(published(stamp, document.as_bytes()));
        let (message, notify) = heard(7, &bytes).unwrap();
        assert_eq!(message.id, MessageId::new(stamp, 7));
        assert_eq!(message.headers, draft.headers);
        assert_eq!(message.body, draft.body);
        assert_eq!((message.prev, notify), (None, None));
    }

    #[test]
    fn a_stamp_is_two_numbers_that_fit() {
        let largest = format!("{0}-{0}", u64::MAX);
        for (text, expected) in [
            ("0-0", Some((0, 0))),
            ("1790000000000-17", Some((1_790_000_000_000, 17))),
            (&largest, Some((u64::MAX, u64::MAX))),
            ("18446744073709551616-0", None),
            ("1", None),
            ("1-", None),
            ("-1", None),
            ("1-2-3", None),
            ("+1-2", None),
            ("1- 2", None),
        ] {
            let read = stamp(text.as_bytes()).map(|stamp| (stamp.ms, stamp.seq));
            assert_eq!(read, expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_message_is_refused_with_a_reason() {
        for bytes in [
            &b""[..],
            b"1-1",
            b"x  y",
            b"1-1  \x05\0\0\0\0",
            b"1-1  \xff\0\0\0\0",
        ] {
            assert!(
                heard(0, &Bytes::copy_from_slice(bytes)).is_err(),
                "{bytes:?}"
            );
        }
    }
}
