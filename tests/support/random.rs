//! Rounds of random programs: seeds, their report, and a watchdog that names them.

use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How long a round may take before it counts as hung.
const BOUND: Duration = Duration::from_secs(60);
/// More rounds than any time allows.
const ROUNDS: usize = 10_000_000;

/// SplitMix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Runs `round` for `HEBRA_FUZZ_SECONDS`, each time with another seed, or once with
/// `HEBRA_FUZZ_SEED`.
pub fn rounds(test: &str, round: impl Fn(&mut Random)) {
    let seconds = number("HEBRA_FUZZ_SECONDS").unwrap_or(2);
    rounds_for(
        test,
        Duration::from_secs(seconds),
        number("HEBRA_FUZZ_SEED"),
        round,
    );
}

/// Runs `round` for `time`, each time with another seed, or once with `seed`.
pub fn rounds_for(test: &str, time: Duration, seed: Option<u64>, round: impl Fn(&mut Random)) {
    let first = seed.unwrap_or_else(|| RandomState::new().hash_one(test));
    let current = Arc::new(AtomicU64::new(first));
    let (alive, watched) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn({
        let (test, current) = (test.to_owned(), current.clone());
        move || {
            for _ in 0..=ROUNDS {
                match watched.recv_timeout(BOUND) {
                    Ok(()) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => {
                        let seed = current.load(SeqCst);
                        let _ = writeln!(
                            std::io::stderr(),
                            "{test} has hung for {BOUND:?}: HEBRA_FUZZ_SEED={seed}"
                        );
                        std::process::abort();
                    }
                }
            }
        }
    });
    let start = Instant::now();
    let mut count = 0;
    for number in 0..ROUNDS as u64 {
        let this = first.wrapping_add(number);
        current.store(this, SeqCst);
        let result = panic::catch_unwind(AssertUnwindSafe(|| round(&mut Random::new(this))));
        if let Err(payload) = result {
            eprintln!("{test} has failed: HEBRA_FUZZ_SEED={this}");
            panic::resume_unwind(payload);
        }
        alive.send(()).expect("the watchdog listens");
        count += 1;
        if seed.is_some() || start.elapsed() >= time {
            break;
        }
    }
    drop(alive);
    watchdog.join().expect("the watchdog does not panic");
    println!("{test}: {count} rounds from HEBRA_FUZZ_SEED={first}");
}
