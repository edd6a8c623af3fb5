//! The floors: corosensei alone, with a run queue where there must be one; without other threads, cancellation or safety.
//!
//! The floor of a deadline that is moved is a switch to whoever has it, and back. The floor of locks is a lock of std's that nobody else wants; that of sleepers, a page and an entry of a heap for each.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::hint::black_box;
use std::mem;
use std::sync::Mutex;

use super::{COLD_TURNS, Crowd, Measured, Metrics, machine, slab, timers, times, twice, warm};
use crate::parameters::Parameters;
use crate::support::stats::ns_each;
use crate::support::{floor, hand_over};

const SLAB: &str = "address space, and guards without mappings: Linux 6.13";

pub fn measure(workload: &str, parameters: &Parameters) -> Measured {
    let threads = parameters.get_or("threads", 0);
    Some(match workload {
        "switch" => warm(parameters.count(), floor::round_trip),
        "create" => warm(parameters.count(), floor::create_run_drop),
        "create-fresh" => Metrics::ns(create_fresh(threads)),
        "cold" => cold(threads),
        "spawn" => twice(|| floor::spawn_boxed(threads)),
        "yield" => yields(threads, parameters.count()),
        "ping-pong" => warm(parameters.count(), hand_over::ping_pong),
        "timers" => timers(parameters.count(), hand_over::ping_pong, floor::round_trip),
        "mpmc" => warm(parameters.count(), hand_over::many),
        "mutex" => warm(parameters.count(), uncontended),
        "sleepers" => touch_and_sort(threads),
        "memory" => memory(threads),
        _ => return None,
    })
}

fn create_fresh(threads: u64) -> f64 {
    ns_each(threads, || mem::forget(black_box(slab::counters(threads as usize).expect(SLAB))))
}

fn cold(threads: u64) -> Metrics {
    let mut counters = slab::counters(threads as usize).expect(SLAB);
    let mut turn = || counters.iter_mut().for_each(|counter| _ = black_box(counter.resume(())));
    turn();
    let metrics = Metrics::ns(ns_each(threads * COLD_TURNS as u64, || (0..COLD_TURNS).for_each(|_| turn())));
    mem::forget(counters);
    metrics
}

fn yields(threads: u64, count: u64) -> Metrics {
    let mut counters = slab::counters(threads as usize).expect(SLAB);
    let mut queue: VecDeque<usize> = (0..counters.len()).collect();
    let mut yields = |count: u64| {
        ns_each(count, || {
            for _ in 0..count {
                let next = queue.pop_front().expect("it was put back");
                black_box(counters[next].resume(()).as_yield());
                queue.push_back(next);
            }
        })
    };
    yields(3 * threads);
    let metrics = Metrics::ns(yields(count.max(5 * threads)));
    mem::forget(counters);
    metrics
}

fn uncontended(count: u64) -> f64 {
    let number = Mutex::new(0_u64);
    ns_each(count, || {
        for _ in 0..count {
            *black_box(&number).lock().expect("nobody panics") += 1;
        }
    })
}

fn touch_and_sort(threads: u64) -> Metrics {
    let before = machine::cpu_time();
    floor::touch_pages(threads as usize);
    let mut deadlines = times(threads).map(Reverse).collect::<BinaryHeap<_>>();
    while let Some(deadline) = deadlines.pop() {
        black_box(deadline);
    }
    Metrics::new(&[("cpu_us", (machine::cpu_time() - before).as_secs_f64() * 1e6 / threads as f64)])
}

fn memory(threads: u64) -> Metrics {
    let crowd = Crowd::new(threads);
    let counters = slab::counters(threads as usize).expect(SLAB);
    let metrics = crowd.weigh();
    mem::forget(counters);
    metrics
}
