//! The message model.

use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use shared::message::{MessageId, RoomName, Stamp, UserName};

#[test]
fn the_time_of_a_message_is_shown_to_the_millisecond() {
    for (ms, shown) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (951_868_799_999, "2000-02-29T23:59:59.999Z"),
        (951_868_800_000, "2000-03-01T00:00:00.000Z"),
        (1_709_164_800_007, "2024-02-29T00:00:00.007Z"),
        (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ((1 << 48) - 1, "9999-12-31T23:59:59.999Z"),
    ] {
        let id = MessageId::new(Stamp { ms, seq: 5 }, 3);
        assert_eq!(id.created_at_rfc3339(), shown);
    }
}

proptest! {
    #[test]
    fn the_time_of_a_message_is_written_as_others_write_it(ms in 0_u64..253_402_300_800_000) {
        let id = MessageId::new(Stamp { ms, seq: 0 }, 0);
        let time = UNIX_EPOCH + Duration::from_millis(ms);
        let others = humantime::format_rfc3339_millis(time).to_string();
        prop_assert_eq!(id.created_at_rfc3339(), others);
    }
}

#[test]
fn an_id_is_written_the_same_way_over_all_versions() {
    for (ms, seq, shard, written) in [
        (0, 0, 0, "00000000-0000-7000-8000-000000000000"),
        (
            0x0123_4567_89ab,
            (5 << 46) | 6,
            7,
            "01234567-89ab-7005-8000-000000060007",
        ),
        (
            (1 << 48) - 1,
            (1 << 58) - 1,
            u16::MAX,
            "ffffffff-ffff-7fff-bfff-ffffffffffff",
        ),
    ] {
        let stamp = Stamp { ms, seq };
        let id = MessageId::new(stamp, shard);
        assert_eq!(id.to_string(), written);
        let read: MessageId = written.parse().unwrap();
        assert_eq!((read, read.stamp(), read.shard()), (id, stamp, shard));
    }
}

fn stamp() -> impl Strategy<Value = Stamp> {
    // Few milliseconds, so that the sequence often decides.
    (0..4_u64, 0..1_u64 << 58).prop_map(|(ms, seq)| Stamp { ms, seq })
}

proptest! {
    #[test]
    fn ids_are_in_the_order_of_their_stamps_as_text_too(
        one in stamp(), other in stamp(), shards: (u16, u16)
    ) {
        let (first, second) = (MessageId::new(one, shards.0), MessageId::new(other, shards.1));
        let order = (one, shards.0).cmp(&(other, shards.1));
        prop_assert_eq!(first.cmp(&second), order);
        prop_assert_eq!(first.to_string().cmp(&second.to_string()), order);
        prop_assert_eq!(first.uuid().as_bytes().cmp(second.uuid().as_bytes()), order);
    }

    #[test]
    fn no_id_of_a_room_lies_between_one_and_the_one_before_it(
        one in stamp(), other in stamp(), shard: u16
    ) {
        let (id, other) = (MessageId::new(one, shard), MessageId::new(other, shard));
        prop_assert!(id.before() < id);
        prop_assert!(other.is_ephemeral() || !(id.before() < other && other < id));
    }
}

#[test]
fn a_queue_is_of_the_one_user_that_it_was_made_for() {
    let names = [
        "kim",
        "kim/queue",
        "k",
        "kim2",
        "Kim",
        "%6Bim",
        "김 철수",
        "user",
    ];
    for owner in names {
        let queue = RoomName::queue(&UserName::parse(owner).unwrap(), "queue/a/b").unwrap();
        for name in names {
            let user = UserName::parse(name).unwrap();
            assert_eq!(queue.is_queue_of(&user), name == owner, "{name}: {queue}");
        }
    }
    let room = RoomName::parse("user").unwrap();
    assert!(!room.is_queue_of(&UserName::parse("user").unwrap()));
}
