//! Locks: alone, among a hundred green threads on one worker and on two, a condition variable to
//! and fro, and a read of a `OnceLock`.
//!
//! `cargo bench --bench sync -- [--quick]`. The floor is std's counterpart: on the same OS thread
//! where nobody waits, between two OS threads where somebody does. Where two workers or two OS
//! threads meet, the rounds differ widely, with how the kernel places them.

#[allow(dead_code, reason = "each bench uses its part of the shared code")]
mod support;

use std::hint::black_box;
use std::sync as stds;

use hebra::sync::{Condvar, Mutex, OnceLock, RwLock};
use hebra::thread;
use support::stats::{interleave, ns_each, report, thousands};
use support::{Options, machine};

const THREADS: u64 = 100;

fn main() {
    let options = Options::from_args();
    machine::pinned(machine::SERVER_CPU, || alone(&options));
    machine::pinned(machine::SERVER_CPU, || on_one_worker(&options));
    on_two_workers(&options);
}

/// Calls `$work` over and over, and returns ns per call.
macro_rules! repeat {
    ($count:expr, $work:expr) => {
        ns_each($count, || {
            for _ in 0..$count {
                $work;
            }
        })
    };
}

fn alone(options: &Options) {
    let rounds = options.pick(15, 5);
    let count = options.pick(5_000_000, 500_000);
    let each = || {
        let (ours, std) = (Mutex::new(0_u64), stds::Mutex::new(0_u64));
        let pair = interleave(
            rounds,
            || repeat!(count, *black_box(&ours).lock().expect("nobody panics") += 1),
            || repeat!(count, *black_box(&std).lock().expect("nobody panics") += 1),
        );
        report("lock + unlock, alone", "ns", &pair, "std");
        let (ours, std) = (RwLock::new(0_u64), stds::RwLock::new(0_u64));
        let pair = interleave(
            rounds,
            || {
                repeat!(
                    count,
                    black_box(*black_box(&ours).read().expect("nobody panics"))
                )
            },
            || {
                repeat!(
                    count,
                    black_box(*black_box(&std).read().expect("nobody panics"))
                )
            },
        );
        report("read + unlock, alone", "ns", &pair, "std");
        let pair = interleave(
            rounds,
            || {
                repeat!(
                    count,
                    *black_box(&ours).write().expect("nobody panics") += 1
                )
            },
            || repeat!(count, *black_box(&std).write().expect("nobody panics") += 1),
        );
        report("write + unlock, alone", "ns", &pair, "std");
        let (ours, std) = (OnceLock::from(1_u64), stds::OnceLock::from(1_u64));
        let pair = interleave(
            rounds,
            || repeat!(10 * count, black_box(black_box(&ours).get_or_init(|| 2))),
            || repeat!(10 * count, black_box(black_box(&std).get_or_init(|| 2))),
        );
        report("read of a OnceLock", "ns", &pair, "std");
    };
    println!("on an OS thread:");
    each();
    println!("on a green thread:");
    support::runtime(1).run(each);
}

fn on_one_worker(options: &Options) {
    let rounds = options.pick(15, 5);
    let count = options.pick(10_000, 1_000);
    let runtime = support::runtime(1);
    let std = stds::Mutex::new(0);
    let pair = interleave(
        rounds,
        || runtime.run(|| among_green_threads(THREADS, count)),
        || {
            repeat!(
                THREADS * count,
                *black_box(&std).lock().expect("nobody panics") += 1
            )
        },
    );
    let what = format!(
        "{THREADS} green threads x {} locks, workers 1",
        thousands(count)
    );
    report(&what, "ns", &pair, "std on one OS thread");

    let trips = options.pick(200_000, 20_000);
    let pair = interleave(
        rounds,
        || runtime.run(|| to_and_fro(trips)),
        || to_and_fro_of_std(trips / 20),
    );
    report(
        "Condvar, to and fro, workers 1",
        "ns",
        &pair,
        "std between two OS threads on one CPU",
    );
}

fn on_two_workers(options: &Options) {
    let rounds = options.pick(25, 7);
    let count = options.pick(10_000, 1_000);
    let runtime = support::runtime(2);
    let pair = interleave(
        rounds,
        || runtime.run(|| among_green_threads(THREADS, count)),
        || among_os_threads(2, THREADS * count / 2),
    );
    let what = format!(
        "{THREADS} green threads x {} locks, workers 2",
        thousands(count)
    );
    report(&what, "ns", &pair, "std between two OS threads");
}

/// ns per lock + unlock.
fn among_green_threads(threads: u64, count: u64) -> f64 {
    let mutex = Mutex::new(0);
    let ns = ns_each(threads * count, || {
        thread::scope(|s| {
            for _ in 0..threads {
                s.spawn(|| (0..count).for_each(|_| *mutex.lock().expect("nobody panics") += 1));
            }
        });
    });
    assert_eq!(mutex.into_inner().expect("nobody panics"), threads * count);
    ns
}

/// ns per lock + unlock.
fn among_os_threads(threads: u64, count: u64) -> f64 {
    let mutex = stds::Mutex::new(0);
    let ns = ns_each(threads * count, || {
        std::thread::scope(|s| {
            for _ in 0..threads {
                s.spawn(|| (0..count).for_each(|_| *mutex.lock().expect("nobody panics") += 1));
            }
        });
    });
    assert_eq!(mutex.into_inner().expect("nobody panics"), threads * count);
    ns
}

/// One of two players: waits for its turn and gives the other its own, over and over, without
/// letting the lock go in between.
macro_rules! play {
    ($game:expr, $me:expr, $trips:expr) => {{
        let (turn, changed) = $game;
        let mut turn = turn.lock().expect("nobody panics");
        for trip in 0..$trips {
            while *turn != 2 * trip + $me {
                turn = changed.wait(turn).expect("nobody panics");
            }
            *turn += 1;
            changed.notify_one();
        }
    }};
}

/// ns per round trip.
fn to_and_fro(trips: u64) -> f64 {
    let game = &(Mutex::new(0), Condvar::new());
    ns_each(trips, || {
        thread::scope(|s| {
            s.spawn(|| play!(game, 0, trips));
            s.spawn(|| play!(game, 1, trips));
        });
    })
}

/// ns per round trip.
fn to_and_fro_of_std(trips: u64) -> f64 {
    let game = &(stds::Mutex::new(0), stds::Condvar::new());
    ns_each(trips, || {
        std::thread::scope(|s| {
            s.spawn(|| play!(game, 0, trips));
            s.spawn(|| play!(game, 1, trips));
        });
    })
}
