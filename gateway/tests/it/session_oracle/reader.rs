//! What the client has seen in one subscription.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use gateway::session::output::Address;
use shared::message::{Message, MessageId, RoomName};
use shared::stomp::Frame;

/// One subscription, from the JOIN that the session asked for to its LEAVE.
pub(crate) struct Reader {
    pub(crate) room: RoomName,
    pub(crate) address: Address,
    /// The broker has confirmed.
    pub(crate) confirmed: bool,
    /// SUBSCRIBE asked for a receipt that has not come.
    pub(crate) awaits_receipt: bool,
    /// A page was not whole, so that what follows need not be next to what came before.
    pub(crate) holes: bool,
    /// How many messages the room had said before.
    pub(crate) said: usize,
    journaled: bool,
    /// What the client has already: `after`, which may name what the room has not reached yet.
    after: Option<MessageId>,
    /// The place in the room's log of the message that must come next.
    next: usize,
    seen: HashSet<MessageId>,
    window: Window,
    /// Ephemeral messages that have been delivered and have not come.
    pub(crate) ephemeral: usize,
}

/// What was delivered and is not acknowledged.
pub(crate) struct Window {
    /// The header `ack` of SUBSCRIBE.
    mode: String,
    /// How many messages it may have.
    limit: usize,
    /// The frames in it, oldest first.
    frames: VecDeque<Frame>,
    /// What was acknowledged before it was delivered.
    early: HashSet<MessageId>,
}

impl Reader {
    /// A subscription to a room that has said `said` messages, of those after `after` or of those
    /// to come.
    pub(crate) fn new(
        room: RoomName,
        address: Address,
        journaled: bool,
        after: Option<MessageId>,
        said: usize,
        window: Window,
    ) -> Self {
        Self {
            room,
            address,
            confirmed: false,
            awaits_receipt: false,
            holes: false,
            said,
            journaled,
            after,
            next: if after.is_some() { 0 } else { said },
            seen: HashSet::new(),
            window,
            ephemeral: 0,
        }
    }

    /// Its past begins at that place of the log.
    pub(crate) fn begin_at(&mut self, next: usize) {
        self.next = next;
    }

    /// Whether a MESSAGE with these headers is for this subscription.
    pub(crate) fn is_named(&self, frame: &Frame) -> bool {
        match &self.address.subscription {
            Some(id) => frame.header("subscription") == Some(id),
            None => {
                frame.header("subscription").is_none()
                    && frame.header("destination") == Some(&self.address.destination)
            }
        }
    }

    /// A MESSAGE has come.
    pub(crate) fn message(&mut self, frame: &Frame, log: &[Arc<Message>]) {
        assert!(self.confirmed, "a MESSAGE before the broker's confirmation");
        let replayed = frame.header("replayed") == Some("true");
        assert!(
            replayed || !self.awaits_receipt,
            "the RECEIPT of SUBSCRIBE stands between the past and what is live"
        );
        let id = frame.header("message-id").expect("every MESSAGE has one");
        let id: MessageId = id.parse().expect("an id of ours");
        assert!(self.seen.insert(id), "{id} came twice in one subscription");
        self.window.deliver(id, frame);
        if frame.header("ephemeral") == Some("true") {
            assert!(!replayed, "what is ephemeral has no past");
            self.ephemeral = self
                .ephemeral
                .checked_sub(1)
                .expect("one that was delivered");
        } else if self.journaled {
            let at = log.binary_search_by_key(&id, |message| message.id);
            let at = at.expect("a message of this room");
            let next = self.next(log);
            assert!(
                at == next || (self.holes && at > next),
                "message {at} of the room came where {next} was next"
            );
            self.next = at + 1;
            if frame.header("body-encoding").is_none() {
                assert_eq!(frame.body, log[at].body);
            }
        }
        assert_eq!(
            frame.header("destination"),
            Some(&*self.address.destination)
        );
    }

    /// The client has acknowledged a message.
    pub(crate) fn acknowledge(&mut self, id: MessageId) {
        self.window.acknowledge(id);
    }

    /// What the client has not acknowledged and should.
    pub(crate) fn unacknowledged(&self) -> impl Iterator<Item = &Frame> {
        self.window.frames.iter()
    }

    /// Everything outstanding has ended well: nothing that was said is missing.
    pub(crate) fn check_complete(&self, log: &[Arc<Message>]) {
        if self.journaled && !self.holes {
            assert_eq!(self.next(log), log.len(), "messages are missing");
        }
        assert_eq!(self.ephemeral, 0, "ephemeral messages are missing");
        assert!(!self.awaits_receipt, "the RECEIPT of SUBSCRIBE is missing");
    }

    fn next(&self, log: &[Arc<Message>]) -> usize {
        let known = |message: &Arc<Message>| Some(message.id) <= self.after;
        self.next.max(log.partition_point(known))
    }
}

impl Window {
    pub(crate) fn new(mode: &str, limit: usize) -> Self {
        Self {
            mode: mode.to_owned(),
            limit,
            frames: VecDeque::new(),
            early: HashSet::new(),
        }
    }

    fn deliver(&mut self, id: MessageId, frame: &Frame) {
        if self.mode == "auto" {
            return;
        }
        self.frames.push_back(frame.clone());
        if self.early.contains(&id) {
            self.acknowledge(id);
        }
        assert!(
            self.frames.len() <= self.limit,
            "more than the window of unacknowledged messages"
        );
    }

    fn acknowledge(&mut self, id: MessageId) {
        let id_text = id.to_string();
        let named = |frame: &Frame| frame.header("message-id") == Some(&id_text);
        match self.frames.iter().position(named) {
            None => drop(self.early.insert(id)),
            Some(at) if self.mode == "client" => drop(self.frames.drain(..=at)),
            Some(at) => drop(self.frames.remove(at)),
        }
    }
}
