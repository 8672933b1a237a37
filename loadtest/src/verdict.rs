//! Whether the figures are the server's, or the generator's own.

use std::thread;

use crate::report::Latency;

/// The generator may be late by this share of what it measures.
const SHARE: f64 = 0.25;

/// Less than this lag decides nothing, in microseconds: it is the scheduler's.
const NEGLIGIBLE: u64 = 1_000;

/// A thread, or all cores, that are busier than this can do no more.
const BUSY: f64 = 0.9;

/// What the generator showed of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence<'a> {
    /// From when messages were due to their being sent.
    pub lag: &'a Latency,
    /// What was measured, of which the lag is a part.
    pub measured: &'a Latency,
    /// The share of a core that each thread had busy: the listeners, and the sender last.
    pub busy: &'a [f64],
    /// Messages a second that were to be sent, and that were.
    pub rate: (f64, f64),
}

/// Why the generator, and not the server, decided the figures, where it did: it sent late by more than a
/// quarter of what was measured, it did not keep the rate, one of its threads had no time left, or all
/// of them had none.
pub(crate) fn bottleneck(evidence: Evidence<'_>) -> Option<String> {
    let Evidence {
        lag,
        measured,
        busy,
        rate: (wanted, sent),
    } = evidence;
    let ms = |us: u64| us as f64 / 1000.0;
    // Nothing came at all: the lag is then all that is known.
    let share = lag.p99 as f64 / measured.p99.max(1) as f64;
    if lag.p99 > NEGLIGIBLE && share > SHARE {
        return Some(format!(
            "it sent {:.1} ms late (p99), {:.0} % of the {:.1} ms that were measured",
            ms(lag.p99),
            100.0 * share.min(1.0),
            ms(measured.p99),
        ));
    }
    if sent < BUSY * wanted && lag.p99 > NEGLIGIBLE {
        return Some(format!(
            "it sent {sent:.0} messages a second, not {wanted:.0}"
        ));
    }
    let names = |at: usize| match at + 1 == busy.len() {
        true => "the thread that sends".to_owned(),
        false => format!("listening thread {}", at + 1),
    };
    let busiest = busy.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    if let Some((at, share)) = busiest.filter(|(_, share)| **share > BUSY) {
        return Some(format!(
            "{} was busy for {:.0} % of the time; --threads adds more",
            names(at),
            100.0 * share.min(1.0),
        ));
    }
    let cores = thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
    let all: f64 = busy.iter().sum();
    (all > BUSY * cores)
        .then(|| format!("it used {all:.1} of the {cores} cores that it could have"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latency(p99: u64) -> Latency {
        Latency {
            count: 1,
            p99,
            ..Latency::default()
        }
    }

    #[test]
    fn a_generator_is_blamed_for_what_it_adds_and_for_nothing_else() {
        let verdict = |lag, measured, busy: &[f64], rate| {
            bottleneck(Evidence {
                lag: &latency(lag),
                measured: &latency(measured),
                busy,
                rate,
            })
        };
        let kept = (100.0, 100.0);
        // Nobody alone has too much to do, and all together have.
        let cores = thread::available_parallelism().unwrap().get();
        let all = vec![0.85; 2 * cores];
        assert!(verdict(1, 50_000, &all, kept).is_some_and(|it| it.contains("of the")));
        assert_eq!(verdict(200, 700, &[0.2, 0.1], kept), None);
        assert_eq!(verdict(9_000, 50_000, &[0.2, 0.1], kept), None);
        for (wrong, names) in [
            (verdict(20_000, 50_000, &[0.1, 0.1], kept), "40 %"),
            (
                verdict(9_000, 50_000, &[0.1, 0.1], (100.0, 80.0)),
                "80 messages",
            ),
            (verdict(1, 50_000, &[0.95, 0.1], kept), "listening thread 1"),
            (verdict(1, 50_000, &[0.1, 0.95], kept), "that sends"),
        ] {
            assert!(
                wrong.as_ref().is_some_and(|it| it.contains(names)),
                "{wrong:?}"
            );
        }
    }
}
