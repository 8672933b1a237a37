//! What is on its way to the broker, and the receipts that wait for its answer.

use shared::broker::PublishError;
use shared::message::{Draft, ID_LEN, TIME_LEN};
use shared::stomp::{Command, Encoder};

use super::output::{Outgoing, Output};
use super::transaction::CommitId;
use super::{Published, Session};
use crate::close::CloseReason;
use crate::config::ReceiptAfter;

/// A SEND that was found good.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) draft: Box<Draft>,
    pub(super) receipt: Option<String>,
    /// What its RECEIPT, or that of its COMMIT, is to wait for.
    pub(super) asked: ReceiptAfter,
    /// Octets of its frame.
    pub(super) bytes: usize,
}

/// A COMMIT's RECEIPT, which covers the publishes of its transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cover {
    pub(super) commit: CommitId,
    /// What COMMIT's RECEIPT is to wait for.
    pub(super) asked: ReceiptAfter,
}

/// A publish without an answer.
#[derive(Debug)]
pub(super) struct InFlight {
    receipt: Option<String>,
    commit: Option<CommitId>,
    bytes: usize,
    ephemeral: bool,
}

impl Session {
    pub(super) fn publish(&mut self, publication: Publication, cover: Option<Cover>) {
        let Publication {
            draft,
            receipt,
            asked,
            bytes,
        } = publication;
        let asked = match cover {
            Some(cover) if cover.asked == ReceiptAfter::Stored => ReceiptAfter::Stored,
            _ => asked,
        };
        let until = match receipt.is_some() || cover.is_some() {
            false => ReceiptAfter::Accepted,
            true => asked.due(self.guarantees, draft.ephemeral),
        };
        let token = self.next_token;
        self.next_token += 1;
        self.in_flight_bytes += bytes;
        let in_flight = InFlight {
            receipt,
            commit: cover.map(|cover| cover.commit),
            bytes,
            ephemeral: draft.ephemeral,
        };
        self.in_flight.insert(token, in_flight);
        self.outputs.push_back(Output::Publish {
            token,
            draft,
            until,
        });
    }

    /// Writes the receipts that an answer has earned, or says what failed.
    pub(super) fn settle(&mut self, token: u64, answer: Result<Published, PublishError>) {
        let Some(in_flight) = self.in_flight.remove(&token) else {
            return;
        };
        self.in_flight_bytes -= in_flight.bytes;
        if self.closing().is_some() {
            return;
        }
        match answer {
            Ok(published) => {
                if let (Published::Done(accepted), Some(receipt)) = (published, &in_flight.receipt)
                {
                    let size = 128 + 2 * receipt.len();
                    let mut frame = Encoder::new(Command::Receipt, self.version, size);
                    frame.known("receipt-id", receipt);
                    frame.known("message-id", accepted.id.write(&mut [0; ID_LEN]));
                    let mut time = [0; TIME_LEN];
                    frame.known("created-at", accepted.id.write_created_at(&mut time));
                    let octets = Outgoing::Text(frame.finish(&[]));
                    self.outputs.push_back(Output::Write(octets));
                }
                let earned = in_flight
                    .commit
                    .and_then(|commit| self.transactions.published(commit, published));
                self.acknowledged(earned);
            }
            // Its sender has not asked what became of it, and may go on without it.
            Err(_)
                if in_flight.ephemeral
                    && in_flight.receipt.is_none()
                    && in_flight.commit.is_none() => {}
            Err(error) => {
                let reason = match error {
                    PublishError::Full => CloseReason::JournalFull,
                    PublishError::Overloaded => CloseReason::Overloaded,
                    PublishError::Unavailable => CloseReason::BrokerUnavailable,
                };
                let committed = in_flight
                    .commit
                    .and_then(|commit| self.transactions.failed(commit));
                let receipt = committed.or(in_flight.receipt);
                self.fail(reason, &error.to_string(), receipt.as_deref());
            }
        }
    }
}
