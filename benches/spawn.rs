//! Spawn and join of green threads that do nothing: 100,000 at once, in waves of 1,000, and on two
//! workers.
//!
//! `cargo bench --bench spawn -- [--quick]`. Each case has a process of its own, so that its first
//! round meets a cold heap and a stack pool that is empty.

#[allow(dead_code, reason = "each bench uses its part of the shared code")]
mod support;

use std::hint::black_box;
use std::io;

use support::stats::{figure, interleave, ns_each, report, thousands};
use support::{Options, floor, machine, process};

/// Workers, green threads in all, and how many are spawned before they are joined.
struct Case {
    workers: usize,
    count: u64,
    wave: u64,
}

impl Case {
    const fn new(workers: usize, count: u64, wave: u64) -> Self {
        Self {
            workers,
            count,
            wave,
        }
    }
}

const CASES: [Case; 4] = [
    Case::new(1, 100_000, 100_000),
    Case::new(1, 100_000, 1_000),
    Case::new(2, 100_000, 100_000),
    Case::new(2, 100_000, 1_000),
];

fn main() -> io::Result<()> {
    let options = Options::from_args();
    if options.role.is_some() {
        let case = options.numbers(&[])[0];
        measure(&CASES[case], &options);
        return Ok(());
    }
    (0..CASES.len())
        .try_for_each(|case| process::run_in_role("case", &[case.to_string()], &options))
}

fn measure(
    &Case {
        workers,
        count,
        wave,
    }: &Case,
    options: &Options,
) {
    if workers == 1 {
        machine::pin(machine::SERVER_CPU);
    }
    let rounds = options.pick(15, 3);
    let (first, pair) = support::runtime(workers).run(move || {
        let first = spawn_and_join(count, wave);
        let pair = interleave(
            rounds,
            || spawn_and_join(count, wave),
            || floor::spawn_boxed(count),
        );
        (first, pair)
    });
    let shape = if wave == count {
        format!("{} then join", thousands(count))
    } else {
        format!("waves of {}", thousands(wave))
    };
    let what = format!("spawn + join, {shape}, workers {workers}");
    println!("{what}, first round: {} ns", figure(first));
    report(&what, "ns", &pair, floor::SPAWN);
}

/// ns per green thread.
fn spawn_and_join(count: u64, wave: u64) -> f64 {
    let mut handles = Vec::with_capacity(wave as usize);
    ns_each(count, || {
        for start in (0..count).step_by(wave as usize) {
            handles.extend((start..start + wave).map(|i| hebra::thread::spawn(move || i)));
            for handle in handles.drain(..) {
                black_box(
                    handle
                        .join()
                        .expect("a green thread that returns a number does not panic"),
                );
            }
        }
    })
}
