//! Reading what Redis still holds of a room: its recent window, and its part of the journal.

use std::sync::Arc;

use redis::{Cmd, Value, cmd, pipe};

use super::commands::Commands;
use super::entries::{self, StreamEntry};
use super::topology::Topology;
use super::{keys, payload};
use crate::broker::window::{self, is_proven};
use crate::broker::{BrokerError, Recent};
use crate::message::{Message, MessageId, RoomName, Span, Stamp};

/// Entries of the journal that are read at a time.
const CHUNK: usize = 1000;

/// Reads a room as [`crate::broker::Broker::recent`] says.
///
/// The horizon is taken first, then the window is read, and the journal last. An entry that leaves
/// the journal before the scan reaches it is in the store by then, where the caller looks next.
/// While the store is away the journal is long, and a reading that the window does not prove goes
/// through all of its shard.
pub(super) async fn read(
    topology: &Topology,
    commands: &Commands,
    shard: u16,
    room: &RoomName,
    span: Span,
    limit: usize,
) -> Result<Recent, BrokerError> {
    let reading = Reading {
        topology,
        commands,
        shard,
        room,
    };
    let window = keys::recent(shard, room);
    let mut questions = pipe();
    questions
        .add_command(cmd("TIME"))
        .add_command(cmd("XINFO").arg("STREAM").arg(keys::journal(shard)).take())
        .add_command(match span {
            Span::After(bound) => range("XRANGE", &window, &above(bound), "+", limit),
            Span::Before(bound) => range("XREVRANGE", &window, &below(bound), "-", limit),
            Span::Newest => range("XREVRANGE", &window, "+", "-", limit),
        })
        .add_command(range("XREVRANGE", &window, "+", "-", 1));
    let mut answers = commands.run(shard, &questions).await?.into_iter();
    let began = [
        answers.next().and_then(clock),
        answers.next().and_then(last_accepted),
    ];
    let mut messages = reading.messages(answers.next())?;
    let newest = reading
        .messages(answers.next())?
        .pop()
        .map(|message| message.id);
    if !matches!(span, Span::After(_)) {
        messages.reverse();
    }
    if is_proven(span, limit, &messages, newest) {
        return Ok(Recent {
            messages,
            complete: true,
            horizon: None,
        });
    }
    // The window has no holes, so that it may reach further than the horizon.
    let seen = messages
        .last()
        .map(|message| window::above(message.id.stamp()));
    let horizon = began.into_iter().chain([seen]).flatten().max();
    let end = horizon.map_or_else(|| "+".to_string(), below);
    // From its oldest message on, the window is whole: only what is older can be missing.
    let (oldest, newest) = match (span, messages.first()) {
        (Span::After(bound), None) => (above(bound), end),
        (Span::After(bound), Some(first)) => (above(bound), below(first.id)),
        (_, Some(first)) => ("-".to_string(), below(first.id)),
        (Span::Before(bound), None) => (
            "-".to_string(),
            below(horizon.map_or(bound, |horizon| bound.min(horizon))),
        ),
        (Span::Newest, None) => ("-".to_string(), end),
    };
    let mut older = match span {
        Span::After(_) => reading.scan("XRANGE", oldest, &newest, limit).await?,
        Span::Before(_) | Span::Newest => {
            let mut found = reading
                .scan("XREVRANGE", newest, &oldest, limit - messages.len())
                .await?;
            found.reverse();
            found
        }
    };
    older.append(&mut messages);
    span.cut(&mut older, limit);
    Ok(Recent {
        messages: older,
        complete: false,
        horizon,
    })
}

struct Reading<'a> {
    topology: &'a Topology,
    commands: &'a Commands,
    shard: u16,
    room: &'a RoomName,
}

impl Reading<'_> {
    /// Goes through the journal and picks this room's messages, at most `limit`.
    async fn scan(
        &self,
        command: &str,
        mut from: String,
        to: &str,
        limit: usize,
    ) -> Result<Vec<Arc<Message>>, BrokerError> {
        let journal = keys::journal(self.shard);
        let mut found = Vec::new();
        while found.len() < limit {
            let question = range(command, &journal, &from, to, CHUNK);
            let answer = self
                .commands
                .run(self.shard, pipe().add_command(question))
                .await?;
            let chunk = self.entries(answer.into_iter().next())?;
            let Some(last) = chunk.last().and_then(|entry| entry.id(self.shard)) else {
                break;
            };
            from = if command == "XRANGE" {
                above(last)
            } else {
                below(last)
            };
            let whole = chunk.len() < CHUNK;
            let ours = chunk
                .iter()
                .filter(|entry| entry.room == self.room.as_str());
            // What is no message is no part of the room's past; the feed buries it.
            found.extend(ours.filter_map(|entry| entry.message(self.shard).ok()));
            if whole {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    fn messages(&self, answer: Option<Value>) -> Result<Vec<Arc<Message>>, BrokerError> {
        let entries = self.entries(answer)?;
        Ok(entries
            .iter()
            .filter_map(|entry| entry.message(self.shard).ok())
            .collect())
    }

    fn entries(&self, answer: Option<Value>) -> Result<Vec<StreamEntry>, BrokerError> {
        let answer = answer.unwrap_or(Value::Nil).extract_error();
        Ok(entries::range(
            answer.map_err(|error| self.topology.explain(&error))?,
        ))
    }
}

/// What is accepted from now on is not below this, while the clock does not run back.
fn clock(time: Value) -> Option<MessageId> {
    let ms = entries::time(&time)?;
    Some(MessageId::new(Stamp { ms, seq: 0 }, 0))
}

/// What the journal accepts from now on is not below this; `None` before its first entry.
fn last_accepted(info: Value) -> Option<MessageId> {
    let field = |name: &Value| *name == Value::BulkString(b"last-generated-id".to_vec());
    let id = match info {
        Value::Map(fields) => fields.into_iter().find(|(name, _)| field(name))?.1,
        Value::Array(fields) => fields.into_iter().skip_while(|name| !field(name)).nth(1)?,
        _ => return None,
    };
    match id {
        Value::BulkString(id) => Some(window::above(payload::stamp(&id)?)),
        _ => None,
    }
}

fn range(command: &str, key: &str, from: &str, to: &str, count: usize) -> Cmd {
    cmd(command)
        .arg(key)
        .arg(from)
        .arg(to)
        .arg("COUNT")
        .arg(count)
        .take()
}

/// The bound of a range that begins after a message.
fn above(id: MessageId) -> String {
    let stamp = id.stamp();
    format!("({}-{}", stamp.ms, stamp.seq)
}

/// The bound of a range that ends before a message; the same text, read from the other side.
fn below(id: MessageId) -> String {
    above(id)
}
