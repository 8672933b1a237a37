//! What one publish sends to the script that accepts a message, attempt by attempt.

use std::mem;
use std::time::Duration;

use redis::{Script, Value};

use super::packed::Packed;
use super::{keys, payload};
use crate::broker::IDEMPOTENCY_WINDOW;
use crate::config::{BrokerSettings, Delivery, Protection};
use crate::message::{Draft, RoomName, Stamp};

/// The script that accepts a message; each connection loads it.
pub(super) const ACCEPT: &str = include_str!("accept.lua");

/// The words of a command that has to come after none.
const WORDS: usize = 22;

/// The script counts in floating point, which is exact up to here.
const EXACT: u64 = 1 << 53;

/// What is the same for all messages.
pub(super) struct Terms {
    script: String,
    /// `SPUBLISH` where channels are sharded.
    pub(super) publish: &'static str,
    /// How many replicas must have a message before it is accepted, at least; 0 is not to wait.
    pub(super) replicas: u8,
    journal_max: u64,
    recent_max: u64,
    /// In milliseconds.
    recent_ttl: u64,
    /// As long as this process may repeat a publish.
    token_ttl: Duration,
    /// Off only to show what it is worth: without it every attempt is as if it were the first.
    pub(super) knows_itself: bool,
}

/// One draft, as the script takes it.
pub(super) struct Acceptance {
    room: RoomName,
    shard: u16,
    payload: Vec<u8>,
    notify: String,
    least: Stamp,
    /// By which the script knows a repeat, and how long it does.
    key: String,
    kept: Duration,
    /// By which it knows its own earlier attempt from someone else's use of the same key.
    token: String,
    /// What an earlier attempt was given, while it is not known whether it lasts.
    pub(super) had: Option<Had>,
}

/// A message's place in its room, as Redis writes it.
pub(super) struct Had {
    id: Vec<u8>,
    /// The one before it; nothing where there was none.
    prev: Vec<u8>,
}

/// What the script answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accepted {
        stamp: Stamp,
        /// The key had been used by another publish.
        repeated: bool,
        /// The one before it, where this attempt was the one that was accepted.
        prev: Option<Stamp>,
    },
    Full,
    TooLate,
    /// The one that it has to come after was not accepted.
    OutOfTurn,
}

impl Terms {
    pub(super) fn new(settings: &BrokerSettings, sharded: bool) -> Self {
        let share = settings.journal_max / usize::from(settings.shards);
        Self {
            script: Script::new(ACCEPT).get_hash().to_string(),
            publish: keys::publish(sharded && settings.delivery == Delivery::AtLeastOnce),
            replicas: settings.wanted_replicas(),
            journal_max: share.max(1) as u64,
            recent_max: settings.recent_max.max(1) as u64,
            recent_ttl: millis(settings.recent_ttl),
            token_ttl: 2 * settings.publish_timeout,
            knows_itself: !settings.without.has(Protection::PublishToken),
        }
    }
}

impl Acceptance {
    pub(super) fn new(draft: &Draft, shard: u16, token: String, terms: &Terms) -> Self {
        let least = draft.newer_than.map_or(Stamp { ms: 0, seq: 0 }, |id| {
            let Stamp { ms, seq } = id.stamp();
            if seq + 1 < EXACT {
                Stamp { ms, seq: seq + 1 }
            } else {
                Stamp { ms: ms + 1, seq: 0 }
            }
        });
        let (key, kept) = match &draft.idempotency_key {
            Some(key) => (
                keys::idempotency(shard, &draft.room, &draft.sender, key),
                IDEMPOTENCY_WINDOW,
            ),
            None => (keys::token(shard, &draft.room, &token), terms.token_ttl),
        };
        Self {
            room: draft.room.clone(),
            shard,
            payload: payload::encode(draft, None),
            notify: draft
                .notify
                .map(|gateway| gateway.to_string())
                .unwrap_or_default(),
            least,
            key,
            kept,
            token,
            had: None,
        }
    }

    /// The message in octets.
    pub(super) fn size(&self) -> usize {
        self.payload.len()
    }

    /// By which the script knows it again.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Adds the command of one attempt. `after` is the key of the one that it has to come after,
    /// `until` the server's time after which it is too late.
    pub(super) fn pack(
        &self,
        terms: &Terms,
        after: Option<&str>,
        until: Option<u64>,
        commands: &mut Packed,
    ) {
        let waits = terms.replicas > 0;
        let had = self.had.as_ref();
        let mut command = commands.begin(WORDS + usize::from(after.is_some()));
        command
            .word("EVALSHA")
            .word(&terms.script)
            .number(3 + u64::from(after.is_some()))
            .word(keys::journal(self.shard))
            .word(keys::recent(self.shard, &self.room))
            .word(&self.key);
        if let Some(after) = after {
            command.word(after);
        }
        command
            .word(if waits { "" } else { terms.publish })
            .word(keys::channel(self.shard, &self.room))
            .word(self.room.as_str())
            .word(&self.payload)
            .word(&self.notify)
            .number(self.least.ms)
            .number(self.least.seq)
            .number(terms.journal_max)
            .number(terms.recent_max)
            .number(terms.recent_ttl)
            .number(millis(self.kept))
            .word(&self.token)
            .number(u64::from(waits));
        match until {
            Some(until) => command.number(until),
            None => command.word(""),
        };
        command
            .word(had.map_or(&[][..], |had| &had.id))
            .word(had.map_or(&[][..], |had| &had.prev));
    }

    /// Takes a name that no attempt had before, so that the next one is not known again.
    pub(super) fn forget(&mut self) {
        self.token = format!("{:x}", fastrand::u64(..));
        self.key = keys::token(self.shard, &self.room, &self.token);
        self.had = None;
    }

    /// Reads what the script answers; `None` when it is something else. The place that it tells is
    /// kept for another attempt.
    pub(super) fn verdict(&mut self, answer: Value) -> Option<Verdict> {
        let Value::Array(mut parts) = answer else {
            return None;
        };
        let (stamp, repeated, prev) = match parts.as_mut_slice() {
            [Value::Int(2)] => return Some(Verdict::Full),
            [Value::Int(3)] => return Some(Verdict::TooLate),
            [Value::Int(4)] => return Some(Verdict::OutOfTurn),
            [
                Value::Int(0),
                Value::BulkString(id),
                Value::BulkString(prev),
            ] => {
                let stamps = (payload::stamp(id)?, payload::stamp(prev));
                let (id, prev) = (mem::take(id), mem::take(prev));
                self.had = Some(Had { id, prev });
                (stamps.0, false, stamps.1)
            }
            [
                Value::Int(1),
                Value::BulkString(id),
                Value::BulkString(token),
            ] => {
                let repeated = *token != self.token.as_bytes();
                (payload::stamp(id)?, repeated, None)
            }
            _ => return None,
        };
        Some(Verdict::Accepted {
            stamp,
            repeated,
            prev,
        })
    }
}

/// In milliseconds, as Redis counts: at least one.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .max(1)
}
