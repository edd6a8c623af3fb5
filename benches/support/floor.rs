//! The floors that are made of raw corosensei: nothing but the switch, the stack and the closure.

use std::hint::black_box;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};

use super::stats::ns_each;

/// How the floor of a switch is called in reports.
pub const ROUND_TRIP: &str = "raw corosensei round trip";
/// How [`create_run_drop`] is called in reports.
pub const CREATE: &str = "raw corosensei on a reused stack";
/// How [`spawn_boxed`] is called in reports.
pub const SPAWN: &str = "raw corosensei on a reused stack, boxed closure";

/// ns per resume/yield round trip that hands a `u64` out.
pub fn round_trip(count: u64) -> f64 {
    let mut numbers = counter();
    ns_each(count, || {
        for _ in 0..count {
            black_box(numbers.resume(()).as_yield());
        }
    })
}

/// ns per resume/yield round trip that hands a `u64` in and a `u64` out.
pub fn exchange(count: u64) -> f64 {
    let mut doubler = Coroutine::<u64, u64, ()>::new(|yielder, mut value| {
        loop {
            value = yielder.suspend(value.wrapping_mul(2));
        }
    });
    ns_each(count, || {
        for i in 0..count {
            black_box(doubler.resume(i).as_yield());
        }
    })
}

/// ns per item of an iterator over a coroutine.
pub fn iterate(count: u64) -> f64 {
    let mut numbers = counter();
    let items = std::iter::from_fn(|| numbers.resume(()).as_yield());
    ns_each(count, || {
        black_box(items.take(count as usize).fold(0, u64::wrapping_add));
    })
}

fn counter() -> Coroutine<(), u64, ()> {
    Coroutine::new(|yielder, ()| {
        let mut next = 0_u64;
        loop {
            yielder.suspend(next);
            next = next.wrapping_add(1);
        }
    })
}

/// ns to create a coroutine, run it to its end and drop it, on one stack that all share.
pub fn create_run_drop(count: u64) -> f64 {
    on_reused_stack(count, |i| move || i)
}

/// The same with the closure in a box: what a spawn cannot do without, as it must keep closures of
/// any type.
pub fn spawn_boxed(count: u64) -> f64 {
    on_reused_stack(count, |i| {
        black_box(Box::new(move || i) as Box<dyn FnOnce() -> u64>)
    })
}

fn on_reused_stack<F: FnOnce() -> u64 + 'static>(count: u64, job: impl Fn(u64) -> F) -> f64 {
    let mut stack = Some(small_stack());
    ns_each(count, || {
        for i in 0..count {
            let job = job(i);
            let free = stack
                .take()
                .expect("the last coroutine gave the stack back");
            let mut coroutine = Coroutine::<(), (), u64, _>::with_stack(free, move |_, ()| job());
            if let CoroutineResult::Return(value) = coroutine.resume(()) {
                black_box(value);
            }
            stack = Some(coroutine.into_stack());
        }
    })
}

/// Coroutines that have each yielded once and hold their own guarded stack.
pub fn suspended(count: usize) -> Vec<Coroutine<(), (), ()>> {
    let start = |_| {
        let mut coroutine = Coroutine::with_stack(small_stack(), |yielder, ()| yielder.suspend(()));
        coroutine.resume(());
        coroutine
    };
    (0..count).map(start).collect()
}

/// Has the kernel hand out `count` fresh pages, one fault each, and gives them back.
///
/// Done once before a measurement, it also makes a hypervisor back that much memory, which can cost
/// more than the faults.
pub fn touch_pages(count: usize) {
    const PAGE: usize = 4096;
    let mut pages = vec![0_u8; count * PAGE];
    pages.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
    black_box(&pages);
}

fn small_stack() -> DefaultStack {
    DefaultStack::new(64 << 10).expect(
        "64 KiB and two mappings are left: only `suspended` makes many, and it is asked for 10,000",
    )
}
