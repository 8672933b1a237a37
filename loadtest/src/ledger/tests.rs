//! Each fault, put alone into an otherwise perfect run, is counted as that and nothing else.

use shared::message::{MessageId, Stamp};

use super::{Faults, Ledger};

const MEMBERS: usize = 3;
const PER_SENDER: usize = 4;

/// What happened to one room, to be changed before it is told to a ledger.
#[derive(Clone)]
struct Run {
    /// Sender, sequence and id, in the order of acceptance.
    sent: Vec<(usize, usize, MessageId)>,
    /// For each member what came.
    inboxes: Vec<Vec<(usize, usize, MessageId)>>,
    receipts: Vec<(usize, usize, Option<MessageId>)>,
    history: Vec<(MessageId, Option<(usize, usize)>)>,
    /// What was sent again.
    again: Vec<(usize, usize)>,
    /// A member who was told, when it had had so many messages.
    told: Option<(usize, usize)>,
}

impl Run {
    /// A run without a fault, in an order that the seed chooses.
    fn perfect(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut senders = [0, 1, 2].repeat(PER_SENDER);
        rng.shuffle(&mut senders);
        let mut next = [0; MEMBERS];
        let mut sent = Vec::new();
        for (at, &sender) in senders.iter().enumerate() {
            sent.push((sender, next[sender], id(at)));
            next[sender] += 1;
        }
        let mut receipts = sent
            .iter()
            .map(|&(s, n, id)| (s, n, Some(id)))
            .collect::<Vec<_>>();
        rng.shuffle(&mut receipts);
        Self {
            inboxes: vec![sent.clone(); MEMBERS],
            receipts,
            history: sent.iter().map(|&(s, n, id)| (id, Some((s, n)))).collect(),
            sent,
            again: Vec::new(),
            told: None,
        }
    }

    fn faults(&self, seed: u64) -> Faults {
        self.ledger(seed).close()
    }

    fn ledger(&self, seed: u64) -> Ledger {
        let mut ledger = Ledger::new(MEMBERS, MEMBERS);
        for &(sender, seq, _) in &self.sent {
            ledger.sent(sender, seq);
        }
        for &(sender, seq) in &self.again {
            ledger.sent(sender, seq);
        }
        // Members and receipts interleave at random.
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut inboxes = self
            .inboxes
            .iter()
            .map(|inbox| inbox.iter())
            .collect::<Vec<_>>();
        let mut receipts = self.receipts.iter();
        let mut open = (0..=MEMBERS).collect::<Vec<_>>();
        while !open.is_empty() {
            let pick = rng.usize(..open.len());
            let more = if open[pick] == MEMBERS {
                receipts
                    .next()
                    .map(|&(sender, seq, id)| ledger.receipted(sender, seq, id))
            } else {
                let member = open[pick];
                let had = self.inboxes[member].len() - inboxes[member].len();
                if self.told == Some((member, had)) {
                    let newest = had.checked_sub(1).map(|at| self.inboxes[member][at].2);
                    ledger.told(member, newest);
                }
                let next = inboxes[member].next();
                next.map(|&(sender, seq, id)| ledger.delivered(member, sender, seq, id))
            };
            if more.is_none() {
                open.remove(pick);
            }
        }
        assert!(ledger.notes().len() <= 8);
        ledger.stored(self.history.iter().copied());
        ledger
    }
}

fn id(at: usize) -> MessageId {
    MessageId::new(
        Stamp {
            ms: 1_000 + at as u64 / 3,
            seq: at as u64 % 3,
        },
        5,
    )
}

/// Checks the fault that `damage` does, in many runs.
fn expect(expected: Faults, damage: impl Fn(&mut Run, &mut fastrand::Rng)) {
    for seed in 0..200 {
        let mut run = Run::perfect(seed);
        assert!(run.faults(seed).is_clean(), "seed {seed}");
        damage(&mut run, &mut fastrand::Rng::with_seed(seed));
        let mut ledger = run.ledger(seed);
        assert_eq!(ledger.close(), expected, "seed {seed}");
        assert!(!expected.is_clean());
        assert!(!ledger.notes().is_empty(), "seed {seed}: it is described");
    }
}

#[test]
fn a_delivery_that_one_member_misses_is_lost() {
    expect(
        Faults {
            lost: 1,
            ..Faults::default()
        },
        |run, rng| {
            let inbox = &mut run.inboxes[rng.usize(..MEMBERS)];
            inbox.remove(rng.usize(..inbox.len()));
        },
    );
}

#[test]
fn a_message_that_nobody_gets_is_lost_for_each_and_owes_its_receipt() {
    let expected = Faults {
        lost: MEMBERS as u64,
        receipts_missing: 1,
        ..Faults::default()
    };
    expect(expected, |run, rng| {
        let (sender, seq, id) = run.sent[rng.usize(..run.sent.len())];
        for inbox in &mut run.inboxes {
            inbox.retain(|other| other.2 != id);
        }
        run.receipts
            .retain(|other| (other.0, other.1) != (sender, seq));
        run.history.retain(|other| other.0 != id);
    });
}

#[test]
fn a_delivery_that_comes_again_is_a_duplicate_also_under_another_id() {
    expect(
        Faults {
            duplicated: 1,
            ..Faults::default()
        },
        |run, rng| {
            let inbox = &mut run.inboxes[rng.usize(..MEMBERS)];
            let at = rng.usize(..inbox.len());
            let mut again = inbox[at];
            if rng.bool() {
                again.2 = id(99);
            }
            inbox.insert(rng.usize(at + 1..=inbox.len()), again);
        },
    );
}

#[test]
fn two_deliveries_that_change_places_for_one_member_are_reordered() {
    expect(
        Faults {
            reordered: 1,
            ..Faults::default()
        },
        |run, rng| {
            let inbox = &mut run.inboxes[rng.usize(..MEMBERS)];
            let at = rng.usize(..inbox.len() - 1);
            inbox.swap(at, at + 1);
        },
    );
}

#[test]
fn a_sender_whose_messages_are_accepted_in_another_order_is_reordered() {
    expect(
        Faults {
            reordered: 1,
            ..Faults::default()
        },
        |run, rng| {
            // Sequences 0 and 1 of one sender change places everywhere.
            let sender = rng.usize(..MEMBERS);
            let swap = |(s, n): (usize, usize)| (s, if s == sender && n < 2 { 1 - n } else { n });
            for (s, n, _) in run.inboxes.iter_mut().flatten() {
                (*s, *n) = swap((*s, *n));
            }
            for (s, n, _) in &mut run.receipts {
                (*s, *n) = swap((*s, *n));
            }
            for (_, message) in &mut run.history {
                *message = message.map(swap);
            }
        },
    );
}

#[test]
fn what_the_run_did_not_send_is_foreign() {
    let expected = Faults {
        foreign: 2,
        ..Faults::default()
    };
    expect(expected, |run, rng| {
        let inbox = &mut run.inboxes[rng.usize(..MEMBERS)];
        inbox.insert(rng.usize(..=inbox.len()), (0, PER_SENDER, id(98)));
        run.history.push((id(99), None));
    });
}

#[test]
fn a_message_has_one_id_for_all() {
    expect(
        Faults {
            mismatched_ids: 1,
            ..Faults::default()
        },
        |run, rng| {
            let &last = run.sent.last().unwrap();
            match rng.u8(..4) {
                0 => run.inboxes[rng.usize(..MEMBERS)].last_mut().unwrap().2 = id(99),
                1 => run.history.last_mut().unwrap().0 = id(99),
                other => {
                    let of_last = |receipt: &&mut (usize, usize, Option<MessageId>)| {
                        (receipt.0, receipt.1) == (last.0, last.1)
                    };
                    let receipt = run.receipts.iter_mut().find(of_last).unwrap();
                    receipt.2 = (other == 2).then(|| id(99));
                }
            }
        },
    );
}

#[test]
fn a_receipt_that_does_not_come_is_missing() {
    expect(
        Faults {
            receipts_missing: 1,
            ..Faults::default()
        },
        |run, rng| {
            run.receipts.remove(rng.usize(..run.receipts.len()));
        },
    );
}

#[test]
fn a_receipt_that_comes_again_or_for_nothing_is_doubled() {
    expect(
        Faults {
            receipts_doubled: 2,
            ..Faults::default()
        },
        |run, rng| {
            let again = run.receipts[rng.usize(..run.receipts.len())];
            run.receipts.push(again);
            run.receipts.push((0, PER_SENDER, Some(id(99))));
        },
    );
}

#[test]
fn a_receipted_message_must_be_in_the_history() {
    expect(
        Faults {
            history_missing: 1,
            ..Faults::default()
        },
        |run, rng| {
            run.history.remove(rng.usize(..run.history.len()));
        },
    );
}

#[test]
fn a_message_without_receipt_need_not_be_in_the_history() {
    expect(
        Faults {
            receipts_missing: 1,
            ..Faults::default()
        },
        |run, rng| {
            let (sender, seq, id) = run.receipts.remove(rng.usize(..run.receipts.len()));
            assert!(
                run.sent
                    .iter()
                    .any(|message| (message.0, message.1) == (sender, seq))
            );
            run.history.retain(|other| Some(other.0) != id);
        },
    );
}

#[test]
fn the_history_has_a_message_once() {
    expect(
        Faults {
            history_doubled: 1,
            ..Faults::default()
        },
        |run, rng| {
            let at = rng.usize(..run.history.len());
            run.history.insert(at, run.history[at]);
        },
    );
}

#[test]
fn the_history_is_in_the_order_of_ids() {
    expect(
        Faults {
            history_reordered: 1,
            ..Faults::default()
        },
        |run, rng| {
            let at = rng.usize(..run.history.len() - 1);
            run.history.swap(at, at + 1);
        },
    );
}

mod forgetting;
mod returning;
