//! Reading answers off the wire. What is common is read here in one pass; anything else is left to
//! the client library's parser.

use std::io;

use redis::{RedisResult, Value, parse_redis_value};

/// How deep arrays may lie in each other: more than in any answer that we ask for.
const MAX_DEPTH: usize = 8;

/// Reads the value at the start of what has come, and says how many octets it took; `None` while
/// it is not all there.
///
/// # Errors
/// When it is not what a server sends.
pub(super) fn value(octets: &[u8]) -> RedisResult<Option<(Value, usize)>> {
    let mut reader = Reader { octets, at: 0 };
    Ok(reader.value(0)?.map(|value| (value, reader.at)))
}

/// What a server tells who has subscribed.
#[derive(Debug, PartialEq)]
pub(super) enum Told<'a> {
    /// Something was published on a channel.
    Message {
        channel: &'a [u8],
        payload: &'a [u8],
    },
    /// A subscription has begun.
    Subscribed(&'a [u8]),
    /// A subscription has ended.
    Left(&'a [u8]),
    /// It lives.
    Pong,
}

/// Reads what is told at the start of what has come, as [`value`] does.
///
/// # Errors
/// When it is an error of the server's, or not what one sends to who has subscribed.
pub(super) fn told(octets: &[u8]) -> RedisResult<Option<(Told<'_>, usize)>> {
    let mut reader = Reader { octets, at: 0 };
    let Some(line) = reader.line() else {
        return Ok(None);
    };
    let Some(b'*') = line.first() else {
        let answer = parse_redis_value(&octets[..reader.at])?.extract_error()?;
        return match answer {
            Value::SimpleString(text) if text == "PONG" => Ok(Some((Told::Pong, reader.at))),
            _ => Err(unknown()),
        };
    };
    let count = usize::try_from(integer(&line[1..])?).map_err(|_| unknown())?;
    let mut parts = [&b""[..]; 4];
    let parts = parts.get_mut(..count).ok_or_else(unknown)?;
    for part in parts.iter_mut() {
        let Some(line) = reader.line() else {
            return Ok(None);
        };
        match (line.first(), line.get(1..)) {
            (Some(b':'), _) => {}
            (Some(b'$'), Some(length)) => {
                // Who ends a subscription to nothing is told of no channel.
                if let Ok(length) = usize::try_from(integer(length)?) {
                    let Some(text) = reader.bulk(length) else {
                        return Ok(None);
                    };
                    *part = text;
                }
            }
            _ => return Err(unknown()),
        }
    }
    let told = match *parts {
        [b"message" | b"smessage", channel, payload] | [b"pmessage", _, channel, payload] => {
            Told::Message { channel, payload }
        }
        [b"subscribe" | b"ssubscribe" | b"psubscribe", channel, _] => Told::Subscribed(channel),
        [
            b"unsubscribe" | b"sunsubscribe" | b"punsubscribe",
            channel,
            _,
        ] => Told::Left(channel),
        [b"pong", _] => Told::Pong,
        _ => return Err(unknown()),
    };
    Ok(Some((told, reader.at)))
}

struct Reader<'a> {
    octets: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> RedisResult<Option<Value>> {
        let start = self.at;
        let Some(line) = self.line() else {
            return Ok(None);
        };
        Ok(Some(match line.first() {
            Some(b':') => Value::Int(integer(&line[1..])?),
            Some(b'$') => match usize::try_from(integer(&line[1..])?) {
                Ok(length) => {
                    let Some(text) = self.bulk(length) else {
                        return Ok(None);
                    };
                    Value::BulkString(text.to_vec())
                }
                Err(_) => Value::Nil,
            },
            Some(b'*') if depth < MAX_DEPTH => match usize::try_from(integer(&line[1..])?) {
                Ok(length) => {
                    let mut values = Vec::with_capacity(length.min(self.octets.len()));
                    for _ in 0..length {
                        let Some(value) = self.value(depth + 1)? else {
                            return Ok(None);
                        };
                        values.push(value);
                    }
                    Value::Array(values)
                }
                Err(_) => Value::Nil,
            },
            Some(b'+' | b'-') => parse_redis_value(&self.octets[start..self.at])?,
            _ => return Err(unknown()),
        }))
    }

    /// The next line without its end.
    fn line(&mut self) -> Option<&'a [u8]> {
        let rest = self.octets.get(self.at..)?;
        let end = memchr::memchr(b'\n', rest)?;
        self.at += end + 1;
        Some(rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]))
    }

    /// The next text of known length, which a line's end follows.
    fn bulk(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?.checked_add(2)?;
        let text = self.octets.get(self.at..end)?;
        self.at = end;
        Some(&text[..length])
    }
}

fn integer(digits: &[u8]) -> RedisResult<i64> {
    let text = std::str::from_utf8(digits).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(unknown)
}

fn unknown() -> redis::RedisError {
    io::Error::new(io::ErrorKind::InvalidData, "the answer is not RESP2").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERS: &[&[u8]] = &[
        b":-7\r\n",
        b"$0\r\n\r\n",
        b"$4\r\na\r\nb\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*3\r\n:0\r\n$3\r\n1-1\r\n$0\r\n\r\n",
        b"*2\r\n*1\r\n+OK\r\n-ERR no such thing\r\n",
        b"+OK\r\n",
        b"+PONG\r\n",
        b"-NOSCRIPT No matching script.\r\n",
    ];

    #[test]
    fn an_answer_is_what_the_library_reads() {
        for answer in ANSWERS {
            let text = String::from_utf8_lossy(answer);
            let read = value(answer).unwrap();
            assert_eq!(
                read,
                Some((parse_redis_value(answer).unwrap(), answer.len())),
                "{text}"
            );
        }
    }

    #[test]
    fn an_answer_is_awaited_to_its_last_octet_and_what_follows_stays() {
        for answer in ANSWERS {
            for end in 0..answer.len() {
                assert_eq!(value(&answer[..end]).unwrap(), None, "{end} of {answer:?}");
            }
            let followed = [answer, &b":1\r\n"[..]].concat();
            let (_, length) = value(&followed).unwrap().unwrap();
            assert_eq!(length, answer.len());
        }
    }

    #[test]
    fn what_is_told_is_awaited_to_its_last_octet_and_what_follows_stays() {
        let message = |payload| Told::Message {
            channel: b"c",
            payload,
        };
        for (octets, expected) in [
            (
                &b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\n\r\n\r\n\r\n"[..],
                message(b"\r\n\r\n"),
            ),
            (
                b"*3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$0\r\n\r\n",
                message(b""),
            ),
            (
                b"*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$1\r\nc\r\n$1\r\nx\r\n",
                message(b"x"),
            ),
            (
                b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n",
                Told::Subscribed(b"c"),
            ),
            (
                b"*3\r\n$10\r\nssubscribe\r\n$1\r\nc\r\n:1\r\n",
                Told::Subscribed(b"c"),
            ),
            (
                b"*3\r\n$12\r\nsunsubscribe\r\n$1\r\nc\r\n:0\r\n",
                Told::Left(b"c"),
            ),
            (
                b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n",
                Told::Left(b""),
            ),
            (b"*2\r\n$4\r\npong\r\n$0\r\n\r\n", Told::Pong),
            (b"+PONG\r\n", Told::Pong),
        ] {
            for end in 0..octets.len() {
                assert_eq!(told(&octets[..end]).unwrap(), None, "{end} of {octets:?}");
            }
            let followed = [octets, &b"*3\r\n"[..]].concat();
            assert_eq!(told(&followed).unwrap(), Some((expected, octets.len())));
        }
    }

    #[test]
    fn what_no_server_tells_a_subscriber_is_an_error() {
        for octets in [
            &b"-MOVED 1 127.0.0.1:1\r\n"[..],
            b"+OK\r\n",
            b":1\r\n",
            b"*5\r\n",
            b"*-1\r\n",
            b"*1\r\n*1\r\n",
            b"*1\r\n\r\n",
            b"*2\r\n$7\r\nmessage\r\n$1\r\nc\r\n",
            b"*2\r\n$4\r\nquit\r\n$0\r\n\r\n",
        ] {
            assert!(told(octets).is_err(), "{octets:?}");
        }
    }

    #[test]
    fn what_no_server_sends_is_an_error() {
        for octets in [
            &b"hello\r\n"[..],
            b"\r\n",
            b":x\r\n",
            b"$x\r\n",
            b"*1\r\n!\r\n",
            b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
        ] {
            assert!(value(octets).is_err(), "{octets:?}");
        }
    }
}
