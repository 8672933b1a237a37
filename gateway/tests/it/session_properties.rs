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
