//! BEGIN, COMMIT and ABORT (STOMP 1.2, sections of these names).
//!
//! What is in a transaction is checked when it comes, as if it were in none, and carried out at
//! COMMIT, in order. Whether the user may send it is asked again then: a transaction may be open for
//! as long as its session. COMMIT's RECEIPT comes when the last of it has its answer.

use std::collections::HashMap;
use std::time::Instant;

use shared::stomp::Frame;

use super::acknowledge::Acknowledgement;
use super::frames::{Handled, Refusal, receipt_after, refuse, required};
use super::permit::{Permit, Term};
use super::publication::{Cover, Publication};
use super::{Published, Session};
use crate::access::Action;
use crate::close::CloseReason;

/// What a frame that may be in a transaction asks for.
#[derive(Debug)]
pub(super) enum Work {
    Publish(Publication),
    Acknowledge(Acknowledgement),
}

/// A COMMIT whose RECEIPT is owed; never used twice by one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CommitId(u64);

/// The transactions that are open, and the COMMITs whose RECEIPT is owed.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    open: HashMap<String, Transaction>,
    /// Octets of all that are open.
    bytes: usize,
    commits: HashMap<CommitId, Commit>,
    next_commit: u64,
}

#[derive(Debug, Default)]
struct Transaction {
    works: Vec<Work>,
    bytes: usize,
    /// How many of them may be carried out, as far as its COMMIT knows.
    permitted: usize,
    /// Why one of its SENDs was refused.
    refused: Option<CloseReason>,
}

#[derive(Debug)]
struct Commit {
    receipt: String,
    /// Publishes without an answer.
    pending: usize,
    /// One of them was not stored in time.
    is_withheld: bool,
}

impl Session {
    pub(super) fn begin(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let name = required(frame, "transaction")?;
        if self.transactions.open.contains_key(name) {
            let text = "this transaction has begun already";
            return refuse(CloseReason::DuplicateTransaction, text);
        }
        let most = self.settings.max_transactions;
        if self.transactions.open.len() >= most {
            let text = format!("at most {most} per connection");
            return refuse(CloseReason::TooManyTransactions, &text);
        }
        self.fits(name.len())?;
        self.transactions.bytes += name.len();
        let transaction = Transaction {
            works: Vec::new(),
            bytes: name.len(),
            permitted: 0,
            refused: None,
        };
        self.transactions.open.insert(name.to_owned(), transaction);
        self.acknowledged(frame.header("receipt").map(str::to_owned));
        Ok(())
    }

    pub(super) fn commit(&mut self, now: Instant, frame: &Frame) -> Result<Handled, Refusal> {
        let asked = receipt_after(frame)?.unwrap_or(self.settings.receipt_after);
        match self.permit_commit(now, frame) {
            Ok(Permit::Granted(_)) => {}
            Ok(Permit::Asked) => return Ok(Handled::Waits),
            Err(refusal) => {
                self.end_transaction(frame)?;
                return Err(refusal);
            }
        }
        let Transaction { works, refused, .. } = self.end_transaction(frame)?;
        if let Some(reason) = refused {
            let text = "a SEND of this transaction was refused, so that none is sent";
            return refuse(reason, text);
        }
        let receipt = frame.header("receipt").map(str::to_owned);
        let publishes = works
            .iter()
            .filter(|work| matches!(work, Work::Publish(_)))
            .count();
        let Some(receipt) = receipt.filter(|_| publishes > 0) else {
            for work in works {
                self.carry_out(work, None);
            }
            self.acknowledged(frame.header("receipt").map(str::to_owned));
            return Ok(Handled::Done);
        };
        let commit = CommitId(self.transactions.next_commit);
        self.transactions.next_commit += 1;
        let owed = Commit {
            receipt,
            pending: publishes,
            is_withheld: false,
        };
        self.transactions.commits.insert(commit, owed);
        for work in works {
            self.carry_out(work, Some(Cover { commit, asked }));
        }
        Ok(Handled::Done)
    }

    /// Whether the user may still send what is in the transaction, one after the other.
    fn permit_commit(&mut self, now: Instant, frame: &Frame) -> Result<Permit, Refusal> {
        let name = required(frame, "transaction")?;
        loop {
            let Some(transaction) = self.transactions.open.get_mut(name) else {
                return unknown();
            };
            let next = transaction.works.get(transaction.permitted);
            let room = match next.filter(|_| transaction.refused.is_none()) {
                Some(Work::Publish(publication)) => publication.draft.room.clone(),
                Some(Work::Acknowledge(_)) => {
                    transaction.permitted += 1;
                    continue;
                }
                None => return Ok(Permit::Granted(Term::FOREVER)),
            };
            if let Permit::Asked = self.permit(now, &room, &[Action::Send])? {
                return Ok(Permit::Asked);
            }
            // The next may have the same answer, but not that of what waited.
            self.permits.resume();
            if let Some(transaction) = self.transactions.open.get_mut(name) {
                transaction.permitted += 1;
            }
        }
    }

    pub(super) fn abort(&mut self, frame: &Frame) -> Result<(), Refusal> {
        self.end_transaction(frame)?;
        self.acknowledged(frame.header("receipt").map(str::to_owned));
        Ok(())
    }

    /// Carries out now what the frame asks for, or at the COMMIT of the transaction that it names.
    pub(super) fn take_work(&mut self, frame: &Frame, work: Work) -> Result<(), Refusal> {
        let Some(name) = frame.header("transaction") else {
            self.carry_out(work, None);
            return Ok(());
        };
        let bytes = frame.headers.text_len() + frame.body.len();
        let fits = self.fits(bytes);
        let most = self.settings.max_transaction_frames;
        let Some(transaction) = self.transactions.open.get_mut(name) else {
            return unknown();
        };
        fits?;
        if transaction.works.len() >= most {
            let text = format!("at most {most} frames per transaction");
            return refuse(CloseReason::TransactionTooLarge, &text);
        }
        transaction.works.push(work);
        transaction.bytes += bytes;
        self.transactions.bytes += bytes;
        Ok(())
    }

    fn carry_out(&mut self, work: Work, cover: Option<Cover>) {
        match work {
            Work::Publish(publication) => self.publish(publication, cover),
            Work::Acknowledge(acknowledgement) => self.acknowledge(acknowledgement),
        }
    }

    fn end_transaction(&mut self, frame: &Frame) -> Result<Transaction, Refusal> {
        let name = required(frame, "transaction")?;
        let Some(transaction) = self.transactions.open.remove(name) else {
            return unknown();
        };
        self.transactions.bytes -= transaction.bytes;
        Ok(transaction)
    }

    fn fits(&self, bytes: usize) -> Result<(), Refusal> {
        let most = self.settings.max_outbox_bytes;
        if self.transactions.bytes + bytes <= most {
            return Ok(());
        }
        let text = format!("at most {most} octets in all transactions of a connection");
        refuse(CloseReason::TransactionTooLarge, &text)
    }
}

impl Transactions {
    /// A SEND of this transaction is refused.
    pub(super) fn refuse(&mut self, name: &str, reason: CloseReason) {
        if let Some(transaction) = self.open.get_mut(name) {
            transaction.refused = Some(reason);
        }
    }

    /// A publish of this COMMIT has its answer: the receipt to write, when it was the last one.
    pub(super) fn published(&mut self, commit: CommitId, published: Published) -> Option<String> {
        let owed = self.commits.get_mut(&commit)?;
        owed.pending -= 1;
        owed.is_withheld |= published == Published::Withheld;
        if owed.pending > 0 {
            return None;
        }
        let owed = self.commits.remove(&commit)?;
        (!owed.is_withheld).then_some(owed.receipt)
    }

    /// The receipt that a COMMIT has failed to earn.
    pub(super) fn failed(&mut self, commit: CommitId) -> Option<String> {
        self.commits.remove(&commit).map(|owed| owed.receipt)
    }
}

fn unknown<T>() -> Result<T, Refusal> {
    let text = "no transaction of this name has begun";
    refuse(CloseReason::UnknownTransaction, text)
}
