use roxmltree::{Document, Node};

use super::*;

fn chart(y: Axis) -> Chart {
    Chart::new("chart", Axis::linear("time", Unit::Seconds), y)
}

/// All elements with this class.
fn classed<'a>(document: &'a Document<'_>, class: &str) -> Vec<Node<'a, 'a>> {
    let has = |node: &Node<'_, '_>| {
        let classes = node.attribute("class").unwrap_or_default();
        classes.split(' ').any(|own| own == class)
    };
    document.descendants().filter(has).collect()
}

#[test]
fn a_chart_of_anything_is_sound_and_stays_on_its_paper() {
    let linear = || Axis::linear("latency", Unit::Microseconds);
    let log = || Axis::log("latency", Unit::Microseconds);
    let many = (0..10_000).map(|at| (f64::from(at), f64::from(at % 100)));
    for points in [
        vec![],
        vec![(5.0, 7.0)],
        vec![(0.0, 0.0), (1.0, 0.0)],
        vec![(0.0, f64::NAN), (1.0, f64::INFINITY)],
        vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0)],
        vec![(0.0, 1e-300), (1.0, 1e300)],
        vec![(0.0, -5.0), (1.0, 5.0)],
        vec![(0.0, f64::MAX), (f64::MAX, f64::MAX)],
        vec![(f64::MIN, f64::MIN), (f64::MAX, f64::MAX)],
        vec![(0.0, u64::MAX as f64)],
        many.collect(),
    ] {
        for axis in [linear(), log()] {
            let mut chart = chart(axis).with(Line::new("line", points.clone()));
            chart.bounds.push(("bound".to_owned(), 10.0));
            let svg = chart.figure();
            let document = Document::parse(&svg).unwrap();
            assert!(svg.len() < 60_000, "{} octets", svg.len());
            for wrong in ["NaN", "inf"] {
                assert!(!svg.contains(wrong), "{wrong} in {svg}");
            }
            for text in document
                .descendants()
                .filter(|node| node.has_tag_name("text"))
            {
                let at = |name| text.attribute(name).unwrap().parse::<f64>().unwrap();
                assert!((0.0..=640.0).contains(&at("x")), "{text:?} of {points:?}");
            }
            for line in classed(&document, "line") {
                let path = line.attribute("d").unwrap().replace('h', "L");
                for place in path.split(['M', 'L']).filter(|place| place.contains(' ')) {
                    let (x, y) = place.split_once(' ').unwrap();
                    let (x, y) = (x.parse::<f64>().unwrap(), y.parse::<f64>().unwrap());
                    assert!(
                        (0.0..=640.0).contains(&x) && (50.0..=400.0).contains(&y),
                        "{place}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_was_not_measured_breaks_the_line() {
    let points = vec![
        (0.0, 1.0),
        (1.0, 2.0),
        (2.0, f64::NAN),
        (3.0, 1.0),
        (4.0, 2.0),
    ];
    let svg = chart(Axis::linear("cores", Unit::Cores))
        .with(Line::new("a", points))
        .figure();
    let document = Document::parse(&svg).unwrap();
    let line = classed(&document, "line")[0].attribute("d").unwrap();
    assert_eq!(line.matches('M').count(), 2, "{line}");
    assert_eq!(
        classed(&document, "mark").len(),
        5,
        "four points and the legend"
    );
}

#[test]
fn lines_differ_by_more_than_their_colour() {
    let mut chart = chart(Axis::linear("cores", Unit::Cores));
    for at in 0..8 {
        chart
            .lines
            .push(Line::new(format!("line {at}"), vec![(0.0, 1.0)]));
    }
    let svg = chart.figure();
    let document = Document::parse(&svg).unwrap();
    let marks = classed(&document, "mark");
    let shapes = marks.iter().map(|mark| {
        let path = mark.attribute("d").unwrap();
        path[path.find('m').unwrap()..].to_owned()
    });
    let shapes = shapes.collect::<std::collections::BTreeSet<_>>();
    assert_eq!(shapes.len(), 8);
    for at in 0..8 {
        assert!(
            svg.contains(&format!(">line {at}</text>")),
            "the legend names it"
        );
    }
}

#[test]
fn a_chart_says_in_words_what_it_shows() {
    let points = vec![(0.0, 1000.0), (1.0, 30_000.0), (2.0, 2000.0)];
    let mut chart =
        chart(Axis::log("latency", Unit::Microseconds)).with(Line::new("p<99>", points));
    chart.bounds.push(("bound".to_owned(), 20_000.0));
    let svg = chart.figure();
    let document = Document::parse(&svg).unwrap();
    let svg = document.root_element().first_element_child().unwrap();
    assert_eq!(svg.attribute("role"), Some("img"));
    assert_eq!(
        svg.attribute("aria-label"),
        Some(
            "chart: latency over time. p<99>: from 1.00 ms to 2.00 ms, least 1.00 ms, greatest \
             30.0 ms. bound: 20.0 ms."
        )
    );
}

#[test]
fn labels_of_ticks_do_not_touch() {
    for to in [1.0, 59.0, 1e3, 12_345.0, 1e5, 1e9, 1e17] {
        for x in [
            Axis::linear("n", Unit::Count),
            Axis::log("n", Unit::Count),
            Axis::tail("n"),
        ] {
            let points = vec![(1e-3, 1.0), (to, 2.0)];
            let chart =
                Chart::new("n", x, Axis::linear("n", Unit::Count)).with(Line::new("n", points));
            let frame = frame::Frame::of(&chart).unwrap();
            let places = frame.columns.iter().map(|tick| {
                (
                    frame.column(tick.at).unwrap(),
                    frame::width(&tick.label) / 2.0,
                )
            });
            let places = places.collect::<Vec<_>>();
            assert!(!places.is_empty(), "{to}");
            for pair in places.windows(2) {
                assert!(
                    pair[0].0 + pair[0].1 < pair[1].0 - pair[1].1,
                    "{:?}",
                    frame.columns
                );
            }
        }
    }
}
