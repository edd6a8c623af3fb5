//! What is measured, as data: the peers, and for each case its work, its peers and its floor.

use std::fmt;
use std::time::Duration;

use crate::net;
use crate::parameters::{COUNT, Parameters, WORKERS};

/// Where a peer comes from, which is where its version is found.
#[derive(Clone, Copy, PartialEq)]
pub enum Origin {
    /// This program, with this crate; `None` is the standard library.
    Rust(Option<&'static str>),
    Go,
    /// Python, with this module if it is not Python itself.
    Python(Option<&'static str>),
}

/// What has a version.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Rust(package) => package.unwrap_or("std"),
            Origin::Go => "Go",
            Origin::Python(module) => module.unwrap_or("Python"),
        })
    }
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

/// What peers use that have a choice, as notes below the tables.
pub const NOTES: &[&str] = &[
    "hebra and its floor have stacks of 256 KiB, its default; may and generator of 32 KiB, theirs",
    "corosensei's floor is raw coroutines and a run queue on one OS thread, without other threads, cancellation or safety; that of \
     the lock is an uncontended one of std's, that of sleepers a page and a heap entry each",
    "may's channels have no bound, it has no others",
    "tokio sends through its own `mpsc`, 4 to 4 through async-channel; smol through `smol::channel`, run by one `Executor`",
    "with two workers hebra used hardly more than one CPU in spawn, ping-pong, 4 to 4 and lock, by its CPU time: its threads stay where \
     they start (with a worker for each side, 4 to 4 takes some 80 ns a message: `cargo bench --bench channel`)",
    "hebra has no timers by themselves: what moves a deadline is a green thread that is woken, and waits anew, with two switches; the others \
     have their own kind of timer moved (`Sleep::reset`, `Timer::set_after`, `Timer.Reset`, cancel and `call_later`, libev's `again`)",
    "two workers of a server and the load share the two CPUs, and none is pinned",
    "OS threads use crossbeam-channel and std's `Mutex`",
    "Go's generators are `iter.Pull`, its joins a channel each, its time-outs a `Timer` that is set again",
];

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
    /// Besides those of [`Peer::slower`].
    slow: Vec<(&'static str, u64)>,
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
            slow: Vec::new(),
            rounds: 3,
            rounds_of_slow: 1,
            limit: Duration::from_secs(12),
        }
    }

    pub fn peers(mut self, peers: &[&'static str]) -> Self {
        self.peers = peers.to_vec();
        self
    }

    pub fn without(mut self, peer: &str) -> Self {
        self.peers.retain(|name| *name != peer);
        self
    }

    /// Lets `peer` do so many times fewer repetitions.
    pub fn slow(mut self, peer: &'static str, times: u64) -> Self {
        self.slow.push((peer, times));
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

    /// Whether `other` is the same with more threads.
    pub fn is_less_than(&self, other: &Case) -> bool {
        const THREADS: &str = "threads";
        let (own, more) = (self.parameters.get_or(THREADS, 0), other.parameters.get_or(THREADS, 0));
        let alike = |case: &Case| case.parameters.clone().with(THREADS, 0).to_string();
        self.workload == other.workload && own < more && alike(self) == alike(other)
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
        let slower = self.slow.iter().find(|(name, _)| *name == peer.name).map_or(peer.slower, |(_, times)| *times);
        if self.parameters.get_or(COUNT, 0) > 0 {
            parameters = parameters.with(COUNT, self.parameters.count().div_ceil(slower));
        }
        let mut words = vec!["measure".to_owned(), peer.name.to_owned(), self.workload.to_owned()];
        words.extend(parameters.words());
        words
    }
}

/// All cases, in the order of the report.
pub fn cases(size: Size) -> Vec<Case> {
    let mut cases = micro_cases(size);
    cases.extend(net::plan::cases(size));
    if size == Size::Quick {
        for case in &mut cases {
            (case.rounds, case.rounds_of_slow) = (case.rounds.min(2), case.rounds_of_slow.min(1));
            case.limit = case.limit.min(Duration::from_secs(6));
        }
    }
    cases
}

const GENERATORS: &[&str] = &["hebra", "generator", "go", "python", "greenlet"];
const ALL: &[&str] = &["hebra", "may", "tokio", "tokio-multi", "smol", "std", "go", "asyncio", "gevent"];
/// Those that can use two CPUs.
pub const PARALLEL: &[&str] = &["hebra", "may", "tokio-multi", "smol", "std", "go"];
const LIGHT: &[&str] = &["hebra", "may", "tokio", "tokio-multi", "smol", "go", "asyncio", "gevent"];

/// What `timers` measures besides.
pub const RESET: &str = "reset_ns";

const LATENESS: [Figure; 2] = [figure("late_p50_ms", "ms", "late, median"), figure("late_p99_ms", "ms", "late, p99")];
const WEIGHT: [Figure; 4] = [
    figure("resident", "bytes", "resident"),
    figure("page_tables", "bytes", "page tables"),
    figure("heap", "bytes", "heap"),
    figure("start_ns", "ns", "start"),
];

/// How titles end of what two workers do.
pub const TWO_WORKERS: &str = ", two workers";

fn micro_cases(size: Size) -> Vec<Case> {
    let count = |full: u64| ("count", size.pick(full, full / 5));
    let mut cases = vec![
        Case::new("switch", "generators", "generator: resume/yield round trip", &[count(10_000_000)]).peers(GENERATORS),
        Case::new("create", "generators", "generator: create, run and drop", &[count(2_000_000)]).peers(GENERATORS),
        Case::new("create-fresh", "generators", "generator: create on a stack never used", &[("threads", 20_000)])
            .peers(GENERATORS),
        Case::new("cold", "generators", "100,000 generators resumed in turn", &[("threads", 100_000)])
            .peers(GENERATORS)
            .limit(10),
    ];
    for (workers, peers) in [(1, ALL), (2, PARALLEL)] {
        let on = if workers == 1 { "" } else { TWO_WORKERS };
        let workers = ("workers", workers);
        let title = |text: &str| format!("{text}{on}");
        cases.push(
            Case::new("spawn", "spawn", title("spawn 100,000, then join"), &[("threads", 100_000), ("wave", 100_000), workers])
                .peers(peers),
        );
        cases.push(
            Case::new(
                "spawn",
                "spawn",
                title("spawn and join, waves of 1,000"),
                &[("threads", 100_000), ("wave", 1_000), workers],
            )
            .peers(peers),
        );
    }
    for (threads, text) in [(2, "2"), (1_000, "1,000"), (100_000, "100,000")] {
        cases.push(
            Case::new(
                "yield",
                "yield",
                format!("yield among {text}"),
                &[("threads", threads), count(5_000_000), ("workers", 1)],
            )
            .peers(if threads > 10_000 { LIGHT } else { ALL }),
        );
    }
    for (workers, peers) in [(1, ALL), (2, PARALLEL)] {
        let on = if workers == 1 { "" } else { TWO_WORKERS };
        let workers = ("workers", workers);
        let title = |text: &str| format!("{text}{on}");
        cases.push(
            Case::new("ping-pong", "channels", title("channel ping-pong, a round trip"), &[count(1_000_000), workers])
                .peers(peers)
                .slow("std", 5),
        );
        cases.push(
            Case::new("mpmc", "channels", title("channel, 4 to 4, a message"), &[count(4_000_000), workers]).peers(peers),
        );
        cases.push(
            Case::new("mutex", "channels", title("lock among 100"), &[("threads", 100), count(1_000_000), workers])
                .peers(peers),
        );
    }
    for case in &mut cases {
        // What one OS thread can do is no measure for two.
        case.floor = (case.parameters.get_or(WORKERS, 1) == 1).then_some("corosensei");
    }
    cases.extend(crowds(size));
    cases
}

/// The workloads that take seconds each, and gigabytes.
fn crowds(size: Size) -> Vec<Case> {
    let crowds: &[(u64, &str)] =
        size.pick(&[(30_000, "30,000"), (100_000, "100,000"), (1_000_000, "1,000,000")], &[(30_000, "30,000")]);
    let mut cases = Vec::new();
    for &(threads, text) in crowds {
        let peers = if threads > 30_000 { LIGHT } else { ALL };
        let case = Case::new(
            "sleepers",
            "sleepers",
            format!("{text} sleepers of up to 1 s, CPU of each"),
            &[("threads", threads), ("workers", 1)],
        );
        cases.push(case.peers(peers).figures(figure("cpu_us", "µs", ""), &LATENESS));
    }
    if size == Size::Full {
        let case = Case::new(
            "sleepers",
            "sleepers",
            "100,000 sleepers of up to 1 s, CPU of each, two workers",
            &[("threads", 100_000), ("workers", 2)],
        );
        cases.push(case.peers(PARALLEL).without("std").figures(figure("cpu_us", "µs", ""), &LATENESS));
    }
    let crowds: &[(u64, &str)] =
        size.pick(&[(10_000, "10,000"), (100_000, "100,000"), (1_000_000, "1,000,000")], &[(10_000, "10,000")]);
    for &(threads, text) in crowds {
        let peers = if threads > 10_000 { LIGHT } else { ALL };
        let case =
            Case::new("memory", "memory", format!("{text} asleep, memory of each"), &[("threads", threads), ("workers", 1)]);
        cases.push(case.peers(peers).figures(figure("bytes", "bytes", ""), &WEIGHT));
    }
    let (pending, text) = size.pick((1_000_000, "1,000,000"), (100_000, "100,000"));
    let title = format!("ping-pong with time-outs, {text} timers pending");
    let parameters = [("threads", pending), ("count", size.pick(500_000, 100_000)), ("workers", 1)];
    cases.push(Case::new("timers", "sleepers", title, &parameters).peers(LIGHT).without("may"));
    // A second figure of the same measurement.
    let title = format!("a deadline moved, {text} timers pending");
    let moved = Case::new("timers", "sleepers", title, &parameters).peers(LIGHT).without("may");
    cases.push(moved.figures(figure(RESET, "ns", ""), &[]));
    for case in &mut cases {
        case.floor = (case.parameters.get(WORKERS) == 1).then_some("corosensei");
        let large = case.parameters.get("threads") > 100_000;
        (case.rounds, case.rounds_of_slow) = if large { (2, 1) } else { (3, 1) };
        case.limit = Duration::from_secs(if large { 45 } else { 15 });
    }
    cases
}
