//! generator-rs, the stackful generators that may stands on: `Gn::new_scoped`, stacks of its default size, 32 KiB.
//!
//! A stack is used again by `scoped_init`, as its documentation has it.

use std::hint::black_box;
use std::mem;

use generator::{Generator, Gn};

use super::{COLD_TURNS, Measured, Metrics, warm};
use crate::parameters::Parameters;
use crate::support::stats::ns_each;

pub fn measure(workload: &str, parameters: &Parameters) -> Measured {
    let threads = parameters.get_or("threads", 0);
    Some(match workload {
        "switch" => warm(parameters.count(), switch),
        "create" => warm(parameters.count(), create),
        "create-fresh" => Metrics::ns(create_fresh(threads)),
        "cold" => cold(threads),
        _ => return None,
    })
}

fn counter() -> Generator<'static, (), u64> {
    Gn::new_scoped(|mut scope| {
        let mut next = 0_u64;
        loop {
            scope.yield_with(next);
            next = next.wrapping_add(1);
        }
    })
}

fn switch(count: u64) -> f64 {
    let mut numbers = counter();
    ns_each(count, || {
        for _ in 0..count {
            black_box(numbers.resume());
        }
    })
}

fn create(count: u64) -> f64 {
    let mut generator = Gn::<()>::new_scoped(|_| 0);
    generator.resume();
    ns_each(count, || {
        for i in 0..count {
            generator.scoped_init(move |_| i);
            black_box(generator.resume());
        }
    })
}

fn counters(threads: u64) -> Vec<Generator<'static, (), u64>> {
    let mut counters = Vec::with_capacity(threads as usize);
    counters.extend((0..threads).map(|_| {
        let mut counter = counter();
        counter.resume();
        counter
    }));
    counters
}

fn create_fresh(threads: u64) -> f64 {
    ns_each(threads, || mem::forget(black_box(counters(threads))))
}

fn cold(threads: u64) -> Metrics {
    let mut counters = counters(threads);
    let mut turn = || counters.iter_mut().for_each(|counter| _ = black_box(counter.resume()));
    turn();
    let metrics = Metrics::ns(ns_each(threads * COLD_TURNS as u64, || (0..COLD_TURNS).for_each(|_| turn())));
    mem::forget(counters);
    metrics
}
