//! Members who come back: what is sent again is one message, and who was told may miss what he was
//! told of, and nothing else.

use super::{Faults, MEMBERS, PER_SENDER, Run, expect, id};

/// A message that is sent again with a second receipt; returns its place among those sent.
fn send_again(run: &mut Run, rng: &mut fastrand::Rng) -> usize {
    let at = rng.usize(..run.sent.len());
    let (sender, seq, id) = run.sent[at];
    run.again.push((sender, seq));
    run.receipts
        .insert(rng.usize(..=run.receipts.len()), (sender, seq, Some(id)));
    at
}

/// A member misses `missed` messages, and is told so where it notices: after what it had before.
fn miss(run: &mut Run, rng: &mut fastrand::Rng, missed: usize) -> (usize, usize) {
    let member = rng.usize(..MEMBERS);
    let at = rng.usize(..run.inboxes[member].len() - missed);
    run.inboxes[member].drain(at..at + missed);
    run.told = Some((member, at));
    (member, at)
}

#[test]
fn a_message_that_is_sent_again_may_be_receipted_again_under_its_id() {
    for seed in 0..200 {
        let mut run = Run::perfect(seed);
        send_again(&mut run, &mut fastrand::Rng::with_seed(seed));
        let mut ledger = run.ledger(seed);
        assert!(ledger.is_settled(), "seed {seed}");
        assert!(ledger.close().is_clean(), "seed {seed}");
        assert!(ledger.notes().is_empty(), "seed {seed}");
    }
}

#[test]
fn a_repeats_receipt_that_names_another_id_is_a_second_message() {
    let expected = Faults {
        mismatched_ids: 1,
        ..Faults::default()
    };
    expect(expected, |run, rng| {
        // The last one, so that the other id changes no order.
        let &(sender, seq, _) = run.sent.last().unwrap();
        run.again.push((sender, seq));
        let at = rng.usize(..=run.receipts.len());
        run.receipts.insert(at, (sender, seq, Some(id(99))));
    });
}

#[test]
fn more_receipts_than_sendings_are_doubled() {
    let expected = Faults {
        receipts_doubled: 1,
        ..Faults::default()
    };
    expect(expected, |run, rng| {
        let at = send_again(run, rng);
        let (sender, seq, id) = run.sent[at];
        run.receipts.push((sender, seq, Some(id)));
    });
}

#[test]
fn a_repeat_that_became_a_second_message_is_doubled_for_everybody_and_in_the_history() {
    let expected = Faults {
        duplicated: MEMBERS as u64,
        history_doubled: 1,
        ..Faults::default()
    };
    expect(expected, |run, rng| {
        let at = rng.usize(..run.sent.len());
        let (sender, seq, _) = run.sent[at];
        run.again.push((sender, seq));
        for inbox in &mut run.inboxes {
            inbox.push((sender, seq, id(99)));
        }
        run.history.push((id(99), Some((sender, seq))));
    });
}

#[test]
fn who_was_told_may_miss_what_lies_before_the_next_message() {
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut run = Run::perfect(seed);
        let missed = rng.usize(1..4);
        miss(&mut run, &mut rng, missed);
        let mut ledger = run.ledger(seed);
        assert_eq!(ledger.excused(), missed as u64, "seed {seed}");
        assert!(ledger.is_settled(), "seed {seed}");
        assert!(ledger.close().is_clean(), "seed {seed}");
    }
}

#[test]
fn who_was_told_may_not_miss_anything_else() {
    let expected = Faults {
        lost: 1,
        ..Faults::default()
    };
    expect(expected, |run, rng| {
        let (member, at) = miss(run, rng, 1);
        // What comes next ends what it was told of.
        let inbox = &mut run.inboxes[member];
        let others = (0..at.saturating_sub(1))
            .chain(at + 1..inbox.len())
            .collect::<Vec<_>>();
        let other = *rng.choice(&others).unwrap();
        inbox.remove(other);
        if other < at {
            run.told = Some((member, at - 1));
        }
    });
}

#[test]
fn who_was_told_gets_nothing_twice_and_nothing_out_of_order() {
    for (expected, swaps) in [
        (
            Faults {
                reordered: 1,
                ..Faults::default()
            },
            true,
        ),
        (
            Faults {
                duplicated: 1,
                ..Faults::default()
            },
            false,
        ),
    ] {
        expect(expected, |run, rng| {
            let member = rng.usize(..MEMBERS);
            let inbox = &mut run.inboxes[member];
            let at = rng.usize(1..MEMBERS * PER_SENDER - 1);
            match swaps {
                true => inbox.swap(at, at + 1),
                false => inbox.insert(at + 1, inbox[at]),
            }
            run.told = Some((member, rng.usize(..at)));
        });
    }
}

#[test]
fn what_was_sent_and_not_receipted_or_not_delivered_is_not_settled() {
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut run = Run::perfect(seed);
        assert!(run.ledger(seed).is_settled());
        if rng.bool() {
            run.receipts.pop();
        } else {
            run.inboxes[rng.usize(..MEMBERS)].pop();
        }
        assert!(!run.ledger(seed).is_settled(), "seed {seed}");
    }
}
