//! The session under every order of events.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::session_oracle::check;

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order, everything that [`check`] knows of holds: nothing
    /// follows an ERROR or a close, a RECEIPT is earned, a subscription has no gap and no repeat,
    /// and no session gets stuck.
    #[test]
    fn a_session_keeps_its_promises_in_any_order_of_events(
        setup in any::<u8>(),
        events in vec(event(), 0..60),
    ) {
        // Without a CONNECT there is little to see.
        let setup = setup & 0x7f;
        check(&[vec![setup], events.concat()].concat());
    }

    /// What is in an aborted transaction is never published, what is in a committed one is
    /// published in order, and COMMIT's RECEIPT comes when all of it is accepted.
    #[test]
    fn transactions_are_published_whole_in_order_or_not_at_all(
        setup in select(&[0_u8, 3, 16, 32][..]),
        events in vec(transaction(), 0..8),
    ) {
        check(&[vec![setup], events.concat()].concat());
    }

    /// No subscription runs ahead of its acknowledgements by more than the window, and none waits
    /// when there is room.
    #[test]
    fn a_window_of_acknowledgements_is_never_exceeded_and_always_used(
        setup in select(&[1_u8, 3, 17, 19][..]),
        events in vec(acknowledgement_event(), 0..60),
    ) {
        check(&[vec![setup], events.concat()].concat());
    }

    #[test]
    fn a_session_keeps_its_promises_whatever_octets_come(script in vec(any::<u8>(), 0..300)) {
        check(&script);
    }
}

/// One event, as the oracle's script spells it.
fn event() -> impl Strategy<Value = Vec<u8>> {
    let frame = prop_oneof![
        5 => (Just(0), any::<[u8; 2]>()).prop_map(|(op, [how, receipt])| vec![op, how & 1, receipt]),
        1 => any::<[u8; 3]>().prop_map(|[how, filler, receipt]| vec![0, how | 14, filler, receipt]),
        4 => any::<[u8; 3]>().prop_map(|[how, past, receipt]| vec![6, how & 0x67, past, receipt]),
        1 => any::<[u8; 2]>().prop_map(|[id, receipt]| vec![10, id, receipt]),
        2 => any::<[u8; 2]>().prop_map(|[how, receipt]| vec![30, how, receipt]),
        1 => Just(vec![26, 0]),
    ];
    let odd = prop_oneof![
        (22..26_u8, any::<[u8; 2]>()).prop_map(|(op, [how, receipt])| vec![op, how, receipt]),
        any::<[u8; 2]>().prop_map(|[which, receipt]| vec![29, which, receipt]),
        vec(any::<u8>(), 0..12).prop_map(|octets| [vec![28, octets.len() as u8], octets].concat()),
    ];
    let broker = prop_oneof![
        4 => any::<u8>().prop_map(|which| vec![0x20, which]),
        4 => any::<u8>().prop_map(|which| vec![0x25, which]),
        3 => any::<u8>().prop_map(|which| vec![0x29, which]),
        4 => any::<u8>().prop_map(|how| vec![0x2e, how]),
        1 => any::<u8>().prop_map(|how| vec![0x33, how]),
        1 => Just(vec![0x3c]),
    ];
    let trouble = prop_oneof![
        (select(&[0x24, 0x28, 0x2c, 0x2d, 0x3b][..]), any::<u8>())
            .prop_map(|(op, how)| vec![op, how]),
        Just(vec![0x3a]),
    ];
    let time = prop_oneof![
        any::<u8>().prop_map(|time| vec![0x34, time]),
        Just(vec![0x36]),
        Just(vec![0x38]),
    ];
    prop_oneof![24 => frame, 24 => broker, 4 => time, 1 => odd, 1 => trouble]
}

/// A transaction from BEGIN to COMMIT or ABORT, with what else happens meanwhile.
fn transaction() -> impl Strategy<Value = Vec<u8>> {
    let answer = prop_oneof![
        19 => any::<u8>().prop_map(|which| vec![0x20, which]),
        1 => any::<u8>().prop_map(|how| vec![0x24, how]),
    ];
    (0..3_u8, select(&[19_u8, 19, 21][..]), any::<[u8; 2]>()).prop_flat_map(
        move |(name, end, receipts)| {
            let inside = any::<[u8; 2]>()
                .prop_map(move |[room, receipt]| vec![0, room & 1 | (name + 1) << 1, receipt]);
            let outside = any::<u8>().prop_map(|receipt| vec![0, 0, receipt]);
            let meanwhile = prop_oneof![4 => inside, 1 => outside, 2 => answer.clone()];
            (vec(meanwhile, 0..5), vec(answer.clone(), 0..4)).prop_map(
                move |(meanwhile, answers)| {
                    let begin = vec![17, name, receipts[0]];
                    let end = vec![end, name, receipts[1]];
                    [begin, meanwhile.concat(), end, answers.concat()].concat()
                },
            )
        },
    )
}

fn acknowledgement_event() -> impl Strategy<Value = Vec<u8>> {
    let subscribe = (any::<[u8; 3]>(), 1..3_u8)
        .prop_map(|([how, past, receipt], mode)| vec![6, how & 0x67 | mode << 3, past, receipt]);
    let acknowledge = (select(&[12, 12, 15][..]), 0..4_u8, 0..4_u8, any::<u8>())
        .prop_map(|(op, transaction, back, receipt)| vec![op, transaction & 1, back, receipt]);
    prop_oneof![
        2 => subscribe,
        1 => any::<[u8; 2]>().prop_map(|[id, receipt]| vec![10, id, receipt]),
        8 => acknowledge,
        1 => (select(&[17, 19, 21][..])).prop_map(|op| vec![op, 0, 0]),
        6 => any::<u8>().prop_map(|how| vec![0x2e, how]),
        1 => any::<u8>().prop_map(|how| vec![0x3e, how]),
        2 => any::<u8>().prop_map(|which| vec![0x25, which]),
        2 => any::<u8>().prop_map(|which| vec![0x29, which]),
        1 => any::<u8>().prop_map(|how| vec![0x33, how]),
        1 => Just(vec![0x38]),
    ]
}

/// What the fuzz target has found, and what it started from.
#[test]
fn the_kept_corpus_of_the_session_holds() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/session");
    let mut files = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        // Shown when the test fails.
        println!("{}", path.display());
        check(&std::fs::read(&path).unwrap());
        files += 1;
    }
    assert!(files > 30, "{corpus} has only {files} scripts");
}
