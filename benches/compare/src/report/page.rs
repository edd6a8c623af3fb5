//! The tables of `docs/performance.md`: between two markers, the rest of which is written by hand.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use super::about::FACTS;
use crate::parameters::WORKERS;
use crate::plan::{Case, NOTES, PEERS, Peer, TWO_WORKERS, peer_named};
use crate::results::{AS_WITH_FEWER, Results};
use crate::support::stats::figure;

const BEGIN: &str = "<!-- compare: begin -->";
const END: &str = "<!-- compare: end -->";

/// Writes the tables into `page`, in the place of those that are there.
///
/// # Errors
/// When the file cannot be read or written, or has no markers.
pub fn write(page: &Path, charts: &[String], cases: &[Case], results: &Results) -> io::Result<()> {
    let text = fs::read_to_string(page)?;
    let missing = || io::Error::other(format!("{} has no lines `{BEGIN}` and `{END}`", page.display()));
    let (before, rest) = text.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    let tables = tables(charts, cases, results);
    fs::write(page, format!("{before}{BEGIN}\n{tables}\n{END}{after}"))
}

fn tables(charts: &[String], cases: &[Case], results: &Results) -> String {
    let mut text = about(results);
    let mut reasons = Reasons::new();
    for (title, members) in by_table(cases) {
        let table = table(&members, results, &mut reasons);
        if !table.is_empty() {
            text += &format!("\n**{title}**\n\n{table}");
        }
    }
    if !reasons.is_empty() {
        let reasons = reasons.iter().map(|((peer, reason), titles)| format!("{peer} at {}: {reason}", titles.join(", ")));
        text += &format!("\nWho fails, and how: {}.\n", reasons.collect::<Vec<_>>().join("; "));
    }
    text += &format!("\nWhat is compared: {}.\n", NOTES.join("; "));
    let links: Vec<_> = charts.iter().map(|name| format!("[{name}](../benches/compare/charts/{name}.svg)")).collect();
    text + &format!("\nCharts: {}.", links.join(", "))
}

/// Times that are told behind the figure of a row, and how many µs their unit is.
const BESIDE: &[(&str, f64)] = &[("p99_us", 1.0), ("late_p99_ms", 1e3)];

/// Machine, versions and date, as prose.
fn about(results: &Results) -> String {
    let (facts, versions): (Vec<_>, Vec<_>) = results.about.iter().partition(|(name, _)| FACTS.contains(&name.as_str()));
    let facts: Vec<_> = facts.iter().map(|(_, value)| value.as_str()).filter(|value| !value.is_empty()).collect();
    let versions: Vec<_> = versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    format!("Measured on {}. Versions: {}.\n", facts.join("; "), versions.join(", "))
}

/// The cases at which a peer fails, by the peer and its reason.
type Reasons = BTreeMap<(&'static str, String), Vec<String>>;

/// Cases that have a table in common, with its title.
fn by_table(cases: &[Case]) -> Vec<(&'static str, Vec<&Case>)> {
    let title = |case: &Case| match case.group {
        "generators" => "Generators",
        "echo" | "http" | "churn" if case.parameters.get_or(WORKERS, 1) > 1 => "Servers with two workers: CPU time per request",
        "echo" | "http" | "churn" => "Servers on one CPU: CPU time per request",
        _ if case.parameters.get_or(WORKERS, 1) > 1 => "Green threads, two workers",
        "sleepers" | "memory" => "Crowds, one worker",
        _ => "Green threads, one worker",
    };
    let mut tables: Vec<(&'static str, Vec<&Case>)> = Vec::new();
    for case in cases {
        match tables.iter_mut().find(|(known, _)| *known == title(case)) {
            Some((_, members)) => members.push(case),
            None => tables.push((title(case), vec![case])),
        }
    }
    tables
}

/// A row for each case, a column for each peer. The least of a row is bold; the floor, first, does not compete.
fn table(cases: &[&Case], results: &Results, reasons: &mut Reasons) -> String {
    let has_results = |case: &Case, peer: &str| !results.outcomes(&case.key(), peer).is_empty();
    let cases: Vec<_> = cases.iter().filter(|case| case.measured().any(|peer| has_results(case, peer.name))).collect();
    let columns =
        PEERS.iter().filter(|peer| cases.iter().any(|case| case.peers.contains(&peer.name) && has_results(case, peer.name)));
    let columns: Vec<&Peer> = columns.collect();
    let floor = cases.first().and_then(|case| case.floor).map(peer_named);
    if columns.is_empty() {
        return String::new();
    }
    let mut text = String::from("| |");
    if let Some(floor) = floor {
        text += &format!(" floor: {} |", floor.shown);
    }
    for peer in &columns {
        text += &format!(" {} |", peer.shown);
    }
    text += "\n|---|";
    text += &"---:|".repeat(columns.len() + usize::from(floor.is_some()));
    for case in &cases {
        let key = case.key();
        let median = |peer: &str| results.samples(&key, peer, case.figure.metric).map(|samples| samples.median());
        let best = case.peers.iter().filter_map(|peer| median(peer)).fold(f64::INFINITY, f64::min);
        text += &format!("\n| {}, {} |", case.title.trim_end_matches(TWO_WORKERS), case.figure.unit);
        if let Some(floor) = floor {
            text += &format!(" {} |", median(floor.name).map_or_else(String::new, figure));
        }
        for peer in &columns {
            let cell = match median(peer.name) {
                Some(value) => {
                    let value = if value <= best { format!("**{}**", figure(value)) } else { figure(value) };
                    let second =
                        BESIDE.iter().find_map(|(metric, us)| Some(results.samples(&key, peer.name, metric)?.median() * us));
                    value + &second.map_or_else(String::new, |us| format!(" · {}", time(us)))
                }
                None => match results.failure(&key, peer.name) {
                    Some(AS_WITH_FEWER) => "fails".to_owned(),
                    Some(reason) => {
                        let titles = reasons.entry((peer.shown, reason.to_owned())).or_default();
                        titles.push(format!("“{}”", case.title));
                        "fails".to_owned()
                    }
                    None => String::new(),
                },
            };
            text += &format!(" {cell} |");
        }
    }
    text + "\n"
}

/// A number of µs, in ms if it is large.
fn time(us: f64) -> String {
    if us < 1000.0 { format!("{} µs", figure(us)) } else { format!("{} ms", figure(us / 1000.0)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Metrics;

    #[test]
    fn a_row_tells_the_least_the_floor_and_who_fails() {
        let case = Case::new("w", "generators", "work", &[]).peers(&["hebra", "may", "go"]).floor("corosensei");
        let mut results = Results::default();
        for (peer, ns) in [("hebra", 2.0), ("go", 30.0), ("corosensei", 1.0)] {
            results.push("w", peer, Ok(Metrics::ns(ns)));
        }
        results.push("w", "may", Err("hangs".to_owned()));
        let text = tables(&[], &[case], &results);
        assert!(text.contains("| work, ns | 1.00 | **2.00** | fails | 30.0 |"), "{text}");
        assert!(text.contains("may at “work”: hangs."), "{text}");
    }
}
