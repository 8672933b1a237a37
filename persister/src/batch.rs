//! What becomes of the entries that were taken from the journal together.

use std::collections::HashMap;
use std::sync::Arc;

use shared::broker::{Entry, Settled};
use shared::message::{GatewayId, Message, MessageId};
use shared::store::DeadLetter;

/// Entries on their way: messages to store, letters to bury, and who waits for which.
pub(crate) struct Batch {
    messages: Vec<Arc<Message>>,
    letters: Vec<DeadLetter>,
    waiting: HashMap<MessageId, GatewayId>,
}

impl Batch {
    /// Sorts out the entries that are no messages.
    pub(crate) fn new(entries: Vec<Entry>) -> Self {
        let mut messages = Vec::with_capacity(entries.len());
        let mut letters = Vec::new();
        let mut waiting = HashMap::new();
        for Entry {
            id,
            content,
            notify,
        } in entries
        {
            match content {
                Ok(message) => messages.push(message),
                Err(undecodable) => letters.push(DeadLetter {
                    id,
                    reason: undecodable.reason,
                    content: Err(undecodable.raw),
                }),
            }
            waiting.extend(notify.map(|gateway| (id, gateway)));
        }
        Self {
            messages,
            letters,
            waiting,
        }
    }

    /// What is to be stored.
    pub(crate) fn messages(&self) -> &[Arc<Message>] {
        &self.messages
    }

    /// What can never be stored.
    pub(crate) fn letters(&self) -> &[DeadLetter] {
        &self.letters
    }

    /// Moves messages that the store will never take to the letters.
    pub(crate) fn refuse(&mut self, refused: Vec<(MessageId, String)>) {
        let mut refused: HashMap<_, _> = refused.into_iter().collect();
        for message in std::mem::take(&mut self.messages) {
            match refused.remove(&message.id) {
                Some(reason) => {
                    let id = message.id;
                    self.letters.push(DeadLetter {
                        id,
                        reason,
                        content: Ok(message),
                    });
                }
                None => self.messages.push(message),
            }
        }
    }

    /// What the journal may forget, once the messages are stored and the letters buried. Nobody
    /// is told that a letter is stored.
    pub(crate) fn settled(&self) -> Vec<Settled> {
        let stored = self.messages.iter().map(|message| Settled {
            id: message.id,
            notify: self.waiting.get(&message.id).copied(),
        });
        let buried = self.letters.iter().map(|letter| Settled {
            id: letter.id,
            notify: None,
        });
        stored.chain(buried).collect()
    }
}
