//! What becomes of the entries that were taken from the journal together.

use std::collections::HashMap;
use std::sync::Arc;

use shared::broker::{Entry, Settled};
use shared::message::{GatewayId, Message, MessageId};
use shared::store::DeadLetter;

/// Entries on their way: messages to store, letters to bury, and who waits for which.
pub(crate) struct Batch {
    messages: Vec<Arc<Message>>,
    /// Who waits for each of the messages.
    waiting: Vec<Option<GatewayId>>,
    letters: Vec<DeadLetter>,
}

impl Batch {
    /// Sorts out the entries that are no messages.
    pub(crate) fn new(entries: Vec<Entry>) -> Self {
        let mut messages = Vec::with_capacity(entries.len());
        let mut waiting = Vec::with_capacity(entries.len());
        let mut letters = Vec::new();
        for Entry {
            id,
            content,
            notify,
        } in entries
        {
            match content {
                Ok(message) => {
                    messages.push(message);
                    waiting.push(notify);
                }
                Err(undecodable) => letters.push(DeadLetter {
                    id,
                    reason: undecodable.reason,
                    content: Err(undecodable.raw),
                }),
            }
        }
        Self {
            messages,
            waiting,
            letters,
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
        if refused.is_empty() {
            return;
        }
        let mut refused: HashMap<_, _> = refused.into_iter().collect();
        let waiting = std::mem::take(&mut self.waiting);
        for (message, notify) in std::mem::take(&mut self.messages).into_iter().zip(waiting) {
            match refused.remove(&message.id) {
                Some(reason) => {
                    let id = message.id;
                    self.letters.push(DeadLetter {
                        id,
                        reason,
                        content: Ok(message),
                    });
                }
                None => {
                    self.messages.push(message);
                    self.waiting.push(notify);
                }
            }
        }
    }

    /// What the journal may forget, once the messages are stored and the letters buried. Nobody
    /// is told that a letter is stored.
    pub(crate) fn settled(&self) -> Vec<Settled> {
        let stored = self.messages.iter().zip(&self.waiting);
        let stored = stored.map(|(message, notify)| Settled {
            id: message.id,
            notify: *notify,
        });
        let buried = self.letters.iter().map(|letter| Settled {
            id: letter.id,
            notify: None,
        });
        stored.chain(buried).collect()
    }
}
