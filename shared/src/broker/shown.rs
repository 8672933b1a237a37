//! What a gateway has shown before its copy came over the live link.

use std::sync::{Arc, Mutex, PoisonError};

use crate::message::{MessageId, Stamp};

/// The ids that are remembered at most: some more than are on their way at a time.
const PLACES: usize = 4096;

/// Remembers ids until their copies come. It may forget one, and its copy is handed out then.
#[derive(Clone)]
pub struct Shown(Arc<Mutex<Box<[MessageId]>>>);

impl Shown {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(vec![MessageId::MIN; PLACES].into())))
    }

    /// The gateway has shown this message; the copy that the link still brings may be dropped.
    pub fn note(&self, id: MessageId) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places[place(id)] = id;
    }

    /// Whether this is the copy of one that was noted, which it is once.
    pub(super) fn take(&self, id: MessageId) -> bool {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = &mut places[place(id)];
        let is_copy = *noted == id;
        if is_copy {
            *noted = MessageId::MIN;
        }
        is_copy
    }
}

/// Each id has one place, and a later one takes it away.
fn place(id: MessageId) -> usize {
    let Stamp { ms, seq } = id.stamp();
    let mixed = (ms.wrapping_mul(31).wrapping_add(seq)).wrapping_mul(31) + u64::from(id.shard());
    (mixed % PLACES as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_dropped_once_and_no_other_message_is() {
        let id = |ms, seq, shard| MessageId::new(Stamp { ms, seq }, shard);
        let shown = Shown::new();
        let noted = id(1_790_000_000_000, 3, 7);
        shown.note(noted);
        for other in [
            id(1_790_000_000_000, 3, 8),
            id(1_790_000_000_000, 4, 7),
            id(1_790_000_000_000 + PLACES as u64, 3, 7),
        ] {
            assert!(!shown.take(other));
        }
        assert!(shown.take(noted));
        assert!(!shown.take(noted));
    }

    #[test]
    fn what_takes_the_place_of_another_is_no_copy_of_it() {
        let id = |ms| MessageId::new(Stamp { ms, seq: 0 }, 0);
        let (first, second) = (id(5), id(5 + PLACES as u64));
        assert_eq!(place(first), place(second));
        let shown = Shown::new();
        shown.note(first);
        shown.note(second);
        assert!(!shown.take(first));
        assert!(shown.take(second));
    }
}
