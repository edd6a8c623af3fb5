//! The numbers that a workload is given: `threads=1000 workers=1`.

use std::collections::BTreeMap;
use std::fmt;

/// Named numbers, in the order of their names.
#[derive(Clone, Default, PartialEq)]
pub struct Parameters(BTreeMap<String, u64>);

/// How many repetitions are done. No part of a case's name: a slow peer does fewer of the same.
pub const COUNT: &str = "count";
/// OS threads that a peer may use; each has a CPU of its own.
pub const WORKERS: &str = "workers";

impl Parameters {
    pub fn new(pairs: &[(&str, u64)]) -> Self {
        Self(pairs.iter().map(|&(name, value)| (name.to_owned(), value)).collect())
    }

    /// # Errors
    /// A word that is no `NAME=NUMBER`.
    pub fn parse(words: &[String]) -> Result<Self, String> {
        let pair = |word: &String| {
            let (name, value) = word.split_once('=')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        let pairs = words.iter().map(|word| pair(word).ok_or_else(|| format!("`{word}` is not NAME=NUMBER")));
        Ok(Self(pairs.collect::<Result<_, _>>()?))
    }

    /// # Panics
    /// If the plan has not given `name`.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_else(|| panic!("the workload needs {name}=NUMBER"))
    }

    /// `get`, of what may be left out.
    pub fn get_or(&self, name: &str, default: u64) -> u64 {
        self.0.get(name).copied().unwrap_or(default)
    }

    pub fn count(&self) -> u64 {
        self.get(COUNT)
    }

    pub fn workers(&self) -> usize {
        self.get_or(WORKERS, 1) as usize
    }

    /// The same with `name` set to `value`.
    pub fn with(mut self, name: &str, value: u64) -> Self {
        self.0.insert(name.to_owned(), value);
        self
    }

    pub fn words(&self) -> Vec<String> {
        self.0.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

/// As a case is named: without the number of repetitions.
impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.0.iter().filter(|(name, _)| *name != COUNT) {
            write!(f, " {name}={value}")?;
        }
        Ok(())
    }
}
