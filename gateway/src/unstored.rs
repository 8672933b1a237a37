//! Messages that wait for the store before anyone sees them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use shared::message::{Message, MessageId, RoomName};

/// What a broker that is not durable has delivered and the store has not told of. The broker's
/// journal, which holds the same messages, bounds it; dead letters stay until the next message of
/// their room is stored.
#[derive(Default)]
pub(crate) struct Unstored {
    rooms: HashMap<RoomName, BTreeMap<MessageId, Arc<Message>>>,
    room_of: HashMap<MessageId, RoomName>,
}

impl Unstored {
    /// Holds a message until the store has it.
    pub(crate) fn hold(&mut self, message: Arc<Message>) {
        let (id, room) = (message.id, message.room.clone());
        self.room_of.insert(id, room.clone());
        self.rooms.entry(room).or_default().insert(id, message);
    }

    /// The messages that the store has now, in the order of their rooms.
    ///
    /// A room is stored in its order, so that what is older than one of these and not among them
    /// never will be: it went to the dead letters, and is let go of.
    pub(crate) fn release(&mut self, ids: &[MessageId]) -> Vec<Arc<Message>> {
        let mut newest: HashMap<RoomName, MessageId> = HashMap::new();
        let mut stored = Vec::with_capacity(ids.len());
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        for id in ids {
            let Some(room) = self.room_of.remove(&id) else {
                continue;
            };
            let held = self.rooms.get_mut(&room).and_then(|room| room.remove(&id));
            stored.extend(held);
            newest.insert(room, id);
        }
        for (room, newest) in newest {
            let Some(held) = self.rooms.get_mut(&room) else {
                continue;
            };
            let waiting = held.split_off(&newest);
            for dead in std::mem::replace(held, waiting).into_keys() {
                self.room_of.remove(&dead);
            }
            if held.is_empty() {
                self.rooms.remove(&room);
            }
        }
        stored
    }
}

#[cfg(test)]
mod tests {
    use shared::message::{Stamp, UserName};

    use super::*;

    fn message(room: &str, number: u64) -> Arc<Message> {
        Arc::new(Message {
            id: id(number),
            room: RoomName::parse(room).unwrap(),
            sender: UserName::parse("ann").unwrap(),
            content_type: None,
            headers: Vec::new(),
            body: "x".into(),
            idempotency_key: None,
            prev: None,
            ephemeral: false,
        })
    }

    fn id(number: u64) -> MessageId {
        MessageId::new(Stamp { ms: number, seq: 0 }, 0)
    }

    fn ids(messages: &[Arc<Message>]) -> Vec<MessageId> {
        messages.iter().map(|message| message.id).collect()
    }

    #[test]
    fn nothing_is_released_before_it_is_stored_and_then_in_order() {
        let mut unstored = Unstored::default();
        for (room, number) in [("a", 1), ("b", 2), ("a", 3), ("a", 4)] {
            unstored.hold(message(room, number));
        }
        assert_eq!(ids(&unstored.release(&[])), []);
        assert_eq!(ids(&unstored.release(&[id(3), id(1)])), [id(1), id(3)]);
        assert_eq!(ids(&unstored.release(&[id(2), id(4)])), [id(2), id(4)]);
        assert!(unstored.rooms.is_empty() && unstored.room_of.is_empty());
    }

    #[test]
    fn a_dead_letter_holds_nothing_up() {
        let mut unstored = Unstored::default();
        for number in 1..=3 {
            unstored.hold(message("a", number));
        }
        assert_eq!(ids(&unstored.release(&[id(2)])), [id(2)]);
        assert_eq!(ids(&unstored.release(&[id(1), id(3)])), [id(3)]);
        assert!(unstored.rooms.is_empty() && unstored.room_of.is_empty());
    }
}
