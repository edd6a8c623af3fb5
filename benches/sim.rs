//! Simulation: how long an hour of virtual time takes in which green threads wake each second, and
//! what a run costs that does nothing.
//!
//! `cargo bench --bench sim -- [--quick] [THREADS…]`, by default 10, 100 and 1,000. The floor of
//! the hour is a resume of a raw coroutine and a deadline pushed and popped for each wake; that of
//! a run is the same on a runtime that simulates nothing.

#[allow(dead_code, reason = "each bench uses its part of the shared code")]
mod support;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use hebra::{sim, thread};
use support::stats::{interleave, ns_each, report, thousands};
use support::{Options, floor, machine};

const HOUR: u64 = 3600;

fn main() {
    let options = Options::from_args();
    machine::pin(machine::SERVER_CPU);
    let rounds = options.pick(7, 3);
    for threads in options.numbers(&[10, 100, 1_000]) {
        let pair = interleave(rounds, || ms(|| hour(threads)), || ms(|| least(threads)));
        report(
            &format!(
                "an hour of {} threads that wake each second",
                thousands(threads)
            ),
            "ms",
            &pair,
            "coroutines and a heap",
        );
    }
    let runs = options.pick(1_000, 100);
    let simulated = || ns_each(runs, || sim::check(0..runs, work)) / 1e3;
    let real = || {
        ns_each(runs, || {
            (0..runs).for_each(|_| support::runtime(1).run(work))
        }) / 1e3
    };
    report(
        "a run that spawns and joins a thread",
        "µs",
        &interleave(rounds, simulated, real),
        "a runtime of its own",
    );
}

fn work() {
    thread::spawn(|| ()).join().expect("it does nothing");
}

fn ms(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64() * 1e3
}

/// Every thread wakes at a time of its own.
fn hour(threads: usize) {
    sim::run(0, || {
        let sleepers: Vec<_> = (0..threads)
            .map(|at| {
                thread::spawn(move || {
                    thread::sleep(Duration::from_secs(1) * at as u32 / threads as u32);
                    (0..HOUR).for_each(|_| thread::sleep(Duration::from_secs(1)));
                })
            })
            .collect();
        sleepers
            .into_iter()
            .for_each(|sleeper| sleeper.join().expect("sleeping does not panic"));
    });
}

fn least(threads: usize) {
    let mut deadlines: BinaryHeap<_> = (0..threads).map(Reverse).collect();
    for _ in 0..threads as u64 * HOUR {
        let Reverse(deadline) = deadlines.pop().expect("everybody sleeps");
        deadlines.push(Reverse(black_box(deadline + threads)));
    }
    black_box(floor::round_trip(threads as u64 * HOUR));
}
