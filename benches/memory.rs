//! Memory of green threads that are all asleep at once, and the time to start, wake and end them.
//!
//! `cargo bench --bench memory -- [--quick] [THREADS…]`, by default 10,000, 100,000 and 1,000,000,
//! each on one and two workers in a process of its own. A parked green thread that has done little
//! should hold one page of stack, its share of the page tables, and its records in the heap. The
//! floor is a suspended raw coroutine on a guarded stack of its own, which takes two mappings and
//! so ends at about 32,000 of them; 10,000 are measured.

#[allow(dead_code, reason = "each bench uses its part of the shared code")]
mod support;

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use support::machine::{self, Memory};
use support::stats::{duration, figure, thousands};
use support::{Options, floor, process};

const FLOOR_COUNT: usize = 10_000;

/// Green threads that have got as far as their sleep.
static PARKED: AtomicUsize = AtomicUsize::new(0);

fn main() -> io::Result<()> {
    let options = Options::from_args();
    let counts = options.numbers(options.pick(&[10_000, 100_000, 1_000_000], &[10_000, 100_000]));
    match options.role.as_deref() {
        Some("1") => counts.into_iter().try_for_each(|count| measure(count, 1)),
        Some("2") => counts.into_iter().try_for_each(|count| measure(count, 2)),
        Some(role) => panic!("memory has no role {role}"),
        None => {
            let cases = counts.iter().flat_map(|count| [(count, "1"), (count, "2")]);
            cases.into_iter().try_for_each(|(count, workers)| {
                process::run_in_role(workers, &[count.to_string()], &options)
            })
        }
    }
}

/// A crowd of green threads from the first spawn to the last join.
struct Crowd {
    asleep: Memory,
    /// Elapsed and CPU time until the last one slept.
    start: (Duration, Duration),
    /// Elapsed and CPU time from the common deadline until the last one was joined.
    end: (Duration, Duration),
    /// Whether the last one slept before the first woke: else the memory is not that of all.
    all_at_once: bool,
}

fn measure(count: usize, workers: usize) -> io::Result<()> {
    if workers == 1 {
        machine::pin(machine::SERVER_CPU);
    }
    floor::touch_pages(count);
    let floor = floor_per_thread()?;
    let before = Memory::now()?;
    // Stacks of the default size: their page tables are part of the price.
    let runtime = hebra::Runtime::new(hebra::Config::default().workers(workers))?;
    let crowd = runtime.run(move || sleep_together(count))?;

    let held = crowd.asleep.since(&before);
    let each = |bytes: u64| bytes as f64 / count as f64;
    println!(
        "{} asleep, workers {workers}: {} bytes each   raw corosensei, suspended {} bytes   ratio {}{}",
        thousands(count),
        figure(each(held.total())),
        figure(floor),
        figure(each(held.total()) / floor),
        if crowd.all_at_once {
            ""
        } else {
            "   NOT ALL AT ONCE: the figure is too low"
        },
    );
    println!(
        "  resident {} (of it heap {}), page tables {}   mappings {}   start {} (CPU {})   wake, end and join {} (CPU {})",
        figure(each(held.resident)),
        figure(each(held.heap)),
        figure(each(held.page_tables)),
        thousands(held.mappings),
        duration(crowd.start.0),
        duration(crowd.start.1),
        duration(crowd.end.0),
        duration(crowd.end.1),
    );
    Ok(())
}

/// Bytes per suspended raw coroutine.
fn floor_per_thread() -> io::Result<f64> {
    let before = Memory::now()?;
    let suspended = floor::suspended(FLOOR_COUNT);
    let held = Memory::now()?.since(&before);
    drop(suspended);
    Ok(held.total() as f64 / FLOOR_COUNT as f64)
}

/// Has `count` green threads sleep until one common deadline. Nothing is allocated here but by
/// spawn and join.
fn sleep_together(count: usize) -> io::Result<Crowd> {
    // Far more than a start takes, 2 to 5 µs each.
    let deadline =
        Instant::now() + Duration::from_secs(2) + Duration::from_micros(15) * count as u32;
    let started = Stopwatch::start();
    let spawn = |_| {
        hebra::thread::spawn(move || {
            PARKED.fetch_add(1, Relaxed);
            hebra::thread::sleep(deadline.saturating_duration_since(Instant::now()));
        })
    };
    let sleepers = (0..count).map(spawn).collect::<Vec<_>>();
    while PARKED.load(Relaxed) < count {
        hebra::thread::sleep(Duration::from_millis(1));
    }
    let start = started.read();
    // The last one has counted itself but may not have parked yet.
    hebra::thread::sleep(Duration::from_millis(20));
    let asleep = Memory::now()?;
    let all_at_once = Instant::now() < deadline;

    // Watch from the deadline itself: this thread may be the last of all to wake.
    let woken = Stopwatch(deadline, machine::cpu_time());
    hebra::thread::sleep(deadline.saturating_duration_since(Instant::now()));
    for sleeper in sleepers {
        sleeper.join().expect("sleeping does not panic");
    }
    Ok(Crowd {
        asleep,
        start,
        end: woken.read(),
        all_at_once,
    })
}

/// A moment, and the CPU time that this process had used by then.
struct Stopwatch(Instant, Duration);

impl Stopwatch {
    fn start() -> Self {
        Self(Instant::now(), machine::cpu_time())
    }

    /// Elapsed and CPU time since.
    fn read(&self) -> (Duration, Duration) {
        (self.0.elapsed(), machine::cpu_time() - self.1)
    }
}
