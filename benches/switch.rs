//! The switch itself: a generator's resume/yield round trip, its items through `Iterator`, and its whole life.
//!
//! `cargo bench --bench switch -- [--quick]`. The floor is corosensei, on which the generator is built.

#[allow(dead_code, reason = "each bench uses its part of the shared code")]
mod support;

use std::hint::black_box;

use hebra::Generator;
use support::stats::{interleave, ns_each, report};
use support::{Options, floor, machine};

fn main() {
    let options = Options::from_args();
    machine::pin(machine::SERVER_CPU);
    let rounds = options.pick(15, 5);
    let switches = options.pick(20_000_000, 2_000_000);
    let lives = options.pick(2_000_000, 200_000);

    let pair = interleave(rounds, || round_trip(switches), || floor::round_trip(switches));
    report("resume/yield round trip, u64 out", "ns", &pair, floor::ROUND_TRIP);

    let pair = interleave(rounds, || exchange(switches), || floor::exchange(switches));
    report("resume/yield round trip, u64 in and out", "ns", &pair, floor::ROUND_TRIP);

    let pair = interleave(rounds, || iterate(switches), || floor::iterate(switches));
    report("item through Iterator", "ns", &pair, "raw corosensei in iter::from_fn");

    let pair = interleave(rounds, || create_run_drop(lives), || floor::create_run_drop(lives));
    report("create, run and drop", "ns", &pair, floor::CREATE);
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
