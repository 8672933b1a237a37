use hdrhistogram::Histogram;
use roxmltree::{Document, ParsingOptions};

use super::*;

const EVIL: &str = "</title><script>alert('x')</script>&amp;\u{0}";

/// Microseconds from 1 to 1,000, each once.
fn times() -> Latency {
    let mut times = Histogram::<u64>::new(3).unwrap();
    (1..=1000).for_each(|time| times.record(time).unwrap());
    Latency::of(&times)
}

fn report() -> Report {
    let load = Load {
        gateways: vec![EVIL.to_owned()],
        users: 10,
        rooms: 2,
        messages: 5,
        ..Load::default()
    };
    let usage = Usage {
        name: EVIL.to_owned(),
        cpu_seconds: Some(0.5),
        ..Usage::default()
    };
    let interval = Interval {
        seconds: 1.0,
        delivered: 5,
        receive_p99_us: Some(900),
        processes: vec![Sample::default(); 2],
        ..Interval::default()
    };
    let step = |rate: f64| {
        Step::new(EVIL).with("rate", Unit::PerSecond, rate).with(
            "p99",
            Unit::Microseconds,
            rate * 10.0,
        )
    };
    let mut report = Report {
        target: Some(EVIL.to_owned()),
        sent: 3,
        send_to_receive_us: times(),
        cut_off: BTreeMap::from([(EVIL.to_owned(), 2)]),
        notes: vec![EVIL.to_owned()],
        processes: vec![usage],
        series: vec![interval],
        steps: vec![step(100.0), step(200.0)],
        steps_plot: Some(StepPlot {
            x: Some("rate".to_owned()),
            y: vec!["p99".to_owned()],
            bound: Some(1500.0),
        }),
        ..Report::new("ramp", load)
    };
    report.generator.bottleneck = Some(EVIL.to_owned());
    report.judge();
    report
}

#[test]
fn a_report_is_read_back_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    let report = report();
    report.save(Some(&path), None).unwrap();
    let back = Report::open(&path).unwrap();
    assert_eq!(
        serde_json::to_value(&back).unwrap(),
        serde_json::to_value(&report).unwrap()
    );
    fs::write(&path, "{}").unwrap();
    assert!(matches!(Report::open(&path), Err(Failure::Config(_))));
}

#[test]
fn what_was_not_sent_and_who_was_cut_off_is_wrong() {
    let report = report();
    assert!(!report.ok);
    assert_eq!(report.wrong[0], "not sent 2");
    assert!(report.wrong[1].starts_with("users cut off 2"));
    let mut report = Report::new("fanout", Load::default());
    report.history = Some(History {
        rooms: 0,
        messages: 0,
        unread: BTreeMap::from([("late".to_owned(), 3)]),
    });
    report.judge();
    assert_eq!(report.wrong, ["rooms without history 3 (late)"]);
    assert!(Report::new("fanout", Load::default()).ok);
}

#[test]
fn a_distribution_goes_to_the_last_that_was_measured() {
    let times = times();
    assert_eq!(
        (times.count, times.p50, times.p99, times.max),
        (1000, 500, 990, 1000)
    );
    assert_eq!(times.curve.last(), Some(&(1.0, 1000)));
    assert!(
        times.curve.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1),
        "{times:?}"
    );
    let quantile = times.curve[times.curve.len() - 2].0;
    assert!((quantile - 0.999).abs() < 1e-9, "{quantile}");
    assert_eq!(Latency::of(&Histogram::new(3).unwrap()), Latency::default());
}

#[test]
fn a_page_has_every_part_and_no_markup_from_outside() {
    let html = report().page();
    let options = ParsingOptions {
        allow_dtd: true,
        ..ParsingOptions::default()
    };
    let document = Document::parse_with_options(&html, options).unwrap();
    let elements = || document.descendants().filter(|node| node.is_element());
    let sections = elements().filter(|node| node.tag_name().name() == "section");
    let sections = sections.map(|node| node.attribute("id").unwrap());
    assert_eq!(
        sections.collect::<Vec<_>>(),
        [
            "verdict",
            "figures",
            "latency",
            "time",
            "steps",
            "processes",
            "load",
            "machine"
        ]
    );
    for element in elements() {
        let name = element.tag_name().name();
        assert!(
            !["script", "link", "img", "iframe"].contains(&name),
            "{name}"
        );
    }
    let shown = elements().filter(|node| node.text().is_some_and(|text| text.contains("alert(")));
    assert!(shown.count() >= 6, "it is told as text");
}

#[test]
fn a_terminal_shows_every_step_and_what_is_wrong() {
    let text = report().to_string();
    for shown in [
        "100/s",
        "2.00 ms",
        "WRONG: not sent 2",
        "the generator was the bottleneck",
    ] {
        assert!(text.contains(shown), "{shown} is missing from\n{text}");
    }
    assert!(report().markdown().contains("| latency | measured | p50 |"));
}
