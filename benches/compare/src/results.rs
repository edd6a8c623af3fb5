//! What was measured: figures by name, the outcome of each round, and the file that keeps them.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use serde_json::{Map, Value};

use crate::support::stats::Samples;

/// The figures of one measurement, as `{"ns": 12.3}`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    pub fn new(pairs: &[(&str, f64)]) -> Self {
        Self(pairs.iter().map(|&(name, value)| (name.to_owned(), value)).collect())
    }

    /// The one figure that most workloads have.
    pub fn ns(value: f64) -> Self {
        Self::new(&[("ns", value)])
    }

    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    pub fn to_json(&self) -> Value {
        self.0.iter().map(|(name, value)| (name.clone(), Value::from(*value))).collect()
    }

    /// The end of a measurement. Not by returning: a million sleepers need not be woken to be forgotten.
    pub fn print_and_exit(&self) -> ! {
        println!("{}", self.to_json());
        std::process::exit(0)
    }

    pub fn from_json(value: &Value) -> Option<Self> {
        let pairs = value.as_object()?.iter();
        Some(Self(pairs.map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect::<Option<_>>()?))
    }
}

/// What came of one measurement: figures, or why there are none.
pub type Outcome = Result<Metrics, String>;

/// The outcomes of all rounds, by case and peer; with what tells where they come from.
#[derive(Default)]
pub struct Results {
    /// Machine, versions, date: lines of the report, in order.
    pub about: Vec<(String, String)>,
    cases: BTreeMap<String, BTreeMap<String, Vec<Outcome>>>,
}

/// The reason of a peer that was not asked, as it fails at less.
pub const AS_WITH_FEWER: &str = "as with fewer";

const FAILS: &str = "fails";

impl Results {
    pub fn outcomes(&self, case: &str, peer: &str) -> &[Outcome] {
        self.cases.get(case).and_then(|peers| peers.get(peer)).map_or(&[], Vec::as_slice)
    }

    pub fn push(&mut self, case: &str, peer: &str, outcome: Outcome) {
        self.cases.entry(case.to_owned()).or_default().entry(peer.to_owned()).or_default().push(outcome);
    }

    /// Why a round of this peer had no figures; the last such reason.
    pub fn failure(&self, case: &str, peer: &str) -> Option<&str> {
        self.outcomes(case, peer).iter().rev().find_map(|outcome| outcome.as_ref().err().map(String::as_str))
    }

    /// One figure of all rounds; `None` if no round has it.
    pub fn samples(&self, case: &str, peer: &str, metric: &str) -> Option<Samples> {
        let outcomes = self.outcomes(case, peer).iter();
        let values: Vec<f64> = outcomes.filter_map(|outcome| outcome.as_ref().ok()?.get(metric)).collect();
        (!values.is_empty()).then(|| values.into_iter().collect())
    }

    /// # Errors
    /// A file that cannot be read or was not written by [`Results::write`].
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path)?;
        let value: Value = serde_json::from_str(&text)?;
        parse(&value).ok_or_else(|| io::Error::other(format!("{} is no file of results", path.display())))
    }

    /// Puts the whole in the place of what is there; a reader sees the one or the other.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let outcome = |outcome: &Outcome| match outcome {
            Ok(metrics) => metrics.to_json(),
            Err(reason) => [(FAILS.to_owned(), Value::from(reason.as_str()))].into_iter().collect(),
        };
        let mut cases = Map::new();
        for (case, peers) in &self.cases {
            let peers = peers.iter().map(|(peer, rounds)| (peer.clone(), rounds.iter().map(outcome).collect::<Value>()));
            cases.insert(case.clone(), peers.collect());
        }
        let about = self.about.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
        let whole = Map::from_iter([("about".to_owned(), about), ("cases".to_owned(), Value::Object(cases))]);
        let new = path.with_extension("new");
        fs::write(&new, format!("{:#}\n", Value::Object(whole)))?;
        fs::rename(&new, path)
    }
}

fn parse(value: &Value) -> Option<Results> {
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
    let mut results = Results::default();
    for (name, value) in value.get("about")?.as_object()? {
        results.about.push((name.clone(), text(value)?));
    }
    for (case, peers) in value.get("cases")?.as_object()? {
        for (peer, rounds) in peers.as_object()? {
            for round in rounds.as_array()? {
                let outcome = match round.get(FAILS) {
                    Some(reason) => Err(text(reason)?),
                    None => Ok(Metrics::from_json(round)?),
                };
                results.push(case, peer, outcome);
            }
        }
    }
    Some(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let mut results = Results { about: vec![("date".to_owned(), "today".to_owned())], ..Results::default() };
        results.push("case a=1", "peer", Ok(Metrics::new(&[("ns", 1.5), ("p99", 2.0)])));
        results.push("case a=1", "peer", Err("hangs".to_owned()));
        let file = std::env::temp_dir().join(format!("compare-{}.json", std::process::id()));
        results.write(&file).expect("there is a directory for such files");
        let read = Results::read(&file).expect("it was just written");
        fs::remove_file(&file).expect("it was just read");
        assert_eq!(read.about, results.about);
        assert_eq!(read.outcomes("case a=1", "peer"), results.outcomes("case a=1", "peer"));
        assert_eq!(read.failure("case a=1", "peer"), Some("hangs"));
    }
}
