//! A chart as SVG.

use std::fmt::Write as _;

use super::frame::{BOTTOM, Frame, RIGHT, TOP, WIDTH, width};
use super::thin::thin;
use super::{Chart, Line, Look};
use crate::report::escape::escape;

/// Colours, and shapes of marks.
const KINDS: usize = 8;

/// Points are thinned to so many columns.
const COLUMNS: usize = 300;

/// A line of at most so many points has a mark at each; others have some, for their shape.
const MARKED: usize = 16;
const MARKS: usize = 8;

/// Characters of a name in the legend, and of a title.
const LEGEND: usize = 60;
const TITLE: usize = 76;

/// Height of a row of the legend, and the width of what stands before a name.
const ROW: f64 = 20.0;
const SWATCH: f64 = 34.0;

/// The whole chart, with a style of its own where it has one.
pub(super) fn svg(chart: &Chart, style: &str) -> String {
    let legend = legend(chart);
    let rows = legend.last().map_or(0, |entry| entry.row + 1);
    let height = BOTTOM + 48.0 + rows as f64 * ROW;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" viewBox=\"0 0 {WIDTH} {height}\" \
         role=\"img\" aria-label=\"{}\">\n",
        escape(&described(chart))
    );
    if !style.is_empty() {
        let _ = writeln!(svg, "<style>{style}</style>");
    }
    let _ = writeln!(
        svg,
        "<rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text class=\"title\" x=\"14\" y=\"21\">{}</text>\n<text x=\"14\" y=\"42\">{}</text>",
        escape(&shortened(&chart.title, TITLE)),
        escape(&chart.y.label)
    );
    match Frame::of(chart) {
        Some(frame) => {
            axes(&mut svg, chart, &frame);
            for (_, at) in &chart.bounds {
                if let Some(y) = frame.height(*at) {
                    let left = frame.left;
                    let _ = writeln!(
                        svg,
                        "<path class=\"bound\" d=\"M{left:.1} {y:.1}H{RIGHT}\"/>"
                    );
                }
            }
            for (at, line) in chart.lines.iter().enumerate() {
                draw(&mut svg, chart, &frame, at % KINDS, line);
            }
        }
        None => {
            let (middle, half) = (WIDTH / 2.0, (TOP + BOTTOM) / 2.0);
            let _ = writeln!(
                svg,
                "<path class=\"rule\" d=\"M44 {BOTTOM}H{RIGHT}\"/>\n\
                 <text x=\"{middle}\" y=\"{half}\" text-anchor=\"middle\">nothing was measured</text>"
            );
        }
    }
    for entry in &legend {
        let (x, y) = (entry.x, BOTTOM + 58.0 + entry.row as f64 * ROW);
        let _ = match entry.kind {
            Kind::Line(at, Look::Reference) => {
                write!(
                    svg,
                    "<path class=\"reference c{at}\" d=\"M{x:.1} {y:.1}h26\"/>"
                )
            }
            Kind::Bound => write!(svg, "<path class=\"bound\" d=\"M{x:.1} {y:.1}h26\"/>"),
            Kind::Line(at, look) => {
                if look == Look::Joined {
                    let _ = write!(svg, "<path class=\"line c{at}\" d=\"M{x:.1} {y:.1}h26\"/>");
                }
                write!(
                    svg,
                    "<path class=\"mark c{at}\" d=\"{}\"/>",
                    mark(at, x + 13.0, y)
                )
            }
        };
        let (x, y, name) = (x + SWATCH, y + 4.0, escape(&entry.name));
        let _ = writeln!(
            svg,
            "<text class=\"name\" x=\"{x:.1}\" y=\"{y:.1}\">{name}</text>"
        );
    }
    svg + "</svg>"
}

fn axes(svg: &mut String, chart: &Chart, frame: &Frame) {
    let left = frame.left;
    for tick in &frame.rows {
        let Some(y) = frame.height(tick.at) else {
            continue;
        };
        let (beside, below, label) = (left - 8.0, y + 4.0, escape(&tick.label));
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{left:.1} {y:.1}H{RIGHT}\"/>\
             <text x=\"{beside:.1}\" y=\"{below:.1}\" text-anchor=\"end\">{label}</text>"
        );
    }
    for tick in &frame.columns {
        let Some(x) = frame.column(tick.at) else {
            continue;
        };
        let (below, label) = (BOTTOM + 18.0, escape(&tick.label));
        // A label stays on the paper where its tick is at the edge.
        let half = width(&tick.label) / 2.0;
        let middle = x.min(WIDTH - 2.0 - half);
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{x:.1} {TOP}V{BOTTOM}\"/>\
             <text x=\"{middle:.1}\" y=\"{below}\" text-anchor=\"middle\">{label}</text>"
        );
    }
    let (middle, below) = ((left + RIGHT) / 2.0, BOTTOM + 37.0);
    let _ = writeln!(
        svg,
        "<path class=\"rule\" d=\"M{left:.1} {BOTTOM}H{RIGHT}\"/>\
         <text x=\"{middle:.1}\" y=\"{below}\" text-anchor=\"middle\">{}</text>",
        escape(&chart.x.label)
    );
}

fn draw(svg: &mut String, chart: &Chart, frame: &Frame, kind: usize, line: &Line) {
    let thinned = thin(&line.points, COLUMNS);
    let places = thinned.iter().map(|point| (point, frame.place(*point)));
    let places = places.collect::<Vec<_>>();
    if line.look != Look::Points {
        let mut path = String::new();
        let mut is_joined = false;
        for (_, place) in &places {
            if let Some((x, y)) = place {
                let command = if is_joined { 'L' } else { 'M' };
                let _ = write!(path, "{command}{x:.1} {y:.1}");
            }
            is_joined = place.is_some();
        }
        let class = match line.look {
            Look::Reference => "reference",
            _ => "line",
        };
        let _ = writeln!(svg, "<path class=\"{class} c{kind}\" d=\"{path}\"/>");
    }
    if line.look == Look::Reference {
        return;
    }
    let has_all = line.look == Look::Points || places.len() <= MARKED;
    let every = places.len().div_ceil(MARKS).max(1);
    for (at, (point, place)) in places.iter().enumerate() {
        let Some((x, y)) = place else {
            continue;
        };
        // A point between two gaps is seen by its mark alone.
        let joined = |at: Option<usize>| {
            at.and_then(|at| places.get(at))
                .is_some_and(|p| p.1.is_some())
        };
        let is_alone = !joined(at.checked_sub(1)) && !joined(Some(at + 1));
        if has_all || is_alone || at % every == every / 2 {
            let (name, x_text) = (escape(&line.name), chart.x.show(point.0));
            let _ = writeln!(
                svg,
                "<path class=\"mark c{kind}\" d=\"{}\"><title>{name}: {} at {x_text}</title></path>",
                mark(kind, *x, *y),
                chart.y.show(point.1)
            );
        }
    }
}

/// The outline of a mark: one shape for each kind.
fn mark(kind: usize, x: f64, y: f64) -> String {
    let at = format!("M{x:.1} {y:.1}");
    let shape = match kind {
        0 => "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
        1 => "m-3.6 -3.6h7.2v7.2h-7.2z",
        2 => "m0 -5l4.8 8.4h-9.6z",
        3 => "m0 -5.2l5.2 5.2l-5.2 5.2l-5.2 -5.2z",
        4 => "m0 5l4.8 -8.4h-9.6z",
        5 => "m-1.6 -5h3.2v3.4h3.4v3.2h-3.4v3.4h-3.2v-3.4h-3.4v-3.2h3.4z",
        6 => "m-5 -2.6h10v5.2h-10z",
        _ => "m-2.6 -5h5.2v10h-5.2z",
    };
    at + shape
}

struct Entry {
    x: f64,
    row: usize,
    name: String,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Line(usize, Look),
    Bound,
}

/// The names of the lines and bounds, as many in a row as have room.
fn legend(chart: &Chart) -> Vec<Entry> {
    let lines = chart.lines.iter().enumerate();
    let lines = lines.map(|(at, line)| (&line.name, Kind::Line(at % KINDS, line.look)));
    let bounds = chart.bounds.iter().map(|(name, _)| (name, Kind::Bound));
    let (mut x, mut row) = (14.0, 0);
    let mut entries = Vec::<Entry>::new();
    for (name, kind) in lines.chain(bounds) {
        let name = shortened(name, LEGEND);
        let room = SWATCH + width(&name) + 18.0;
        if x + room > WIDTH && x > 14.0 {
            (x, row) = (14.0, row + 1);
        }
        entries.push(Entry { x, row, name, kind });
        x += room;
    }
    entries
}

/// What the chart shows, in words.
fn described(chart: &Chart) -> String {
    let mut text = format!("{}: {} over {}.", chart.title, chart.y.label, chart.x.label);
    for line in &chart.lines {
        let points = line
            .points
            .iter()
            .filter(|(x, y)| x.is_finite() && y.is_finite());
        let values = points.map(|point| point.1).collect::<Vec<_>>();
        let (Some(first), Some(last)) = (values.first(), values.last()) else {
            let _ = write!(text, " {}: nothing was measured.", line.name);
            continue;
        };
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let [first, last, least, most] = [*first, *last, least, most].map(|at| chart.y.show(at));
        let _ = write!(
            text,
            " {}: from {first} to {last}, least {least}, greatest {most}.",
            line.name
        );
    }
    for (name, at) in &chart.bounds {
        let _ = write!(text, " {name}: {}.", chart.y.show(*at));
    }
    text
}

/// The text, or as much of it as there is room for.
fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}
