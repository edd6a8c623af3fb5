//! What a dump costs: the one who asks, and those who run meanwhile.
//!
//! `cargo bench --bench dump --features dump -- [--quick] [THREADS…]`, by default 100,000 and
//! 1,000,000. So many green threads sleep on two workers, each twenty calls deep. A ticker on one of
//! them sleeps for 200 µs at a time: how much later than before it wakes during a dump is the pause.

#[allow(dead_code, reason = "each bench uses its part of the shared code")]
mod support;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use hebra::sync::WaitGroup;
use hebra::{Config, Runtime, thread};

use support::Options;
use support::machine::Memory;
use support::stats::{duration, thousands};

#[inline(never)]
fn sleep_deep(depth: usize) {
    match depth {
        0 => thread::sleep(Duration::from_secs(3600)),
        _ => sleep_deep(depth - 1),
    }
    black_box(depth);
}

fn main() {
    let options = Options::from_args();
    let counts: &[usize] = options.pick(&[100_000, 1_000_000], &[10_000]);
    for count in options.numbers(counts) {
        measure(count);
    }
}

fn measure(count: usize) {
    let runtime = Runtime::new(Config::default().workers(2).stack_size(64 << 10)).unwrap();
    let handle = runtime.start().unwrap();
    let group = WaitGroup::new();
    let spawned = group.clone();
    handle
        .spawn(move || {
            for n in 0..count {
                let spawned = spawned.clone();
                thread::spawn(move || {
                    drop(spawned);
                    sleep_deep(n % 20);
                });
            }
        })
        .join()
        .unwrap();
    group.wait();

    let (stop, late) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let ticker = handle.spawn({
        let (stop, late) = (stop.clone(), late.clone());
        move || {
            while !stop.load(SeqCst) {
                let due = Instant::now() + Duration::from_micros(200);
                thread::sleep(Duration::from_micros(200));
                late.fetch_max(due.elapsed().as_nanos() as u64, SeqCst);
            }
        }
    });
    std::thread::sleep(Duration::from_millis(500));
    let pause_before = late.swap(0, SeqCst);
    let memory_before = Memory::now().unwrap().total();
    let dump = runtime.dump();
    let pause = late.load(SeqCst);
    let took = dump.took();
    let shown = dump.threads().len();
    let began = Instant::now();
    let text = dump.to_string();
    let grouped = began.elapsed();
    drop(dump);
    let memory = Memory::now().unwrap().total();
    println!(
        "{} threads: captured in {}, grouped and named in {} ({} lines); longest pause {} (before: {}); resident {} MiB before, {} after",
        thousands(shown as u64),
        duration(took),
        duration(grouped),
        text.lines().count(),
        duration(Duration::from_nanos(pause)),
        duration(Duration::from_nanos(pause_before)),
        memory_before >> 20,
        memory >> 20,
    );
    stop.store(true, SeqCst);
    ticker.join().unwrap();
    runtime.shutdown(Duration::from_secs(60)).unwrap();
}
