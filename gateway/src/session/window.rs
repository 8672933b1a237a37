//! How far a subscriber may run ahead of its acknowledgements (STOMP 1.2, section "SUBSCRIBE ack
//! Header").

use std::collections::VecDeque;

use shared::message::MessageId;

/// What a SUBSCRIBE says of acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AckMode {
    /// Every message counts as dealt with when it is sent.
    Auto,
    /// An ACK also covers what was delivered before it.
    Client,
    /// An ACK covers one message.
    ClientIndividual,
}

impl AckMode {
    /// The mode that is spelt so; a SUBSCRIBE that says nothing means `auto`.
    pub(super) fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("auto") => Some(Self::Auto),
            Some("client") => Some(Self::Client),
            Some("client-individual") => Some(Self::ClientIndividual),
            Some(_) => None,
        }
    }
}

/// The messages of one subscription that were delivered and are not acknowledged, oldest delivery
/// first.
#[derive(Debug)]
pub(super) struct Window {
    mode: AckMode,
    limit: usize,
    unacknowledged: VecDeque<MessageId>,
    /// The least and the greatest id that were delivered: what is known of those that are
    /// acknowledged already.
    delivered: Option<(MessageId, MessageId)>,
}

impl Window {
    pub(super) fn new(mode: AckMode, limit: usize) -> Self {
        Self {
            mode,
            limit,
            unacknowledged: VecDeque::new(),
            delivered: None,
        }
    }

    pub(super) fn mode(&self) -> AckMode {
        self.mode
    }

    /// How many messages may be delivered now.
    pub(super) fn room(&self) -> usize {
        match self.mode {
            AckMode::Auto => usize::MAX,
            AckMode::Client | AckMode::ClientIndividual => {
                self.limit.saturating_sub(self.unacknowledged.len())
            }
        }
    }

    /// A message is delivered.
    pub(super) fn deliver(&mut self, id: MessageId) {
        let (least, greatest) = self.delivered.unwrap_or((id, id));
        self.delivered = Some((least.min(id), greatest.max(id)));
        if self.mode != AckMode::Auto {
            self.unacknowledged.push_back(id);
        }
    }

    /// Whether a message may have been delivered: it is unacknowledged, or lies between others
    /// that were. Remembering each would cost memory without end, and an ACK that is ignored does
    /// no harm.
    pub(super) fn may_have_delivered(&self, id: MessageId) -> bool {
        self.delivered
            .is_some_and(|(least, greatest)| (least..=greatest).contains(&id))
    }

    /// A message has been dealt with, and in mode `client` what was delivered before it. One that
    /// is acknowledged already changes nothing.
    pub(super) fn acknowledge(&mut self, id: MessageId) {
        let Some(at) = self.unacknowledged.iter().position(|each| *each == id) else {
            return;
        };
        match self.mode {
            AckMode::Client => drop(self.unacknowledged.drain(..=at)),
            AckMode::Auto | AckMode::ClientIndividual => drop(self.unacknowledged.remove(at)),
        }
    }
}
