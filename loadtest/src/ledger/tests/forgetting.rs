//! A ledger that forgets finds what one that keeps everything finds, and takes no more the longer it is.

use shared::message::{MessageId, Stamp};

use crate::ledger::{Entry, Faults, Ledger};
use crate::target::Checks;

/// What may happen to one message on its way to one member, or to its receipt.
#[derive(Clone, Copy, Debug)]
enum Event {
    Delivered(usize),
    Receipted,
    /// With another id.
    Misnamed,
}

/// A load that can go on for ever: what happens, each with the step at which it does.
struct Load {
    members: usize,
    senders: usize,
    rng: fastrand::Rng,
    /// What is to come, by step.
    coming: std::collections::BTreeMap<usize, Vec<(usize, usize, Event, MessageId)>>,
    step: usize,
    next_seq: Vec<usize>,
    /// How many in a thousand are lost, doubled, late, misnamed or out of order.
    spoilt: u32,
}

impl Load {
    fn new(seed: u64, members: usize, senders: usize, spoilt: u32) -> Self {
        Self {
            members,
            senders,
            rng: fastrand::Rng::with_seed(seed),
            coming: Default::default(),
            step: 0,
            next_seq: vec![0; senders],
            spoilt,
        }
    }

    fn is_spoilt(&mut self) -> bool {
        self.rng.u32(..1000) < self.spoilt
    }

    /// Sends the next message, and lets come what is due.
    fn go_on(&mut self, ledgers: &mut [&mut Ledger]) {
        let sender = self.step % self.senders;
        let seq = self.next_seq[sender];
        self.next_seq[sender] += 1;
        let ms = 1_000 + self.step as u64;
        let swapped = self.is_spoilt();
        let id = id(if swapped { ms - 2 } else { ms }, u64::from(swapped));
        ledgers.iter_mut().for_each(|it| it.sent(sender, seq));
        let mut events = vec![Event::Receipted];
        events.extend((0..self.members).map(Event::Delivered));
        // Members get it in its turn, or too late, again, or never.
        for event in events {
            let mut at = vec![self.step + 10];
            if self.is_spoilt() {
                match self.rng.u32(..4) {
                    0 => at.clear(),
                    1 => at.push(self.step + 3_000),
                    2 => at[0] += 3_000,
                    _ => at[0] += self.rng.usize(..20),
                }
            }
            let misnamed = matches!(event, Event::Receipted) && self.is_spoilt();
            let event = if misnamed { Event::Misnamed } else { event };
            for at in at {
                let coming = self.coming.entry(at).or_default();
                coming.push((sender, seq, event, id));
            }
        }
        let due = self.coming.remove(&self.step).unwrap_or_default();
        self.step += 1;
        come(due, ledgers);
    }

    /// Lets everything come.
    fn end(&mut self, ledgers: &mut [&mut Ledger]) {
        for (_, due) in std::mem::take(&mut self.coming) {
            come(due, ledgers);
        }
    }
}

fn come(due: Vec<(usize, usize, Event, MessageId)>, ledgers: &mut [&mut Ledger]) {
    for (sender, seq, event, id) in due {
        let said = ledgers.iter_mut().map(|ledger| match event {
            Event::Delivered(member) => {
                let id = Some(id).filter(|_| ledger.checks.ids);
                ledger.delivered(member, sender, seq, id)
            }
            Event::Receipted => ledger.receipted(sender, seq, Some(id)),
            Event::Misnamed => ledger.receipted(sender, seq, Some(super::id(0))),
        });
        let said = said.collect::<Vec<Entry>>();
        assert!(said.windows(2).all(|pair| pair[0] == pair[1]), "{said:?}");
    }
}

fn id(ms: u64, seq: u64) -> MessageId {
    MessageId::new(Stamp { ms, seq }, 5)
}

/// What a ledger has in memory: messages, and words of what members have seen.
fn kept(ledger: &Ledger) -> usize {
    let words = ledger.members.iter().map(|it| it.seen.capacity());
    let owing = ledger.past.as_ref().map_or(0, |past| past.owing.len());
    ledger.messages.capacity() + owing + words.sum::<usize>()
}

#[test]
fn what_is_forgotten_is_judged_as_if_it_had_been_kept() {
    let without_ids = Checks {
        ids: false,
        ..Checks::ALL
    };
    for (seed, checks) in (0..9).flat_map(|seed| [(seed, Checks::ALL), (seed, without_ids)]) {
        // A block is not a multiple of three, and a word has no room for 70 members.
        let (members, senders) = [(2, 2), (5, 3), (70, 3)][seed as usize % 3];
        let mut load = Load::new(seed, members, senders, [0, 2, 30][seed as usize / 3]);
        let mut keeps = Ledger::new(members, senders).checking(checks);
        let mut forgets = Ledger::new(members, senders).checking(checks);
        forgets.forget_beyond(1 << 20);
        for _ in 0..4_500 {
            load.go_on(&mut [&mut keeps, &mut forgets]);
        }
        load.end(&mut [&mut keeps, &mut forgets]);
        assert_eq!(keeps.is_settled(), forgets.is_settled(), "seed {seed}");
        assert_eq!(keeps.messages(), forgets.messages());
        assert_eq!(keeps.receipts(), forgets.receipts());
        let (kept, forgotten) = (keeps.close(), forgets.close());
        assert_eq!(kept.is_clean(), load.spoilt == 0, "seed {seed}: {kept:?}");
        assert_eq!(kept, forgotten, "seed {seed}, {checks:?}");
    }
}

#[test]
fn a_ledger_that_forgets_takes_no_more_the_longer_it_is() {
    let mut ledger = Ledger::new(4, 3);
    ledger.forget_beyond(100);
    let mut load = Load::new(1, 4, 3, 0);
    let mut go_on = |ledger: &mut Ledger, steps| {
        for _ in 0..steps {
            load.go_on(&mut [ledger]);
        }
        kept(ledger)
    };
    let early = go_on(&mut ledger, 1_000);
    assert!(early < 1_000, "{early}");
    assert_eq!(go_on(&mut ledger, 100_000), early);
    assert_eq!(ledger.close().lost, 4 * 10, "what is on its way is owed");
    assert_eq!(ledger.messages(), 101_000);
}

#[test]
fn what_is_lost_is_found_and_takes_no_more_the_more_it_is() {
    let mut ledger = Ledger::new(2, 1);
    ledger.forget_beyond(100);
    for seq in 0..10_000 {
        ledger.sent(0, seq);
        ledger.receipted(0, seq, Some(super::id(seq)));
        // The other one gets nothing at all.
        ledger.delivered(0, 0, seq, super::id(seq));
    }
    assert!(kept(&ledger) < 5_000, "{}", kept(&ledger));
    assert!(!ledger.is_settled());
    let lost = Faults {
        lost: 10_000,
        ..Faults::default()
    };
    assert_eq!(ledger.close(), lost);
    assert!(ledger.notes()[0].contains("never got message 0 of member 0"));
}

#[test]
fn what_comes_again_is_found_however_late_it_is() {
    let mut ledger = Ledger::new(1, 1);
    ledger.forget_beyond(100);
    for seq in 0..100_000 {
        ledger.sent(0, seq);
        assert_eq!(ledger.delivered(0, 0, seq, super::id(seq)), Entry::Paid);
        let receipt = ledger.receipted(0, seq, Some(super::id(seq)));
        assert_eq!(receipt, Entry::Paid);
    }
    assert!(ledger.is_settled() && ledger.close().is_clean());
    assert_eq!(ledger.delivered(0, 0, 7, super::id(7)), Entry::Fault);
    assert_eq!(ledger.receipted(0, 7, Some(super::id(7))), Entry::Fault);
    // What nobody sent is nobody's, and no repeat.
    assert_eq!(ledger.delivered(0, 0, 100_000, super::id(9)), Entry::Fault);
    let faults = Faults {
        duplicated: 1,
        receipts_doubled: 1,
        foreign: 1,
        ..Faults::default()
    };
    assert_eq!(ledger.close(), faults);
}
