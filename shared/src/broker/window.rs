//! What a room's recent window proves about a reading.

use std::sync::Arc;

use crate::message::{Message, MessageId, Span, Stamp};

/// Whether what a window holds of a span is all that there is.
///
/// A window is contiguous up to the room's newest message. `found` is what it holds of the span,
/// already cut to `limit`; `newest` is its newest message, `None` when the window is empty.
pub(super) fn is_proven(
    span: Span,
    limit: usize,
    found: &[Arc<Message>],
    newest: Option<MessageId>,
) -> bool {
    match span {
        Span::After(bound) => match found.first() {
            Some(first) => {
                first.prev.is_some_and(|prev| prev <= bound) || first.id.before() <= bound
            }
            None => newest.is_some_and(|newest| newest <= bound),
        },
        Span::Before(_) | Span::Newest => found.len() >= limit,
    }
}

/// The least id, in any shard, that is above every one with this stamp.
pub(super) fn above(stamp: Stamp) -> MessageId {
    let Stamp { ms, seq } = stamp;
    MessageId::new(Stamp { ms, seq: seq + 1 }, 0)
}
