//! Which shard a room belongs to.

use crate::message::RoomName;

/// The shard of a room: the FNV-1a hash (64 bits) of its name, modulo the number of shards.
///
/// Every process of one system must agree on it, over all versions, since keys and message ids
/// contain it: it never changes.
pub fn shard_of(room: &RoomName, shards: u16) -> u16 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for octet in room.as_str().bytes() {
        hash = (hash ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    (hash % u64::from(shards.max(1))) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_stays_in_its_shard_over_all_versions() {
        let shard = |name: &str, shards| shard_of(&RoomName::parse(name).unwrap(), shards);
        // The published FNV-1a values: "a" is af63dc4c8601ec8c, "foobar" is 85944171f73967e8.
        assert_eq!(shard("a", 16), 0xc);
        assert_eq!(shard("foobar", 16), 0x8);
        assert_eq!(shard("a", 1000), (0xaf63_dc4c_8601_ec8c_u64 % 1000) as u16);
        assert_eq!(shard("foobar", 7), (0x8594_4171_f739_67e8_u64 % 7) as u16);
        assert_eq!(shard("anything", 1), 0);
    }
}
