//! Rooms: who is in them, and the frames that go to them.

use std::collections::HashMap;
use std::io::Write;

use shared::message::MessageId;

/// Octets of the head of a WebSocket message, for most sizes of messages (RFC 6455, section 5.2).
const HEAD: usize = 4;

/// Everybody's rooms.
#[derive(Default)]
pub(super) struct Rooms {
    rooms: Vec<Room>,
    numbers: HashMap<Box<str>, usize>,
}

/// One room. It stays when its last member leaves: names come again.
#[derive(Default)]
pub(super) struct Room {
    /// Who gets the same frame.
    pub groups: Vec<Group>,
}

/// Members whose frames are the same, because they number their subscriptions alike.
pub(super) struct Group {
    /// The first lines of the frame: up to the subscription and the destination.
    beginning: Box<str>,
    /// The members' places among all clients.
    pub members: Vec<usize>,
}

impl Rooms {
    /// The number of the room that a destination leads to: what follows its last slash is the room's
    /// name, so that `/app/rooms/a` and `/topic/rooms/a` are one.
    pub(super) fn number(&mut self, destination: &str) -> usize {
        let (_, name) = destination.rsplit_once('/').unwrap_or(("", destination));
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.rooms.len();
        self.rooms.push(Room::default());
        self.numbers.insert(name.into(), number);
        number
    }

    /// The room of this number, which [`number`](Self::number) has given.
    pub(super) fn room(&mut self, number: usize) -> &mut Room {
        &mut self.rooms[number]
    }
}

impl Room {
    /// Lets a client in, with the id of its subscription and what it calls the room.
    pub(super) fn join(&mut self, member: usize, subscription: &str, destination: &str) {
        let beginning =
            format!("MESSAGE\nsubscription:{subscription}\ndestination:{destination}\n");
        let found = self
            .groups
            .iter_mut()
            .find(|group| *group.beginning == *beginning);
        match found {
            Some(group) => group.members.push(member),
            None => self.groups.push(Group {
                beginning: beginning.into(),
                members: vec![member],
            }),
        }
    }

    /// Lets a client out, or nobody where it is not in it.
    pub(super) fn leave(&mut self, member: usize) {
        for group in &mut self.groups {
            group.members.retain(|other| *other != member);
        }
        self.groups.retain(|group| !group.members.is_empty());
    }
}

impl Group {
    /// Writes a MESSAGE for all members into `frame`, in place of what it has.
    pub(super) fn message(&self, frame: &mut Vec<u8>, id: MessageId, sender: &str, body: &[u8]) {
        frame.clear();
        append(frame, |frame| {
            frame.extend_from_slice(self.beginning.as_bytes());
            // A `Vec` takes whatever is written.
            let _ = write!(
                frame,
                "message-id:{id}\nsender:{sender}\ncontent-type:text/plain\ncontent-length:{}\n\n",
                body.len()
            );
            frame.extend_from_slice(body);
        });
    }
}

/// Adds a RECEIPT to `frames`, which may have others. The id is that of the message that was sent.
pub(super) fn receipt(frames: &mut Vec<u8>, receipt: &str, id: Option<MessageId>) {
    append(frames, |frame| {
        let _ = match id {
            Some(id) => write!(frame, "RECEIPT\nreceipt-id:{receipt}\nmessage-id:{id}\n\n"),
            None => write!(frame, "RECEIPT\nreceipt-id:{receipt}\n\n"),
        };
    });
}

/// Adds CONNECTED. Whoever connects speaks 1.2, and gets no heart-beats.
pub(super) fn connected(frames: &mut Vec<u8>) {
    append(frames, |frame| {
        frame.extend_from_slice(b"CONNECTED\nversion:1.2\nheart-beat:0,0\n\n");
    });
}

/// Adds a STOMP frame, as a message of its own, of which `fill` writes all but the NUL.
fn append(frames: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = frames.len();
    frames.extend_from_slice(&[0; HEAD]);
    fill(frames);
    frames.push(0);
    let length = frames.len() - start - HEAD;
    let mut head = vec![0x81];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..=125), _) => head.push(short),
        (_, Ok(medium)) => {
            let [high, low] = medium.to_be_bytes();
            frames[start..start + HEAD].copy_from_slice(&[0x81, 126, high, low]);
            return;
        }
        _ => {
            head.push(127);
            head.extend((length as u64).to_be_bytes());
        }
    }
    frames.splice(start..start + HEAD, head);
}

#[cfg(test)]
mod tests {
    use shared::message::Stamp;

    use super::*;

    #[test]
    fn a_frame_says_its_length_in_as_few_octets_as_it_can() {
        for (size, head) in [
            (125, &[0x81, 125][..]),
            (126, &[0x81, 126, 0, 126]),
            (65_535, &[0x81, 126, 0xff, 0xff]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut frames = b"before".to_vec();
            append(&mut frames, |frame| {
                frame.resize(frame.len() + size - 1, b'x')
            });
            let rest = frames.strip_prefix(b"before").unwrap();
            let payload = rest.strip_prefix(head).unwrap();
            assert_eq!(payload.len(), size);
            assert_eq!(payload.last(), Some(&0));
        }
    }

    #[test]
    fn members_who_number_alike_share_a_frame_and_who_left_is_in_none() {
        let mut rooms = Rooms::default();
        let number = rooms.number("/topic/rooms/a");
        assert_eq!(rooms.number("/app/rooms/a"), number);
        assert_ne!(rooms.number("/topic/rooms/b"), number);
        let room = rooms.room(number);
        for (member, subscription) in [(1, "0"), (2, "sub-0"), (3, "0")] {
            room.join(member, subscription, "/topic/rooms/a");
        }
        let members = |room: &Room| -> Vec<Vec<usize>> {
            let groups = room.groups.iter();
            groups.map(|group| group.members.clone()).collect()
        };
        assert_eq!(members(room), [vec![1, 3], vec![2]]);
        room.leave(2);
        assert_eq!(members(room), [vec![1, 3]]);
        let mut frame = Vec::new();
        let id = MessageId::new(Stamp { ms: 1, seq: 0 }, 0);
        room.groups[0].message(&mut frame, id, "ada", b"hi");
        let text = String::from_utf8_lossy(&frame[HEAD..]).into_owned();
        assert!(text.starts_with("MESSAGE\nsubscription:0\ndestination:/topic/rooms/a\n"));
        assert!(text.ends_with("sender:ada\ncontent-type:text/plain\ncontent-length:2\n\nhi\0"));
    }
}
