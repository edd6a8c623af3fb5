//! Timers: how late a sleep ends on an idle and on a busy worker, and what a crowd of sleepers
//! costs.
//!
//! `cargo bench --bench timer -- [--quick]`. The floor of a sleep is the OS thread's own; that of
//! the crowd is one page touched and one deadline pushed and popped per sleeper; that of the mix is
//! the same mix on OS threads of one CPU.

#[allow(dead_code, reason = "each bench uses its part of the shared code")]
mod support;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

use support::stats::{Samples, duration, figure, interleave, report, thousands};
use support::{Options, floor, machine, mix, process};

fn main() -> io::Result<()> {
    let options = Options::from_args();
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    match options.role.as_deref() {
        Some("lateness") => lateness(&options),
        Some("crowd") => crowd(options.numbers(&[])[0], &options),
        Some("mix") => return mix::compare(&options),
        Some(role) => panic!("timer has no role {role}"),
        None => {
            process::run_in_role("lateness", &[], &options)?;
            for crowd in options.pick(&["100000", "1000000"][..], &["100000"]) {
                process::run_in_role("crowd", &words(&[crowd]), &options)?;
            }
            process::run_in_role("mix", &[], &options)?;
        }
    }
    Ok(())
}

/// Sleeps on a runtime that has nothing else to do, in turn with sleeps of an OS thread.
fn lateness(options: &Options) {
    machine::pin(machine::SERVER_CPU);
    let blocks = options.pick(20, 5);
    for sleep in [Duration::from_micros(100), Duration::from_millis(1)] {
        let (green, os) = support::runtime(1).run(move || {
            let (mut green, mut os) = (Samples::default(), Samples::default());
            for _ in 0..blocks {
                green.extend((0..100).map(|_| late(sleep, hebra::thread::sleep)));
                os.extend((0..100).map(|_| late(sleep, std::thread::sleep)));
            }
            (green, os)
        });
        let figures = |q| (green.quantile(q), os.quantile(q));
        for (name, (green, os)) in [("median", figures(0.5)), ("p99", figures(0.99))] {
            let (ours, floor, ratio) = (figure(green), figure(os), figure(green / os));
            let sleep = duration(sleep);
            println!(
                "lateness of a sleep of {sleep}, idle, {name}: {ours} µs   std::thread::sleep {floor} µs   ratio {ratio}"
            );
        }
    }
}

/// µs by which `sleep` overshoots.
fn late(time: Duration, sleep: impl Fn(Duration)) -> f64 {
    let start = Instant::now();
    sleep(time);
    (start.elapsed() - time).as_nanos() as f64 / 1e3
}

/// CPU time of `count` green threads that each sleep up to a second; the first round also takes
/// their stacks.
fn crowd(count: usize, options: &Options) {
    machine::pin(machine::SERVER_CPU);
    let rounds = options.pick(3, 2);
    let (first, pair) = support::runtime(1).run(move || {
        floor::touch_pages(count);
        let first = cpu_seconds(|| sleep_all(count));
        let ours = || cpu_seconds(|| sleep_all(count));
        let floor = || cpu_seconds(|| touch_and_sort(count));
        (first, interleave(rounds, ours, floor))
    });
    let what = format!("{} sleepers of up to 1 s, CPU", thousands(count));
    println!("{what}, first round: {} s", figure(first));
    report(&what, "s", &pair, "a page and a heap entry each");
}

fn cpu_seconds(work: impl FnOnce()) -> f64 {
    let before = machine::cpu_time();
    work();
    (machine::cpu_time() - before).as_secs_f64()
}

fn sleep_all(count: usize) {
    let spawn = |time| hebra::thread::spawn(move || hebra::thread::sleep(time));
    let sleepers = times(count).map(spawn).collect::<Vec<_>>();
    for sleeper in sleepers {
        sleeper.join().expect("sleeping does not panic");
    }
}

fn touch_and_sort(count: usize) {
    floor::touch_pages(count);
    let mut deadlines = times(count).map(Reverse).collect::<BinaryHeap<_>>();
    while let Some(deadline) = deadlines.pop() {
        black_box(deadline);
    }
}

/// `count` times below a second, the same in each round: Lehmer's generator with the multiplier of
/// MINSTD.
fn times(count: usize) -> impl Iterator<Item = Duration> {
    let mut state = 1_u64;
    (0..count).map(move |_| {
        state = state * 48_271 % 0x7fff_ffff;
        Duration::from_nanos(state % 1_000_000_000)
    })
}
