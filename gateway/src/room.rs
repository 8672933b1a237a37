//! One room on one gateway: its members, its newest message, and what waits for a repair.
//!
//! In a journaled room ids grow and each message names the one before it, so that a repeat and a
//! gap show. While a gap is repaired, what is newer waits.

use std::sync::Arc;

use shared::broker::handover::weight;
use shared::message::{Message, MessageId};

use crate::close::CloseReason;
use crate::outbox::Outbox;
use crate::session::message::message_frame;
use crate::session::output::{Address, Encoded, Slot};

/// The state of one room.
#[derive(Default)]
pub(crate) struct Room {
    groups: Vec<Group>,
    journaled: bool,
    newest: Option<MessageId>,
    /// The broker has confirmed the room: from here on nothing may be missed.
    confirmed: bool,
    /// Something may have been missed before.
    disturbed: bool,
    max_held_bytes: usize,
    repair: Option<Repair>,
}

/// Members whose MESSAGE frames are alike.
struct Group {
    address: Address,
    members: Vec<Member>,
}

/// A subscription of a connection.
#[derive(Clone)]
pub(crate) struct Member {
    /// The connection's outbox.
    pub(crate) outbox: Outbox,
    /// The subscription's name in its session.
    pub(crate) slot: Slot,
}

#[derive(Default)]
struct Repair {
    held: Vec<Arc<Message>>,
    held_bytes: usize,
    again: bool,
    /// What is missing up to here has been read, or cannot be had.
    read_until: Option<MessageId>,
}

impl Room {
    /// A room without members. `journaled` is what the broker guarantees. Of what arrives during a
    /// repair at most `max_held_bytes` octets wait; beyond, they are dropped and read again.
    pub(crate) fn new(journaled: bool, max_held_bytes: usize) -> Self {
        Self {
            journaled,
            max_held_bytes,
            ..Self::default()
        }
    }

    /// Adds a member.
    pub(crate) fn join(&mut self, address: &Address, member: Member) {
        match self
            .groups
            .iter_mut()
            .find(|group| group.address == *address)
        {
            Some(group) => group.members.push(member),
            None => {
                self.groups.push(Group {
                    address: address.clone(),
                    members: vec![member],
                });
            }
        }
    }

    /// Removes a member.
    pub(crate) fn leave(&mut self, address: &Address, member: &Member) {
        let Some(at) = self
            .groups
            .iter()
            .position(|group| group.address == *address)
        else {
            return;
        };
        let members = &mut self.groups[at].members;
        let is_it = |m: &Member| m.slot == member.slot && m.outbox.is_same(&member.outbox);
        if let Some(place) = members.iter().position(is_it) {
            members.swap_remove(place);
        }
        if members.is_empty() {
            self.groups.swap_remove(at);
        }
    }

    /// Whether nobody is here.
    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The newest message that the room is known to have.
    pub(crate) fn newest(&self) -> Option<MessageId> {
        self.newest
    }

    /// The room is subscribed, and this was then its newest message where that could be read: what
    /// comes later and is missed is a gap. `false` when something may have been missed since it was
    /// read: read it again.
    pub(crate) fn confirm(&mut self, newest: Option<MessageId>) -> bool {
        if std::mem::take(&mut self.disturbed) {
            return false;
        }
        self.newest = self.newest.or(newest);
        self.confirmed = true;
        true
    }

    /// A live message. `false` when a gap shows: the message waits, and the caller must repair.
    pub(crate) fn arrive(&mut self, message: &Arc<Message>) -> bool {
        if let Some(repair) = &mut self.repair {
            repair.hold(message, self.max_held_bytes);
            return true;
        }
        if self.journaled
            && let (Some(newest), Some(prev)) = (self.newest, message.prev)
            && prev > newest
        {
            let mut repair = Repair::default();
            repair.hold(message, self.max_held_bytes);
            self.repair = Some(repair);
            return false;
        }
        self.deliver(message);
        true
    }

    /// Holds live messages back until the repair has ended. `false` when there is none to begin: one
    /// is under way and reads once more, or the room is not confirmed yet and promises nothing.
    pub(crate) fn begin_repair(&mut self) -> bool {
        if self.newest.is_none() && !self.confirmed {
            self.disturbed = true;
            return false;
        }
        match &mut self.repair {
            Some(repair) => {
                repair.again = true;
                false
            }
            None => {
                self.repair = Some(Repair::default());
                true
            }
        }
    }

    /// Delivers a message to every member, unless it is a repeat. Only a repair passes by
    /// [`Self::arrive`].
    pub(crate) fn deliver(&mut self, message: &Arc<Message>) {
        if self.journaled {
            if self.newest.is_some_and(|newest| message.id <= newest) {
                return;
            }
            self.newest = Some(message.id);
        }
        for group in &self.groups {
            let frame = message_frame(message, &group.address, false);
            let encoded = Arc::new(Encoded {
                id: message.id,
                frame,
                ephemeral: message.ephemeral,
            });
            for member in &group.members {
                member.outbox.push(member.slot, Arc::clone(&encoded));
            }
        }
    }

    /// Releases what waited. `false` when more was missed meanwhile: read on.
    pub(crate) fn end_repair(&mut self) -> bool {
        let Some(repair) = &mut self.repair else {
            return true;
        };
        if std::mem::take(&mut repair.again) {
            return false;
        }
        let mut known = self.newest.max(repair.read_until);
        for message in &repair.held {
            if message.prev > known {
                repair.read_until = repair.held.last().map(|newest| newest.id);
                return false;
            }
            known = known.max(Some(message.id));
        }
        for message in self
            .repair
            .take()
            .into_iter()
            .flat_map(|repair| repair.held)
        {
            self.deliver(&message);
        }
        true
    }

    /// Ends the connection of every member.
    pub(crate) fn cut(&mut self, reason: CloseReason) {
        self.repair = None;
        for member in self.groups.iter().flat_map(|group| &group.members) {
            member.outbox.cut(reason);
        }
    }
}

impl Repair {
    fn hold(&mut self, message: &Arc<Message>, max_bytes: usize) {
        self.held_bytes += weight(message);
        if self.held_bytes > max_bytes {
            self.held.clear();
            self.held_bytes = 0;
            self.again = true;
        } else {
            self.held.push(Arc::clone(message));
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::message::{RoomName, Stamp, UserName};
    use shared::metrics::Metrics;
    use shared::stomp::Version;

    use super::*;
    use crate::outbox::outbox;

    fn id(ms: u64) -> MessageId {
        MessageId::new(Stamp { ms, seq: 0 }, 0)
    }

    /// The message of this number, which comes after the one before.
    fn message(number: u64) -> Arc<Message> {
        Arc::new(Message {
            id: id(number),
            room: RoomName::parse("r").unwrap(),
            sender: UserName::parse("kim").unwrap(),
            content_type: None,
            headers: Vec::new(),
            body: "hi".into(),
            idempotency_key: None,
            prev: Some(id(number - 1)),
            ephemeral: false,
        })
    }

    #[test]
    fn what_is_missed_during_a_repair_is_read_before_what_waits_is_released() {
        let mut room = Room::new(true, 1 << 20);
        let (outbox, mut deliveries) = outbox(1 << 20, Metrics::new().gateway);
        let address = Address {
            version: Version::V1_2,
            subscription: None,
            destination: "/topic/rooms/r".into(),
            acknowledged: false,
            text_only: false,
        };
        let slot = Slot(0);
        room.join(&address, Member { outbox, slot });
        assert!(room.confirm(Some(id(1))));
        assert!(room.begin_repair());
        // The link was lost again, and is back before it says so.
        assert!(room.arrive(&message(3)));
        assert!(room.arrive(&message(4)));
        assert!(!room.end_repair(), "2 is missing");
        room.deliver(&message(2));
        assert!(room.arrive(&message(6)));
        assert!(!room.end_repair(), "5 is missing");
        // Nobody has it any more, which is no reason to wait for ever.
        assert!(room.end_repair());
        let delivered = std::iter::from_fn(|| deliveries.try_next());
        let ids: Vec<_> = delivered.map(|delivery| delivery.encoded.id).collect();
        assert_eq!(ids, [2, 3, 4, 6].map(id));
    }
}
