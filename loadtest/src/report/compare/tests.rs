use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use roxmltree::Document;

use super::*;
use crate::config::Parameter;
use crate::report::{Latency, Load, Usage};

/// A run with so many users, whose servers used so much.
fn report(users: usize, cores: f64) -> Report {
    let mut times = Histogram::<u64>::new(3).unwrap();
    times.record_n(users as u64, 100).unwrap();
    let load = Load {
        users,
        rooms: users / 2,
        rate: 100.0,
        settings: BTreeMap::from([("bound".to_owned(), "<20 ms>".to_owned())]),
        ..Load::default()
    };
    let usage = |cores| Usage {
        name: "gateway".to_owned(),
        cores: Some(cores),
        us_per_delivery: Some(cores * 10.0),
        ..Usage::default()
    };
    Report {
        send_to_receive_us: Latency::of(&times),
        processes: vec![usage(cores / 4.0), usage(cores * 3.0 / 4.0)],
        ..Report::new("fanout", load)
    }
}

fn compared(reports: Vec<Report>, over: Option<Parameter>) -> Compared {
    let growths = grown::growths(&reports, over);
    let names = reports
        .iter()
        .enumerate()
        .map(|(at, _)| letter(at) + " <run>");
    Compared {
        runs: names.collect::<Vec<_>>().into_iter().zip(reports).collect(),
        growths,
    }
}

fn cells(table: &Table, name: &str) -> Vec<String> {
    let row = table.rows.iter().find(|row| row[0] == name);
    row.unwrap_or_else(|| panic!("{name} is not in {table:?}"))[1..].to_vec()
}

#[test]
fn each_figure_is_divided_by_the_first_runs() {
    let compared = compared(vec![report(100, 1.0), report(50, 3.0)], None);
    let table = figures::side_by_side(&compared.runs);
    assert_eq!(table.columns, ["figure", "A", "B", "B/A"]);
    assert_eq!(
        cells(&table, "gateway, CPU/delivery"),
        ["10.0 µs", "30.0 µs", "3.00 ×"]
    );
    assert_eq!(
        cells(&table, "send → receive, p99"),
        ["100 µs", "50.0 µs", "0.50 ×"]
    );
    assert_eq!(cells(&table, "messages sent a second"), ["0/s", "0/s", "-"]);
    assert!(
        !table.rows.iter().any(|row| row[0].contains("RSS")),
        "nobody measured it"
    );
    let differences = figures::differences(&compared.runs);
    assert_eq!(cells(&differences, "users"), ["100", "50"]);
    assert!(!differences.rows.iter().any(|row| row[0] == "rate"));
    assert!(compared.growths.is_empty(), "two runs are no series");
}

#[test]
fn a_series_shows_the_exponent_of_what_grows() {
    let series = || vec![report(400, 4.0), report(100, 1.0), report(200, 2.0)];
    let all = compared(series(), None);
    let table = grown::table(&all.growths);
    assert_eq!(
        table.columns,
        ["cost over users", "100", "200", "400", "exponent"]
    );
    assert_eq!(
        cells(&table, "CPU of all servers, cores"),
        ["1.00", "2.00", "4.00", "1.00"]
    );
    assert!(compared(series(), Some(Parameter::Rate)).growths.is_empty());
    let members = compared(series(), Some(Parameter::Members));
    assert!(members.growths.is_empty(), "rooms of two in each run");
    let rooms = compared(series(), Some(Parameter::Rooms));
    assert_eq!(rooms.growths[0].points[0], (50.0, 1.0));
}

#[test]
fn the_page_of_a_comparison_has_every_part_and_no_markup_from_outside() {
    let mut wrong = report(300, 1.0);
    wrong.wrong.push("lost <b>3</b>".to_owned());
    wrong.ok = false;
    wrong.machine.cpu = "another".to_owned();
    let compared = compared(vec![report(100, 1.0), report(200, 2.0), wrong], None);
    let html = compared.page();
    let options = roxmltree::ParsingOptions {
        allow_dtd: true,
        ..Default::default()
    };
    let document = Document::parse_with_options(&html, options).unwrap();
    let ids = document
        .descendants()
        .filter(|node| node.has_tag_name(("http://www.w3.org/1999/xhtml", "section")));
    let ids = ids
        .filter_map(|node| node.attribute("id"))
        .collect::<Vec<_>>();
    assert_eq!(
        ids,
        [
            "runs",
            "figures",
            "loads-and-machines-that-differ",
            "growth",
            "latency",
            "time"
        ]
    );
    assert!(html.contains("lost &lt;b&gt;3&lt;/b&gt;") && html.contains("A &lt;run&gt;"));
    assert!(html.contains("machines that are not alike"));
}
