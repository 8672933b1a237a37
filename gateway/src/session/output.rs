//! What a session asks its driver to do.

use std::sync::Arc;

use bytes::Bytes;
use shared::message::{Draft, MessageId, RoomName, Span};
use shared::stomp::Version;

use crate::access::{Action, Verdict};
use crate::auth::Credentials;
use crate::close::CloseReason;
use crate::config::ReceiptAfter;
use crate::guard::Scope;
use crate::outbox::Delivery;

/// One step for the driver, in order.
#[derive(Debug)]
pub enum Output {
    /// Write a frame or a heart-beat.
    Write(Outgoing),
    /// Write a MESSAGE that arrived live. It counts against the outbox until it is dropped.
    Deliver(Delivery),
    /// Find out who the client is, and report with
    /// [`Session::authenticated`](super::Session::authenticated).
    Authenticate(Credentials),
    /// Find out whether the user may do this, and report with
    /// [`Session::authorized`](super::Session::authorized).
    Authorize {
        /// The room, or a user's queue.
        room: RoomName,
        /// What is to be done there.
        action: Action,
    },
    /// Count this decision about what the user may do, which nobody had to be asked for.
    Decided(Verdict),
    /// Publish, and report with [`Session::published`](super::Session::published).
    Publish {
        /// Names this publish in the answer.
        token: u64,
        /// What to publish.
        draft: Box<Draft>,
        /// When the answer is due.
        until: ReceiptAfter,
    },
    /// Join a room, and report with [`Session::joined`](super::Session::joined). Deliveries may
    /// come from the moment that this is carried out.
    Join {
        /// Names the subscription in the answer and in deliveries.
        slot: Slot,
        /// The room.
        room: RoomName,
        /// How its MESSAGEs are addressed.
        address: Address,
    },
    /// Leave the room of this subscription.
    Leave(Slot),
    /// Read a room's past, and report with [`Session::past`](super::Session::past).
    Read {
        /// Names the subscription in the answer.
        slot: Slot,
        /// The room.
        room: RoomName,
        /// Which messages.
        span: Span,
        /// How many at most.
        limit: usize,
    },
    /// Count that the client is slowed down, by a limit of this scope.
    Slowed(Scope),
    /// Flush what was written, close the connection, and call the session no more.
    Close(CloseReason),
}

/// A finished WebSocket message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// A text message; the octets are UTF-8.
    Text(Bytes),
    /// A binary message.
    Binary(Bytes),
    /// Asks for a sign of life by the transport's own means.
    Ping,
}

impl Outgoing {
    /// Its length in octets, without WebSocket's own header.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(bytes) | Self::Binary(bytes) => bytes.len(),
            Self::Ping => 0,
        }
    }

    /// Whether it has no octets.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A MESSAGE encoded once for all subscriptions of a gateway that share an [`Address`].
#[derive(Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The message's id.
    pub id: MessageId,
    /// The frame.
    pub frame: Outgoing,
    /// The message is in no room's order: its id says nothing of what came before it.
    pub ephemeral: bool,
}

/// What makes the MESSAGE frames of two subscriptions to one room alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The STOMP version, which decides the escapes.
    pub version: Version,
    /// The `subscription` header; STOMP 1.0 allows none.
    pub subscription: Option<Arc<str>>,
    /// The `destination` header, as the client wrote it.
    pub destination: Arc<str>,
    /// The MESSAGEs are to be acknowledged.
    pub acknowledged: bool,
    /// The transport carries text only.
    pub text_only: bool,
}

/// A subscription's name between a session and its driver; never used twice by one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);
