//! The names of what lies in Redis. The shard is each key's hash tag, so that all that one message
//! touches shares a slot.

use std::fmt::Write;

use super::payload;
use crate::message::{GatewayId, IdempotencyKey, RoomName, UserName};

/// The consumer group of the persisters.
pub(super) const GROUP: &str = "persisters";

/// Where the number of shards is written once.
pub(super) const SHARDS: &str = "rc:shards";

/// All room channels of all shards.
pub(super) const ALL_ROOMS: &str = "rc:{*}:room:*";

/// A channel to which no one listens: a publish to it shows whether this user may publish.
pub(super) const PROBE: &str = "rc:probe";

/// The shard's stream of what is not stored yet.
pub(super) fn journal(shard: u16) -> String {
    of_shard(shard, "journal", "")
}

/// The room's stream of its newest messages.
pub(super) fn recent(shard: u16, room: &RoomName) -> String {
    of_shard(shard, "recent:", room.as_str())
}

/// Up to where the shard's journal has been published, where that waits for replicas.
pub(super) fn announced(shard: u16) -> String {
    of_shard(shard, "announced", "")
}

/// The room's channel.
pub(super) fn channel(shard: u16, room: &RoomName) -> String {
    of_shard(shard, "room:", room.as_str())
}

/// What publishes to them.
pub(super) fn publish(sharded: bool) -> &'static str {
    if sharded { "SPUBLISH" } else { "PUBLISH" }
}

/// What every room's channel begins with.
pub(super) fn channels(shard: u16) -> String {
    of_shard(shard, "room:", "")
}

/// The shard of a room channel; `None` when it is something else.
pub(super) fn channel_shard(channel: &[u8]) -> Option<u16> {
    let (shard, rest) = payload::number(channel.strip_prefix(b"rc:{")?)?;
    rest.starts_with(b"}:room:")
        .then_some(shard)?
        .try_into()
        .ok()
}

/// The channel on which a gateway hears what is stored. Sharded channels cannot be published by
/// one server for all: on a cluster, at-least-once, there is one for each shard.
pub(super) fn notices(gateway: GatewayId, shard: Option<u16>) -> String {
    match shard {
        Some(shard) => format!("rc:{{{shard}}}:gateway:{gateway}"),
        None => format!("rc:gateway:{gateway}"),
    }
}

/// Where the id is kept that a sender's key was given.
pub(super) fn idempotency(
    shard: u16,
    room: &RoomName,
    sender: &UserName,
    key: &IdempotencyKey,
) -> String {
    let mut name = of_shard(shard, "idem:", "");
    escape(&mut name, room.as_str());
    name.push(':');
    escape(&mut name, sender.as_str());
    name.push(':');
    escape(&mut name, key.as_str());
    name
}

/// Where the id is kept that a publish without a key was given, under the publish's own token.
/// No user has an empty name, so that it meets no sender's key.
pub(super) fn token(shard: u16, room: &RoomName, token: &str) -> String {
    let mut name = of_shard(shard, "idem:", "");
    escape(&mut name, room.as_str());
    let _ = write!(name, "::{token}");
    name
}

fn of_shard(shard: u16, kind: &str, name: &str) -> String {
    ["rc:{", itoa::Buffer::new().format(shard), "}:", kind, name].concat()
}

/// Keeps the components of a key apart: a colon inside one is `%3A`, a percent sign `%25`.
fn escape(name: &mut String, component: &str) {
    let mut rest = component;
    while let Some(at) = rest.find([':', '%']) {
        name.push_str(&rest[..at]);
        name.push_str(if rest.as_bytes()[at] == b':' {
            "%3A"
        } else {
            "%25"
        });
        rest = &rest[at + 1..];
    }
    name.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_senders_share_an_idempotency_key() {
        let name = |room, sender, key| {
            idempotency(
                3,
                &RoomName::parse(room).unwrap(),
                &UserName::parse(sender).unwrap(),
                &IdempotencyKey::parse(key).unwrap(),
            )
        };
        assert_eq!(name("r", "ann", "k"), "rc:{3}:idem:r:ann:k");
        assert_eq!(name("a:b", "50%", "k:1"), "rc:{3}:idem:a%3Ab:50%25:k%3A1");
        assert_ne!(name("r", "a:b", "c"), name("r", "a", "b:c"));
        assert_ne!(name("r:a", "b", "c"), name("r", "a:b", "c"));
        assert_ne!(name("r", "a%3Ab", "c"), name("r", "a:b", "c"));
    }

    #[test]
    fn no_two_queues_and_no_queue_and_room_share_a_name() {
        let queue = |user: &str, queue: &str| {
            RoomName::queue(&UserName::parse(user).unwrap(), queue).unwrap()
        };
        let longest = "김".repeat(42);
        let rooms = [
            queue("a/queue/b", "queue/x"),
            queue("a", "queue/b/queue/x"),
            queue("a%2Fqueue%2Fb", "queue/x"),
            queue("a:b", "queue/c"),
            queue("a", "queue/b:c"),
            queue("{1}:room:x", "topic/x"),
            queue(&longest, "queue/x"),
            queue("a", "queue/x"),
            RoomName::parse("user:a:queue:x").unwrap(),
        ];
        for (at, room) in rooms.iter().enumerate() {
            assert_eq!(
                channel_shard(channel(3, room).as_bytes()),
                Some(3),
                "{room}"
            );
            for other in &rooms[..at] {
                assert_ne!(channel(3, room), channel(3, other));
                assert_ne!(recent(3, room), recent(3, other));
                assert_ne!(token(3, room, "t"), token(3, other, "t"));
            }
        }
        let (ann, key) = (
            UserName::parse("ann").unwrap(),
            IdempotencyKey::parse("k").unwrap(),
        );
        assert_eq!(
            idempotency(3, &queue("50%/a:b", "queue/x"), &ann, &key),
            "rc:{3}:idem:user/50%2525%252Fa%253Ab/queue/x:ann:k"
        );
    }

    #[test]
    fn a_channel_names_its_shard() {
        let room = RoomName::parse("a:room:x").unwrap();
        assert_eq!(channel_shard(channel(12, &room).as_bytes()), Some(12));
        assert_eq!(channel_shard(b"rc:gateway:x"), None);
        assert_eq!(channel_shard(b"rc:{3}:gateway:x"), None);
        assert_eq!(channel_shard(b"rc:{y}:room:x"), None);
    }
}
