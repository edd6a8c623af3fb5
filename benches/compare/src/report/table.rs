//! The table for the terminal: for each case a line per peer, the least first.

use crate::plan::{Case, Figure};
use crate::results::Results;
use crate::support::stats::{Samples, figure};

pub fn print(cases: &[Case], results: &Results) {
    for (name, value) in &results.about {
        println!("{name}: {value}");
    }
    for case in cases {
        print_case(case, results);
    }
}

fn print_case(case: &Case, results: &Results) {
    let key = case.key();
    let samples = |peer: &str, figure: &Figure| results.samples(&key, peer, figure.metric);
    let floor = case.floor.and_then(|floor| samples(floor, &case.figure));
    let mut lines: Vec<(Option<f64>, String)> = Vec::new();
    for peer in case.measured() {
        let mark = if case.floor == Some(peer.name) { "floor: " } else { "" };
        let shown = format!("{mark}{}", peer.shown);
        let failure = results.failure(&key, peer.name);
        let Some(own) = samples(peer.name, &case.figure) else {
            let reason = failure.map_or_else(|| "skipped".to_owned(), |reason| format!("fails: {reason}"));
            lines.push((None, format!("  {shown:<28} {reason}")));
            continue;
        };
        let mut line = format!("  {shown:<28} {:>32}", format!("{own:#} {}", case.figure.unit));
        if let Some(floor) = &floor {
            let ratios: Samples = own.ratios(floor);
            line += &format!("   ×{:<7}", figure(ratios.median()));
        }
        for beside in &case.beside {
            if let Some(samples) = samples(peer.name, beside) {
                line += &format!("   {} {} {}", beside.what, figure(samples.median()), beside.unit);
            }
        }
        if let Some(reason) = failure {
            line += &format!("   in another round: {reason}");
        }
        lines.push((Some(own.median()), line));
    }
    lines.sort_by(|a, b| a.0.unwrap_or(f64::MAX).total_cmp(&b.0.unwrap_or(f64::MAX)));
    println!("\n{} [{key}]", case.title);
    for (_, line) in lines {
        println!("{}", line.trim_end());
    }
}
