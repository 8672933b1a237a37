//! The members of one room on one gateway.

use std::sync::Arc;

use shared::message::Message;

use crate::close::CloseReason;
use crate::outbox::Outbox;
use crate::session::message::message_frame;
use crate::session::output::{Address, Encoded, Slot};

/// The members of a room, by what their frames look like.
#[derive(Default)]
pub(crate) struct Members {
    groups: Vec<Group>,
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

impl Members {
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

    /// Whether a member has much to read yet.
    pub(crate) fn are_crowded(&self) -> bool {
        let mut members = self.groups.iter().flat_map(|group| &group.members);
        members.any(|member| member.outbox.is_crowded())
    }

    /// Ends the connection of every member.
    pub(crate) fn cut(&self, reason: CloseReason) {
        for member in self.groups.iter().flat_map(|group| &group.members) {
            member.outbox.cut(reason);
        }
    }

    /// Shows a message to every member.
    pub(crate) fn show(&self, message: &Message) {
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
}
