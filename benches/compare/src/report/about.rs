//! Where the figures come from: machine, versions, date.

use std::fs;
use std::process::Command;

use crate::driver::{self, Absent};
use crate::plan::{Case, Peer};
use crate::results::Results;

/// The versions that this program was built with.
const LOCK: &str = include_str!("../../Cargo.lock");

/// The facts that are no versions of peers.
pub const FACTS: &[&str] = &["machine", "system", "compiler", "date"];

/// Writes down machine, date and versions, unless the results have them already; returns the peers that are absent, and why.
pub fn gather(results: &mut Results, cases: &[Case]) -> Vec<Absent> {
    let mut peers: Vec<&'static Peer> = Vec::new();
    for peer in cases.iter().flat_map(Case::measured) {
        if !peers.iter().any(|known| known.name == peer.name) {
            peers.push(peer);
        }
    }
    let (versions, absent) = driver::versions(&peers);
    let said = [machine(), said_by("uname", &["-sr"]), said_by("rustc", &["--version"]), said_by("date", &["-u", "+%Y-%m-%d"])];
    let facts = FACTS.iter().zip(said).map(|(name, value)| ((*name).to_owned(), value));
    let about: Vec<_> = facts.chain(versions).collect();
    // What was kept may have been measured in pieces, with more peers than this one.
    for (name, value) in about {
        match results.about.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => results.about.push((name, value)),
        }
    }
    absent
}

/// The version of `package` in this program's lock file.
pub fn locked_version(package: &str) -> String {
    let line = format!("name = \"{package}\"");
    let mut lines = LOCK.lines().skip_while(|candidate| *candidate != line).skip(1);
    let version = lines.next().and_then(|line| line.strip_prefix("version = \""));
    version.map_or("unknown", |version| version.trim_end_matches('"')).to_owned()
}

fn machine() -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")).and_then(|rest| rest.split_once(": "));
    let count = processors.lines().filter(|line| line.starts_with("processor")).count();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
    let model = model.map_or("unknown processor", |(_, model)| model);
    format!("{count} × {model}, {} GiB", (total + (1 << 19)) >> 20)
}

/// What a command prints; empty if there is none such.
fn said_by(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output();
    output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
