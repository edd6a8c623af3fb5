//! The switch itself: a generator's resume/yield round trip, its items through `Iterator`, and its
//! whole life.
//!
//! `cargo bench --bench switch -- [--quick]`. The floor is corosensei, on which the generator is
//! built, with the same values.
//!
//! A round trip is some fifty instructions, so where things lie decides as much as what they are:
//! one and the same loop takes 1.9 or 2.3 ns, depending on which low bits the stacks have in
//! common. Hence each round has its stacks elsewhere, ours and the floor's alike, and besides the
//! medians the best rounds are compared.

#[allow(dead_code, reason = "each bench uses its part of the shared code")]
mod support;

use std::hint::black_box;

use hebra::Generator;
use support::stats::{Samples, figure, interleave, ns_each, report};
use support::{Options, floor, machine};

fn main() {
    let options = Options::from_args();
    machine::pin(machine::SERVER_CPU);
    let bench = Bench {
        rounds: options.pick(48, 8),
    };
    let switches = options.pick(6_000_000, 1_000_000);
    let lives = options.pick(1_000_000, 100_000);

    let what = "resume/yield round trip, u64 out";
    bench.compare(
        what,
        || round_trip(switches),
        || floor::round_trip(switches),
        floor::ROUND_TRIP,
    );
    let what = "resume/yield round trip, u64 in and out";
    bench.compare(
        what,
        || exchange(switches),
        || floor::exchange(switches),
        floor::ROUND_TRIP,
    );
    let what = "item through Iterator";
    bench.compare(
        what,
        || iterate(switches),
        || floor::iterate(switches),
        "raw corosensei in iter::from_fn",
    );
    let what = "create, run and drop";
    bench.compare(
        what,
        || create_run_drop(lives),
        || floor::create_run_drop(lives),
        floor::CREATE,
    );
}

struct Bench {
    rounds: usize,
}

impl Bench {
    fn compare(
        &self,
        what: &str,
        ours: impl Fn() -> f64,
        floor: impl Fn() -> f64,
        floor_name: &str,
    ) {
        let (mut our_round, mut floor_round) = (0, 0);
        let pair = interleave(
            self.rounds,
            || elsewhere(&mut our_round, &ours),
            || elsewhere(&mut floor_round, &floor),
        );
        report(what, "ns", &pair, floor_name);
        let best = |samples: &Samples| samples.quantile(0.0);
        let (ours, floor) = (best(&pair.0), best(&pair.1));
        println!(
            "  best rounds: {} ns against {} ns   ratio {}",
            figure(ours),
            figure(floor),
            figure(ours / floor)
        );
    }
}

/// Runs `work` with the caller's stack, and the stacks that are free, in places that depend on the
/// round.
fn elsewhere(round: &mut usize, work: &impl Fn() -> f64) -> f64 {
    let (deeper, taken) = (*round * 7 % 16, *round % 5);
    *round += 1;
    let mut generators: Vec<Generator<(), u64, ()>> = (0..taken).map(|_| counter()).collect();
    for generator in &mut generators {
        black_box(generator.resume(()));
    }
    let _coroutines = floor::suspended(taken);
    deep(deeper, work)
}

/// Runs `work` that many steps of some 300 bytes further down on the stack.
#[inline(never)]
fn deep(steps: usize, work: &impl Fn() -> f64) -> f64 {
    let frame = black_box([steps; 32]);
    let result = if steps == 0 {
        work()
    } else {
        deep(steps - 1, work)
    };
    black_box(&frame);
    result
}

fn round_trip(count: u64) -> f64 {
    let mut numbers = counter();
    ns_each(count, || {
        for _ in 0..count {
            black_box(numbers.resume(()));
        }
    })
}

fn exchange(count: u64) -> f64 {
    let mut doubler = Generator::<u64, u64, ()>::new(|y, mut value| {
        loop {
            value = y.yield_(value.wrapping_mul(2));
        }
    });
    ns_each(count, || {
        for i in 0..count {
            black_box(doubler.resume(i));
        }
    })
}

fn iterate(count: u64) -> f64 {
    let numbers = counter().into_iter();
    ns_each(count, || {
        black_box(numbers.take(count as usize).fold(0, u64::wrapping_add));
    })
}

fn counter() -> Generator<(), u64, ()> {
    Generator::new(|y, ()| {
        let mut next = 0_u64;
        loop {
            y.yield_(next);
            next = next.wrapping_add(1);
        }
    })
}

fn create_run_drop(count: u64) -> f64 {
    ns_each(count, || {
        for i in 0..count {
            black_box(Generator::<(), (), u64>::new(move |_, ()| i).resume(()));
        }
    })
}
