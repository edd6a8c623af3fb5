//! `yield_now` among many green threads on one worker: what a switch costs when it goes through the
//! scheduler.
//!
//! `cargo bench --bench yield -- [--quick] [THREADS…]`, by default 2, 100, 1,000, 10,000 and
//! 100,000. From about ten thousand on, the stacks and records no longer fit into the caches and
//! the figure is one of cache misses. Each case has a process of its own.

#[allow(dead_code, reason = "each bench uses its part of the shared code")]
mod support;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use support::stats::{interleave, report, thousands};
use support::{Options, floor, machine, process};

/// Counts all yields. One worker, so load and store need not be one operation.
static YIELDS: AtomicU64 = AtomicU64::new(0);
static STOP: AtomicBool = AtomicBool::new(false);

fn main() -> io::Result<()> {
    let options = Options::from_args();
    let counts =
        options.numbers(options.pick(&[2, 100, 1_000, 10_000, 100_000], &[2, 100, 1_000, 10_000]));
    if options.role.is_some() {
        counts
            .into_iter()
            .for_each(|count| measure(count, &options));
        return Ok(());
    }
    counts
        .iter()
        .try_for_each(|count| process::run_in_role("case", &[count.to_string()], &options))
}

fn measure(threads: usize, options: &Options) {
    machine::pin(machine::SERVER_CPU);
    let rounds = options.pick(11, 3);
    let yields = options.pick(10_000_000, 1_000_000);
    let pair = support::runtime(1).run(move || {
        let others = (1..threads).map(|_| hebra::thread::spawn(yield_until_stopped));
        let others = others.collect::<Vec<_>>();
        // Until all have started, have their stacks, and have been round the run queue with warm
        // caches.
        for _ in 0..3 {
            window(threads as u64);
        }
        let pair = interleave(rounds, || window(yields), || floor::round_trip(yields));
        STOP.store(true, Relaxed);
        for other in others {
            other.join().expect("yielding does not panic");
        }
        pair
    });
    let what = format!("yield_now among {}", thousands(threads));
    report(&what, "ns", &pair, floor::ROUND_TRIP);
}

fn yield_until_stopped() {
    while !STOP.load(Relaxed) {
        yield_once();
    }
}

#[inline(always)]
fn yield_once() {
    YIELDS.store(YIELDS.load(Relaxed) + 1, Relaxed);
    hebra::thread::yield_now();
}

/// ns per yield over at least `yields` of all threads together, and five of this one.
fn window(yields: u64) -> f64 {
    let (start, before) = (Instant::now(), YIELDS.load(Relaxed));
    for turn in 0.. {
        if turn >= 5 && YIELDS.load(Relaxed) - before >= yields {
            break;
        }
        yield_once();
    }
    start.elapsed().as_nanos() as f64 / (YIELDS.load(Relaxed) - before) as f64
}
