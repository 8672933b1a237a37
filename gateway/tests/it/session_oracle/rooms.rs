//! What is said in rooms, and delivered to those who have joined them.

use std::sync::Arc;

use bytes::Bytes;
use gateway::session::message::message_frame;
use gateway::session::output::Encoded;
use shared::message::{Message, MessageId, RoomName, Stamp, UserName};

use super::world::World;

impl World {
    /// Someone else says something in a room.
    pub(crate) fn speak(&mut self, room: &str, body: Bytes) {
        let room = RoomName::parse(room).expect("a room name");
        self.append(&room, body);
        self.go_on();
    }

    /// Someone else says something in a room that only those who listen hear. Its id is by a clock
    /// of its own.
    pub(crate) fn whisper(&mut self, room: &str, ms: u64) {
        let room = RoomName::parse(room).expect("a room name");
        self.pass_on(&room, ms);
        self.go_on();
    }

    /// The broker accepts what the client has sent.
    pub(super) fn accept(&mut self, room: &RoomName, ephemeral: bool) -> MessageId {
        match ephemeral {
            true => self.pass_on(room, 0),
            false => self.append(room, "sent".into()),
        }
    }

    /// The broker passes on what is not to be stored.
    fn pass_on(&mut self, room: &RoomName, ms: u64) -> MessageId {
        self.whispers += 1;
        let id = MessageId::new(
            Stamp {
                ms,
                seq: self.whispers,
            },
            1,
        );
        let message = message(id, room, "psst".into(), true);
        self.deliver(&message, usize::MAX);
        for reader in self
            .readers
            .values_mut()
            .filter(|reader| reader.room == *room)
        {
            reader.ephemeral += 1;
        }
        id
    }

    /// The broker delivers a message again, which only a journaled one is known to do.
    pub(crate) fn repeat(&mut self, room: &str, back: usize) {
        let room = RoomName::parse(room).expect("a room name");
        let log = self.rooms.entry(room).or_default();
        if !self.guarantees.journaled || log.is_empty() {
            return;
        }
        let at = log.len() - 1 - back % log.len();
        let message = Arc::clone(&log[at]);
        self.deliver(&message, at);
        self.go_on();
    }

    /// The broker accepts a message.
    fn append(&mut self, room: &RoomName, body: Bytes) -> MessageId {
        self.last_ms += 1;
        let id = MessageId::new(
            Stamp {
                ms: self.last_ms,
                seq: 0,
            },
            0,
        );
        let message = Arc::new(message(id, room, body, false));
        let log = self.rooms.entry(room.clone()).or_default();
        let at = log.len();
        log.push(Arc::clone(&message));
        self.deliver(&message, at);
        id
    }

    /// Delivers what stands at `at` in its room's log to those who had joined before.
    fn deliver(&mut self, message: &Message, at: usize) {
        for (slot, reader) in &self.readers {
            if reader.room == message.room && reader.said <= at {
                let frame = message_frame(message, &reader.address, false);
                let (id, ephemeral) = (message.id, message.ephemeral);
                let encoded = Encoded {
                    id,
                    frame,
                    ephemeral,
                };
                self.outbox.push(*slot, Arc::new(encoded));
            }
        }
    }
}

fn message(id: MessageId, room: &RoomName, body: Bytes, ephemeral: bool) -> Message {
    Message {
        id,
        room: room.clone(),
        sender: UserName::parse("lee").expect("a user name"),
        content_type: None,
        headers: Vec::new(),
        body,
        idempotency_key: None,
        prev: None,
        ephemeral,
    }
}
