//! Generators at depth, in chains and in crowds.
//!
//! `cargo bench --bench generators -- [--quick] [GENERATORS…]`, by default a million that live at
//! once.
//!
//! - *Depth*: an item that is yielded from below 100 or 1,000 calls. The floor is one call; Python
//!   pays for each level.
//! - *Chain*: an item that passes 10 to 1,000 delegations by `yield_from`. The floor is a generator
//!   that yields itself.
//! - *Crowd*: generators that are all suspended, each on a guarded stack: their memory, and the
//!   time to make and to drop one, a process for each figure. The floor is raw corosensei, which
//!   ends at about 32,000 guarded stacks; 10,000 are measured.

#[allow(dead_code, reason = "each bench uses its part of the shared code")]
mod support;

use std::hint::black_box;
use std::io;
use std::time::Instant;

use hebra::{Generator, Yielder};
use support::machine::{self, Memory};
use support::stats::{Samples, duration, figure, interleave, ns_each, report, thousands};
use support::{Options, floor, process};

const FLOOR_COUNT: usize = 10_000;

fn main() -> io::Result<()> {
    let options = Options::from_args();
    machine::pin(machine::SERVER_CPU);
    let counts = options.numbers(options.pick(&[1_000_000], &[100_000]));
    if options.role.is_some() {
        return counts.into_iter().try_for_each(crowd);
    }
    let rounds = options.pick(15, 5);
    let items = options.pick(5_000_000, 500_000);
    for depth in [100, 1_000] {
        let what = format!("item from {} nested calls", thousands(depth));
        compare(
            &what,
            rounds,
            || items_of(nested(depth), items),
            || items_of(nested(1), items),
            "one call",
        );
    }
    for depth in [10, 100, 1_000] {
        let what = format!("item through {} delegations", thousands(depth));
        compare(
            &what,
            rounds,
            || items_of(chain(depth), items),
            || items_of(chain(0), items),
            "none",
        );
    }
    counts
        .iter()
        .try_for_each(|count| process::run_in_role("crowd", &[count.to_string()], &options))
}

fn compare(
    what: &str,
    rounds: usize,
    ours: impl FnMut() -> f64,
    floor: impl FnMut() -> f64,
    floor_name: &str,
) {
    let pair: (Samples, Samples) = interleave(rounds, ours, floor);
    report(what, "ns", &pair, floor_name);
}

fn items_of(mut generator: Generator<(), u64, ()>, count: u64) -> f64 {
    generator.resume(());
    ns_each(count, || {
        for _ in 0..count {
            black_box(generator.resume(()));
        }
    })
}

/// Counts from below that many calls.
fn nested(depth: u32) -> Generator<(), u64, ()> {
    fn descend(y: &Yielder<(), u64>, depth: u32) -> u64 {
        if depth > 1 {
            return black_box(descend(y, depth - 1)) + 1;
        }
        count(y);
        0
    }
    Generator::new(move |y, ()| {
        black_box(descend(y, depth));
    })
}

/// Counts from behind that many delegations.
fn chain(depth: u32) -> Generator<(), u64, ()> {
    Generator::new(move |y, ()| match depth {
        0 => count(y),
        _ => y.yield_from(&mut chain(depth - 1), ()),
    })
}

/// Never ends by itself.
#[inline(never)]
fn count(y: &Yielder<(), u64>) {
    let mut next = 0_u64;
    loop {
        y.yield_(next);
        next = next.wrapping_add(1);
    }
}

fn crowd(count: usize) -> io::Result<()> {
    floor::touch_pages(count);
    let before = Memory::now()?;
    let suspended = floor::suspended(FLOOR_COUNT);
    let floor = Memory::now()?.since(&before).total() as f64 / FLOOR_COUNT as f64;
    drop(suspended);

    let before = Memory::now()?;
    let mut generators = Vec::with_capacity(count);
    let start = Instant::now();
    generators.extend((0..count as u64).map(|number| {
        let mut generator = Generator::<(), u64, ()>::new(move |y, ()| {
            y.yield_(number);
        });
        generator.resume(());
        generator
    }));
    let made = start.elapsed();
    let held = Memory::now()?.since(&before);
    let start = Instant::now();
    for generator in &mut generators {
        black_box(generator.resume(()));
    }
    let resumed = start.elapsed();
    drop(generators);

    let each = |bytes: u64| bytes as f64 / count as f64;
    println!(
        "{} suspended generators: {} bytes each   raw corosensei {} bytes   ratio {}",
        thousands(count as u64),
        figure(each(held.total())),
        figure(floor),
        figure(each(held.total()) / floor),
    );
    println!(
        "  resident {} (of it heap {}), page tables {}   mappings {}   start {} each   end {} each",
        figure(each(held.resident)),
        figure(each(held.heap)),
        figure(each(held.page_tables)),
        thousands(held.mappings),
        duration(made / count as u32),
        duration(resumed / count as u32),
    );
    Ok(())
}
