//! The message model.

use shared::message::{MessageId, Stamp};

#[test]
fn the_time_of_a_message_is_shown_to_the_millisecond() {
    for (ms, shown) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_709_164_800_007, "2024-02-29T00:00:00.007Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ((1 << 48) - 1, "9999-12-31T23:59:59.999Z"),
    ] {
        let id = MessageId::new(Stamp { ms, seq: 5 }, 3);
        assert_eq!(id.created_at_rfc3339(), shown);
    }
}
