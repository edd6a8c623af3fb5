//! The workloads that need no network: a file per peer, the same work in each.
//!
//! | workload | what is timed |
//! |---|---|
//! | `switch` | one generator that counts is resumed, over and over |
//! | `create` | a generator is made, run to its end and dropped, over and over |
//! | `create-fresh` | `threads` generators are made and run to their first yield, none is dropped: each needs a stack that nobody had |
//! | `cold` | `threads` suspended generators are resumed in turn: by the time of the next turn none of them is in a cache |
//! | `spawn` | `threads` that return a number are spawned and joined, `wave` at a time |
//! | `yield` | `threads` that do nothing but yield |
//! | `ping-pong` | a number goes to another thread and back, over two channels of capacity 1 |
//! | `mpmc` | four threads send to four that receive, over one channel of capacity 128 |
//! | `mutex` | `threads` add one to a number under a lock |
//! | `sleepers` | `threads` sleep up to a second each: CPU time of each, from the first spawn to the last join, and by how much they oversleep |
//! | `memory` | `threads` that are asleep: what the process has grown by |
//! | `timers` | `ping-pong` with a time-out of 10 s at each receive, while `threads` others are asleep; and a deadline that is moved, over and over |
//!
//! Each does its work, or a tenth of it, once before it is measured, unless it is the first time that counts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::foreign;
use crate::parameters::Parameters;
use crate::plan::RESET;
use crate::results::Metrics;
use crate::support::machine::{self, Memory};
use crate::support::stats::Samples;

mod corosensei;
mod generator;
mod hebra;
mod may;
#[allow(unsafe_code)]
mod slab;
mod smol;
mod std_threads;
mod tokio;

/// `None` from a peer that does not know the workload.
type Measured = Option<Metrics>;

/// Pins the process, if it shall have one worker, and measures.
///
/// # Errors
/// Who does not know the workload.
pub fn measure(peer: &str, workload: &str, parameters: &Parameters) -> Result<Metrics, String> {
    if parameters.workers() == 1 {
        machine::pin(machine::SERVER_CPU);
    }
    let foreign = || [vec![peer.to_owned(), workload.to_owned()], parameters.words()].concat();
    let measured = match peer {
        "hebra" => hebra::measure(workload, parameters),
        "corosensei" => corosensei::measure(workload, parameters),
        "generator" => generator::measure(workload, parameters),
        "may" => may::measure(workload, parameters),
        "tokio" => tokio::measure(tokio::Flavor::CurrentThread, workload, parameters),
        "tokio-multi" => tokio::measure(tokio::Flavor::MultiThread, workload, parameters),
        "smol" => smol::measure(workload, parameters),
        "std" => std_threads::measure(workload, parameters),
        "go" => return Err(foreign::become_go("measure", &foreign())),
        "python" | "asyncio" | "greenlet" | "gevent" => return Err(foreign::become_python("micro.py", &foreign())),
        _ => None,
    };
    measured.ok_or_else(|| format!("{peer} does not do {workload}"))
}

/// Does a tenth of `count` without a look at the clock, then `count`.
fn warm(count: u64, work: impl Fn(u64) -> f64) -> Metrics {
    work(count / 10 + 1);
    Metrics::ns(work(count))
}

/// Does everything twice, the first time unmeasured.
fn twice(work: impl Fn() -> f64) -> Metrics {
    work();
    Metrics::ns(work())
}

/// As `warm`, for the two kinds of work of the workload `timers`.
fn timers(count: u64, ping_pong: impl Fn(u64) -> f64, reset: impl Fn(u64) -> f64) -> Metrics {
    let each = |work: &dyn Fn(u64) -> f64| {
        work(count / 10 + 1);
        work(count)
    };
    both(each(&ping_pong), each(&reset))
}

fn both(ping_pong: f64, reset: f64) -> Metrics {
    Metrics::new(&[("ns", ping_pong), (RESET, reset)])
}

/// How many turns in a row make one figure of `cold`.
const COLD_TURNS: usize = 5;

/// Messages are numbers; this many go through a channel of the workload `mpmc` on each side.
const SIDES: u64 = 4;
const MPMC_CAPACITY: usize = 128;

/// The time-out of the workload `timers`; it never comes.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Sleepers that are only there to be asleep.
const LONG: Duration = Duration::from_secs(3600);

/// All yields of the process. One worker, so load and store need not be one operation.
static YIELDS: AtomicU64 = AtomicU64::new(0);
static STOP: AtomicBool = AtomicBool::new(false);
/// Those that have got as far as their sleep.
static PARKED: AtomicU64 = AtomicU64::new(0);

/// Counts one yield; the caller yields after it.
#[inline(always)]
fn count_yield() {
    YIELDS.store(YIELDS.load(Relaxed) + 1, Relaxed);
}

fn yields_go_on() -> bool {
    !STOP.load(Relaxed)
}

/// What the one thread that keeps the time does between its own yields: first `warm` of all, then `count` that are timed.
struct Window {
    count: u64,
    /// Yields at which the next part begins.
    next: u64,
    turns: u32,
    start: Option<(Instant, u64)>,
}

impl Window {
    fn new(threads: u64, count: u64) -> Self {
        Self { count, next: 3 * threads, turns: 0, start: None }
    }

    /// Called before each yield of the timing thread; ns per yield when it is over.
    fn turn(&mut self) -> Option<f64> {
        let yields = YIELDS.load(Relaxed);
        self.turns += 1;
        if self.turns > 5 && yields >= self.next {
            if let Some((start, before)) = self.start {
                let ns = start.elapsed().as_nanos() as f64 / (yields - before) as f64;
                STOP.store(true, Relaxed);
                return Some(ns);
            }
            self.start = Some((Instant::now(), yields));
            (self.next, self.turns) = (yields + self.count, 0);
        }
        count_yield();
        None
    }
}

/// `count` times below a second, the same in each process: Lehmer's generator with the multiplier of MINSTD.
fn times(count: u64) -> impl Iterator<Item = Duration> {
    let mut state = 1_u64;
    (0..count).map(move |_| {
        state = state * 48_271 % 0x7fff_ffff;
        Duration::from_nanos(state % 1_000_000_000)
    })
}

/// ns since `start` for each of `count`; what `stats::ns_each` is to work that is not async.
fn ns_since(start: Instant, count: u64) -> f64 {
    start.elapsed().as_nanos() as f64 / count as f64
}

/// By how many ns a sleep that began at `start` was late.
fn late(start: Instant, sleep: Duration) -> u64 {
    start.elapsed().saturating_sub(sleep).as_nanos() as u64
}

/// The CPU time of a crowd that sleeps, from before its first spawn.
struct Sleepers {
    before: Duration,
}

impl Sleepers {
    fn new() -> Self {
        Self { before: machine::cpu_time() }
    }

    /// Called when all have been joined, with the ns that each was late.
    fn joined(&self, lateness: Vec<u64>) -> Metrics {
        let cpu = machine::cpu_time() - self.before;
        let cpu_us = cpu.as_secs_f64() * 1e6 / lateness.len() as f64;
        let lateness: Samples = lateness.into_iter().map(|ns| ns as f64 / 1e6).collect();
        Metrics::new(&[("cpu_us", cpu_us), ("late_p50_ms", lateness.quantile(0.5)), ("late_p99_ms", lateness.quantile(0.99))])
    }
}

/// What a crowd holds that is wholly asleep, each.
struct Crowd {
    threads: u64,
    before: Memory,
    start: Instant,
}

impl Crowd {
    fn new(threads: u64) -> Self {
        Self { threads, before: memory(), start: Instant::now() }
    }

    /// Whether all have counted themselves; the last may have to be given a moment to park.
    fn is_there(&self) -> bool {
        PARKED.load(Relaxed) == self.threads
    }

    /// What one has cost, in bytes; called when all are asleep.
    fn weigh(&self) -> Metrics {
        let started = self.start.elapsed();
        let held = memory().since(&self.before);
        let each = |bytes: u64| bytes as f64 / self.threads as f64;
        Metrics::new(&[
            ("bytes", each(held.total())),
            ("resident", each(held.resident)),
            ("page_tables", each(held.page_tables)),
            ("heap", each(held.heap)),
            ("start_ns", started.as_nanos() as f64 / self.threads as f64),
        ])
    }
}

fn memory() -> Memory {
    Memory::now().expect("Linux tells a process about itself")
}
