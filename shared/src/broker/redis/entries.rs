//! Reading stream entries, and the time, out of Redis's answers.

use std::sync::Arc;

use bytes::Bytes;
use redis::Value;

use super::payload;
use crate::broker::{Entry, Undecodable};
use crate::message::{Message, MessageId, Stamp};

/// An entry of a journal or a recent window.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct StreamEntry {
    pub(super) stamp: Option<Stamp>,
    pub(super) room: Bytes,
    pub(super) prev: Bytes,
    payload: Option<Bytes>,
    notify: Bytes,
    /// Everything, for the dead letters, where there is no payload.
    raw: Vec<u8>,
}

/// The entries of a range; those that were deleted meanwhile are left out.
pub(super) fn range(value: Value) -> Vec<StreamEntry> {
    let Value::Array(entries) = value else {
        return Vec::new();
    };
    entries.into_iter().filter_map(entry).collect()
}

/// The entries of a group read, by the position of their stream's key in `keys`.
pub(super) fn read(value: Value, keys: &[String]) -> Vec<(usize, Vec<StreamEntry>)> {
    let Value::Array(streams) = value else {
        return Vec::new();
    };
    let stream = |value| {
        let Value::Array(parts) = value else {
            return None;
        };
        let [Value::BulkString(key), entries] = <[Value; 2]>::try_from(parts).ok()? else {
            return None;
        };
        let position = keys.iter().position(|known| known.as_bytes() == key)?;
        Some((position, range(entries)))
    };
    streams.into_iter().filter_map(stream).collect()
}

/// The milliseconds since 1970 in an answer to TIME.
pub(super) fn time(value: &Value) -> Option<u64> {
    let Value::Array(parts) = value else {
        return None;
    };
    let number = |part: &Value| match part {
        Value::BulkString(digits) => str::from_utf8(digits).ok()?.parse::<u64>().ok(),
        _ => None,
    };
    let (seconds, micros) = (number(parts.first()?)?, number(parts.get(1)?)?);
    Some(seconds * 1000 + micros / 1000)
}

fn entry(value: Value) -> Option<StreamEntry> {
    let Value::Array(parts) = value else {
        return None;
    };
    let [Value::BulkString(id), Value::Array(fields)] = <[Value; 2]>::try_from(parts).ok()? else {
        return None;
    };
    let mut entry = StreamEntry {
        stamp: payload::stamp(&id),
        ..StreamEntry::default()
    };
    let mut fields = fields.into_iter();
    while let (Some(Value::BulkString(name)), Some(Value::BulkString(value))) =
        (fields.next(), fields.next())
    {
        match name.as_slice() {
            b"room" => entry.room = value.into(),
            b"payload" => entry.payload = Some(value.into()),
            b"notify" => entry.notify = value.into(),
            b"prev" => entry.prev = value.into(),
            _ => entry.raw.extend([&name, &b"="[..], &value, b"\n"].concat()),
        }
    }
    Some(entry)
}

/// Takes apart what XAUTOCLAIM answers: where to go on, if anywhere, and what was claimed.
pub(super) fn claimed(answer: Value) -> (Option<String>, Vec<StreamEntry>) {
    let Value::Array(parts) = answer else {
        return (None, Vec::new());
    };
    let mut parts = parts.into_iter();
    let next = match parts.next() {
        Some(Value::BulkString(next)) if next != b"0-0" => String::from_utf8(next).ok(),
        _ => None,
    };
    (next, parts.next().map(range).unwrap_or_default())
}

impl StreamEntry {
    /// The message's id.
    pub(super) fn id(&self, shard: u16) -> Option<MessageId> {
        Some(MessageId::new(self.stamp?, shard))
    }

    /// The message itself.
    ///
    /// # Errors
    /// [`Undecodable`] when it is none.
    pub(super) fn message(&self, shard: u16) -> Result<Arc<Message>, Undecodable> {
        let undecodable = |raw: &[u8], reason: String| Undecodable {
            raw: raw.to_vec(),
            reason,
        };
        let Some(payload) = &self.payload else {
            return Err(undecodable(&self.raw, "the entry has no payload".into()));
        };
        let Some(id) = self.id(shard) else {
            return Err(undecodable(payload, "the entry's id is no stamp".into()));
        };
        let prev = payload::stamp(&self.prev).map(|prev| MessageId::new(prev, shard));
        match payload::decode(id, prev, payload) {
            Ok((message, _)) => Ok(Arc::new(message)),
            Err(reason) => Err(undecodable(payload, reason)),
        }
    }

    /// The entry as a feed hands it out.
    pub(super) fn into_entry(self, shard: u16) -> Option<Entry> {
        let notify = std::str::from_utf8(&self.notify)
            .ok()
            .and_then(|id| id.parse().ok());
        Some(Entry {
            id: self.id(shard)?,
            content: self.message(shard),
            notify,
        })
    }
}
