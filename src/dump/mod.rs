//! Look inside: what every green thread of a process does, and waits for.
//!
//! [`threads`] asks all workers at once and returns a [`Dump`]: of each green thread its name, where
//! it was spawned, what it waits for and since when, which thread holds what it waits for, and with
//! the feature `dump` its stack. Nothing is stopped and nothing ends: a worker writes down its
//! threads between two of their turns, and goes on. A worker whose green thread computes, or blocks
//! the OS thread, is interrupted by a signal (`SIGURG`) for as long as that takes.
//!
//! ```
//! use hebra::thread;
//!
//! let text = hebra::run(|| {
//!     let sleeper = thread::Builder::new().name("sleeper".into());
//!     let sleeper = sleeper.spawn(|| thread::sleep(std::time::Duration::from_secs(3600))).unwrap();
//!     thread::yield_now();
//!     let text = hebra::dump::threads().to_string();
//!     sleeper.cancel();
//!     text
//! });
//! assert!(text.contains("'sleeper'"));
//! assert!(text.contains("parked, sleeping for "));
//! ```
//!
//! [`on_signal`] prints a dump on standard error whenever the process gets a signal, as Go and the
//! JVM do; the process then goes on.
//!
//! # What it costs
//!
//! Nothing until the first dump: no OS thread, no signal handler, no allocation. A dump takes a
//! worker one to three microseconds a green thread, 256 threads at a time with others running in
//! between.
//!
//! # What it cannot tell
//!
//! Owners of semaphores' permits, of a read lock, and of channels' other ends are not known.
//! Simulations are not part of a dump. A program that handles `SIGURG` itself has no dumps of
//! workers that are busy: [`Worker::answered`] says so.
//!
//! # With a debugger
//!
//! A debugger sees OS threads, and a parked green thread is none. The gdb commands in
//! [`GDB_SCRIPT`] list green threads with name, state, wait reason, age, owner and stack: of a
//! live process, and of a core file, also where the binary has been stripped.
//!
//! ```sh
//! gdb -p PID -x hebra.py -ex 'hebra threads' -ex 'hebra bt all'
//! ```
//!
//! A core that the kernel writes (SIGABRT, `ulimit -c unlimited`) has all green stacks. One that
//! gdb's `gcore` writes may lack them: up to gdb 17 it stops at a guard page that was made by
//! `MADV_GUARD_INSTALL`. Run the process with `HEBRA_STACK_GUARD=mprotect`, or let the kernel write
//! the core.

use std::collections::HashMap;
use std::io;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::runtime::{Handle, Runtime};
use crate::scheduler::worker::{self, AnsweredBy, CapturedState, Shared};

mod json;
mod signal;
mod symbols;
mod text;

pub use signal::on_signal;

/// The text of `gdb/hebra.py`: gdb commands for green threads.
///
/// Write it to a file and load it with gdb's `-x`, or with `source` at its prompt. It needs a gdb
/// with Python, and no debug information.
pub const GDB_SCRIPT: &str = include_str!("../../gdb/hebra.py");

/// How long a worker may take to answer before it is interrupted.
const PATIENCE: Duration = Duration::from_millis(10);

/// Captures all green threads of all runtimes of this process, but for simulations.
///
/// It may be called anywhere: on an OS thread, or on a green thread, whose worker it blocks
/// meanwhile. Dumps of one runtime are made one at a time.
pub fn threads() -> Dump {
    capture(worker::runtimes())
}

impl Handle {
    /// Captures the green threads of this runtime; see [`dump`](crate::dump). Empty where it does not
    /// run.
    pub fn dump(&self) -> Dump {
        capture(self.shared())
    }
}

impl Runtime {
    /// Captures the green threads of this runtime; see [`dump`](crate::dump). Empty where it does not
    /// run.
    pub fn dump(&self) -> Dump {
        self.handle().dump()
    }
}

fn capture(runtimes: impl IntoIterator<Item = Arc<Shared>>) -> Dump {
    let began = Instant::now();
    let mut dump = Dump {
        threads: Vec::new(),
        workers: Vec::new(),
        unstarted: Vec::new(),
        took: Duration::ZERO,
    };
    let mut unstarted = HashMap::new();
    for shared in runtimes {
        for answer in worker::capture_all(&shared, PATIENCE) {
            dump.add(answer, &mut unstarted);
        }
        for place in shared.unstarted_places() {
            *unstarted.entry(place).or_insert(0) += 1;
        }
    }
    dump.unstarted = unstarted.into_iter().collect();
    dump.unstarted
        .sort_by_key(|(place, count)| (usize::MAX - count, *place));
    dump.number();
    dump.took = began.elapsed();
    dump
}

/// What all green threads did at one moment; from [`threads`].
///
/// `Display` writes it with one paragraph for all threads that do the same at the same place,
/// longest wait first; [`full`](Dump::full) writes every thread.
#[derive(Debug, Clone)]
pub struct Dump {
    threads: Vec<Thread>,
    workers: Vec<Worker>,
    unstarted: Vec<(&'static Location<'static>, usize)>,
    took: Duration,
}

/// A started green thread, in a [`Dump`].
#[derive(Debug, Clone)]
pub struct Thread {
    number: usize,
    id: u64,
    name: Option<String>,
    location: &'static Location<'static>,
    worker: usize,
    state: State,
    reason: &'static str,
    since: Duration,
    owner: u64,
    waits_for: Option<usize>,
    is_cancelled: bool,
    cancelled_at: Option<&'static Location<'static>>,
    frames: Vec<u64>,
    is_cut: bool,
}

/// What a green thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// It waits for something.
    Parked,
    /// It can run, and waits for its turn on its worker.
    Ready,
    /// Its worker runs it.
    Running,
}

impl State {
    fn words(self) -> &'static str {
        match self {
            State::Parked => "parked",
            State::Ready => "ready",
            State::Running => "running",
        }
    }
}

/// An OS thread that runs green threads, in a [`Dump`].
#[derive(Debug, Clone)]
pub struct Worker {
    tid: u32,
    answered: Answered,
    threads: usize,
    ready: usize,
    left_out: usize,
}

/// How a worker has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answered {
    /// By itself, between two turns of its green threads.
    Loop,
    /// From a signal handler, as a green thread kept it busy.
    SignalHandler,
    /// Not at all: it is in a system call that a signal does not end, or the program handles
    /// `SIGURG` itself.
    No,
}

impl Dump {
    fn add(
        &mut self,
        answer: worker::CaptureAnswer,
        unstarted: &mut HashMap<&'static Location<'static>, usize>,
    ) {
        let capture = &answer.capture;
        let worker = self.workers.len();
        for place in &capture.unstarted {
            *unstarted.entry(place).or_insert(0) += 1;
        }
        if answer.tid == 0 {
            return;
        }
        let mut ready = 0;
        for one in &capture.threads {
            let state = match one.state {
                CapturedState::Parked => State::Parked,
                CapturedState::Ready => State::Ready,
                CapturedState::Running => State::Running,
            };
            ready += usize::from(state == State::Ready);
            self.threads.push(Thread {
                number: 0,
                id: one.id,
                name: one.name(),
                location: one.location,
                worker,
                state,
                reason: one.reason.words(),
                since: Duration::from_nanos(capture.at.saturating_sub(one.since)),
                owner: one.owner,
                waits_for: None,
                is_cancelled: one.is_cancelled,
                cancelled_at: one.cancelled_at,
                frames: capture.frames(one).to_vec(),
                is_cut: one.is_cut,
            });
        }
        self.workers.push(Worker {
            tid: answer.tid,
            answered: match answer.by {
                AnsweredBy::Loop => Answered::Loop,
                AnsweredBy::SignalHandler => Answered::SignalHandler,
                AnsweredBy::Nobody => Answered::No,
            },
            threads: capture.threads.len(),
            ready,
            left_out: capture.left_out,
        });
    }

    /// Longest wait first, numbered in that order; finds the owners among them.
    fn number(&mut self) {
        self.threads
            .sort_by_key(|one| (one.state != State::Parked, std::cmp::Reverse(one.since)));
        let mut by_id = HashMap::new();
        for (at, one) in self.threads.iter_mut().enumerate() {
            one.number = at + 1;
            if one.id != 0 {
                by_id.insert(one.id, at);
            }
        }
        for one in &mut self.threads {
            one.waits_for = by_id.get(&one.owner).copied().filter(|_| one.owner != 0);
        }
    }

    /// Returns the green threads that have started: those that wait, longest first, then the
    /// others.
    pub fn threads(&self) -> &[Thread] {
        &self.threads
    }

    /// Returns the workers.
    pub fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// Returns how many green threads have not started, by where they were spawned; most first.
    pub fn unstarted(&self) -> &[(&'static Location<'static>, usize)] {
        &self.unstarted
    }

    /// Returns the circles of threads that wait for one another. Each is a deadlock.
    pub fn cycles(&self) -> Vec<Vec<&Thread>> {
        let next = |one: &Thread| one.waits_for.map(|at| &self.threads[at]);
        // A thread waits for one other at most. Each walk marks what it passes, so all of them
        // together pass everybody once; a walk that meets its own mark has found a circle.
        let mut marks = vec![0; self.threads.len()];
        let mut cycles = Vec::new();
        for (walk, first) in self.threads.iter().enumerate() {
            let mut at = Some(first);
            while let Some(one) = at.filter(|one| marks[one.number - 1] == 0) {
                marks[one.number - 1] = walk + 1;
                at = next(one);
            }
            let Some(start) = at.filter(|one| marks[one.number - 1] == walk + 1) else {
                continue;
            };
            let mut cycle = vec![start];
            let mut at = next(start);
            while let Some(one) = at.filter(|one| one.number != start.number) {
                cycle.push(one);
                at = next(one);
            }
            cycles.push(cycle);
        }
        cycles
    }

    /// Returns how long it took to capture.
    pub fn took(&self) -> Duration {
        self.took
    }

    /// Returns the text with a paragraph for each thread and all frames.
    pub fn full(&self) -> impl std::fmt::Display + '_ {
        text::Full(self)
    }

    /// Writes the dump as JSON, one object a line: a head, then one for each thread.
    ///
    /// # Errors
    /// As the writer's.
    pub fn write_json(&self, to: impl io::Write) -> io::Result<()> {
        json::write(self, to)
    }
}

impl Thread {
    /// Returns its number in this dump, from 1 on.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Returns its name, or the first forty bytes of that.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns where it was spawned.
    pub fn location(&self) -> &'static Location<'static> {
        self.location
    }

    /// Returns the number of its worker in [`Dump::workers`].
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// Returns what it did.
    pub fn state(&self) -> State {
        self.state
    }

    /// Returns what a parked thread waits for, in words: `"sleeping"`.
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// Returns for how long a parked thread has waited.
    pub fn since(&self) -> Duration {
        self.since
    }

    /// Returns the place in [`Dump::threads`] of the thread that it waits for, where that is known
    /// and a green thread.
    pub fn waits_for(&self) -> Option<usize> {
        self.waits_for
    }

    /// Returns whether it has been cancelled as a whole.
    pub fn is_cancelled(&self) -> bool {
        self.is_cancelled
    }

    /// Returns where it was cancelled, if not by the end of its runtime.
    pub fn cancelled_at(&self) -> Option<&'static Location<'static>> {
        self.cancelled_at
    }

    /// Returns addresses inside of the calls on its stack, innermost first. Empty without the
    /// feature `dump`, and on processors other than x86-64.
    pub fn frames(&self) -> &[u64] {
        &self.frames
    }

    /// Returns whether the stack goes on behind the last of its frames.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    fn title(&self) -> String {
        let name = self.name.as_deref().unwrap_or("<unnamed>");
        format!("#{} '{name}'", self.number)
    }
}

impl Worker {
    /// Returns the kernel's number of the OS thread.
    pub fn tid(&self) -> u32 {
        self.tid
    }

    /// Returns how it has answered.
    pub fn answered(&self) -> Answered {
        self.answered
    }

    /// Returns how many threads are missing in the dump, as there was no room for them.
    pub fn left_out(&self) -> usize {
        self.left_out
    }
}
