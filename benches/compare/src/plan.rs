//! What is measured, as data: the peers, and for each case its work, its peers and its floor.

use std::time::Duration;

use crate::net;
use crate::parameters::{COUNT, Parameters};

/// Where a peer comes from, which is where its version is found.
#[derive(Clone, Copy, PartialEq)]
pub enum Origin {
    /// This program, with this crate; `None` is the standard library.
    Rust(Option<&'static str>),
    Go,
    /// Python, with this module if it is not Python itself.
    Python(Option<&'static str>),
}

pub struct Peer {
    /// As `measure` knows it.
    pub name: &'static str,
    /// As reports call it.
    pub shown: &'static str,
    pub origin: Origin,
    /// It does so many times fewer repetitions of the same work: it would take minutes for what others do in a second.
    pub slower: u64,
}

const fn peer(name: &'static str, shown: &'static str, origin: Origin) -> Peer {
    let slower = if matches!(origin, Origin::Python(_)) { 20 } else { 1 };
    Peer { name, shown, origin, slower }
}

/// In the order of the report's columns.
pub const PEERS: &[Peer] = &[
    peer("hebra", "hebra", Origin::Rust(Some("hebra"))),
    peer("corosensei", "corosensei", Origin::Rust(Some("corosensei"))),
    peer("epoll", "raw epoll", Origin::Rust(None)),
    peer("generator", "generator", Origin::Rust(Some("generator"))),
    peer("may", "may", Origin::Rust(Some("may"))),
    peer("tokio", "tokio, current thread", Origin::Rust(Some("tokio"))),
    peer("tokio-multi", "tokio, multi-thread", Origin::Rust(Some("tokio"))),
    peer("smol", "smol", Origin::Rust(Some("smol"))),
    peer("std", "OS threads", Origin::Rust(None)),
    peer("go", "Go", Origin::Go),
    peer("python", "Python", Origin::Python(None)),
    peer("asyncio", "asyncio", Origin::Python(None)),
    peer("greenlet", "greenlet", Origin::Python(Some("greenlet"))),
    peer("gevent", "gevent", Origin::Python(Some("gevent"))),
];

/// # Panics
/// If there is no such peer.
pub fn peer_named(name: &str) -> &'static Peer {
    PEERS.iter().find(|peer| peer.name == name).unwrap_or_else(|| panic!("there is no peer {name}"))
}

/// How much is measured.
#[derive(Clone, Copy, PartialEq)]
pub enum Size {
    Full,
    Quick,
}

impl Size {
    pub fn pick<T>(self, full: T, quick: T) -> T {
        if self == Size::Full { full } else { quick }
    }
}

/// A figure of a measurement. Less is better, always.
#[derive(Clone)]
pub struct Figure {
    /// Its name in the line of JSON.
    pub metric: &'static str,
    /// `ns`, `µs`, `s`, `bytes`.
    pub unit: &'static str,
    /// What one of them is for, if the title does not say it: `p99`, `page tables`.
    pub what: &'static str,
}

pub const fn figure(metric: &'static str, unit: &'static str, what: &'static str) -> Figure {
    Figure { metric, unit, what }
}

/// One workload with its parameters: a row of the table.
#[derive(Clone)]
pub struct Case {
    /// As `measure` knows it.
    pub workload: &'static str,
    /// The chart that shows it, and its group in the table.
    pub group: &'static str,
    pub title: String,
    pub parameters: Parameters,
    /// What peers are compared by.
    pub figure: Figure,
    /// What is shown besides.
    pub beside: Vec<Figure>,
    /// Hebra first.
    pub peers: Vec<&'static str>,
    /// The least that the work can cost, measured like a peer; no competitor.
    pub floor: Option<&'static str>,
    pub rounds: usize,
    /// Rounds of peers that are slow.
    pub rounds_of_slow: usize,
    /// How long one measurement may take before its peer is said to hang.
    pub limit: Duration,
}

impl Case {
    pub fn new(workload: &'static str, group: &'static str, title: impl Into<String>, parameters: &[(&str, u64)]) -> Self {
        Self {
            workload,
            group,
            title: title.into(),
            parameters: Parameters::new(parameters),
            figure: figure("ns", "ns", ""),
            beside: Vec::new(),
            peers: Vec::new(),
            floor: None,
            rounds: 5,
            rounds_of_slow: 2,
            limit: Duration::from_secs(20),
        }
    }

    pub fn peers(mut self, peers: &[&'static str]) -> Self {
        self.peers = peers.to_vec();
        self
    }

    pub fn floor(mut self, floor: &'static str) -> Self {
        self.floor = Some(floor);
        self
    }

    pub fn rounds(mut self, rounds: usize, of_slow: usize) -> Self {
        (self.rounds, self.rounds_of_slow) = (rounds, of_slow);
        self
    }

    pub fn figures(mut self, figure: Figure, beside: &[Figure]) -> Self {
        (self.figure, self.beside) = (figure, beside.to_vec());
        self
    }

    pub fn limit(mut self, seconds: u64) -> Self {
        self.limit = Duration::from_secs(seconds);
        self
    }

    /// Its name in the file of results and on the command line.
    pub fn key(&self) -> String {
        format!("{}{}", self.workload, self.parameters)
    }

    /// Everybody who is measured: the peers, then the floor.
    pub fn measured(&self) -> impl Iterator<Item = &'static Peer> + use<> {
        let floor = self.floor.filter(|floor| !self.peers.contains(floor));
        self.peers.clone().into_iter().chain(floor).map(peer_named)
    }

    pub fn rounds_of(&self, peer: &Peer) -> usize {
        if peer.slower > 1 { self.rounds_of_slow } else { self.rounds }
    }

    /// The words that `measure` gets.
    pub fn words(&self, peer: &Peer) -> Vec<String> {
        let mut parameters = self.parameters.clone();
        if peer.slower > 1 && self.parameters.get_or(COUNT, 0) > 0 {
            parameters = parameters.with(COUNT, self.parameters.count().div_ceil(peer.slower));
        }
        let mut words = vec!["measure".to_owned(), peer.name.to_owned(), self.workload.to_owned()];
        words.extend(parameters.words());
        words
    }
}

/// All cases, in the order of the report.
pub fn cases(size: Size) -> Vec<Case> {
    let rounds = size.pick(5, 2);
    let mut cases = vec![
        Case::new("switch", "generators", "resume/yield round trip", &[("count", size.pick(10_000_000, 2_000_000))])
            .peers(&["hebra", "generator", "go", "python", "greenlet"])
            .floor("corosensei"),
    ];
    for case in &mut cases {
        (case.rounds, case.rounds_of_slow) = (case.rounds.min(rounds), case.rounds_of_slow.min(rounds));
    }
    cases.extend(net::plan::cases(size));
    cases
}
