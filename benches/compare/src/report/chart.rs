//! Bars: an SVG for each group of cases, a panel for each case, the least first.
//!
//! The text takes the colour that the reader's light or dark background needs. A bar that would leave the others no room is cut off, with
//! a gap that says so; its figure is told all the same.

use std::fmt::Write;
use std::path::Path;
use std::{fs, io};

use crate::plan::{Case, Peer};
use crate::results::Results;
use crate::support::stats::figure;

const WIDTH: f64 = 760.0;
/// Where the bars begin, and how long the longest is.
const LEFT: f64 = 170.0;
const LONGEST: f64 = 420.0;
const LINE: f64 = 18.0;
const BAR: f64 = 12.0;
const HEAD: f64 = 30.0;
const GAP: f64 = 14.0;
/// Bars are cut off at so many times the longest of what lies within; hebra's, the floor's and the next best's always do.
const CUT: f64 = 8.0;

const STYLE: &str = "\
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.hebra { fill: #0969da } .floor { fill: #afb8c1 } .peer { fill: #6e7781 }
text.hebra { fill: #0969da; font-weight: 600 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .hebra, text.hebra { fill: #58a6ff } .floor { fill: #484f58 } .peer { fill: #8b949e }
}";

struct Bar {
    peer: &'static Peer,
    class: &'static str,
    value: Result<f64, String>,
}

/// Writes a chart for each group that has figures; returns the groups' names.
pub fn write_all(directory: &Path, cases: &[Case], results: &Results) -> io::Result<Vec<String>> {
    fs::create_dir_all(directory)?;
    let mut groups: Vec<&str> = Vec::new();
    for case in cases {
        if !groups.contains(&case.group) {
            groups.push(case.group);
        }
    }
    let mut written = Vec::new();
    for group in groups {
        let members = cases.iter().filter(|case| case.group == group);
        let panels: Vec<_> = members.map(|case| (case, bars(case, results))).filter(|(_, bars)| !bars.is_empty()).collect();
        if !panels.is_empty() {
            fs::write(directory.join(format!("{group}.svg")), svg(&panels))?;
            written.push(group.to_owned());
        }
    }
    Ok(written)
}

/// The least first; who fails last.
fn bars(case: &Case, results: &Results) -> Vec<Bar> {
    let key = case.key();
    let bar = |peer: &'static Peer| {
        let class = match peer.name {
            "hebra" => "hebra",
            name if case.floor == Some(name) => "floor",
            _ => "peer",
        };
        let value = match results.samples(&key, peer.name, case.figure.metric) {
            Some(samples) => Ok(samples.median()),
            None => Err(results.failure(&key, peer.name)?.to_owned()),
        };
        Some(Bar { peer, class, value })
    };
    let mut bars: Vec<Bar> = case.measured().filter_map(bar).collect();
    let length = |bar: &Bar| bar.value.as_ref().map_or(f64::INFINITY, |value| *value);
    bars.sort_by(|a, b| length(a).total_cmp(&length(b)));
    bars
}

fn svg(panels: &[(&Case, Vec<Bar>)]) -> String {
    let height: f64 = panels.iter().map(|(_, bars)| HEAD + GAP + LINE * bars.len() as f64).sum();
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
         <style>\n{STYLE}\n</style>\n"
    );
    let mut top = 0.0;
    for (case, bars) in panels {
        let unit = case.figure.unit;
        let what = if case.figure.what.is_empty() { String::new() } else { format!(" of {}", case.figure.what) };
        put(&mut text, 0.0, top + 18.0, "title", &format!("{} ({unit}{what})", case.title));
        let scale = LONGEST / longest(bars);
        for (i, bar) in bars.iter().enumerate() {
            let y = top + HEAD + LINE * i as f64;
            draw(&mut text, bar, y, scale);
        }
        top += HEAD + GAP + LINE * bars.len() as f64;
    }
    text + "</svg>\n"
}

/// What the longest bar stands for.
fn longest(bars: &[Bar]) -> f64 {
    let values = || bars.iter().filter_map(|bar| Some((bar.class, *bar.value.as_ref().ok()?)));
    let shown = values().filter(|(class, _)| *class != "peer").map(|(_, value)| value);
    let next_best = values().filter(|(class, _)| *class == "peer").map(|(_, value)| value).fold(f64::INFINITY, f64::min);
    let within = shown.chain(next_best.is_finite().then_some(next_best)).fold(0.0, f64::max);
    let all = values().map(|(_, value)| value).fold(0.0, f64::max);
    all.min(within * CUT).max(f64::MIN_POSITIVE)
}

fn draw(text: &mut String, bar: &Bar, y: f64, scale: f64) {
    let floor = if bar.class == "floor" { " (floor)" } else { "" };
    let middle = y + BAR - 2.0;
    let name = format!("{}{floor}", bar.peer.shown);
    put(text, 8.0, middle, if bar.class == "hebra" { "hebra" } else { "name" }, &name);
    let value = match &bar.value {
        Ok(value) => value,
        Err(reason) => {
            let short: String = reason.chars().take(80).collect();
            put(text, LEFT, middle, "name", &format!("fails: {short}"));
            return;
        }
    };
    let length = (value * scale).clamp(1.0, LONGEST);
    if value * scale > LONGEST * 1.001 {
        rect(text, bar.class, LEFT, y, LONGEST - 24.0);
        rect(text, bar.class, LEFT + LONGEST - 18.0, y, 18.0);
    } else {
        rect(text, bar.class, LEFT, y, length);
    }
    let class = bar.class;
    put(text, LEFT + length + 6.0, middle, if class == "hebra" { "hebra" } else { "name" }, &figure(*value));
}

fn rect(text: &mut String, class: &str, x: f64, y: f64, width: f64) {
    // Writing to a string does not fail.
    let _ =
        writeln!(text, "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"1\"/>");
}

fn put(text: &mut String, x: f64, y: f64, class: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(text, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{words}</text>");
}
