//! What the tests share.

#![allow(dead_code)]

use std::sync::mpsc;
use std::time::Duration;

use hebra::{Config, Runtime};

/// How long a test may take before it counts as hung. Far beyond what any needs: it is a bound, not a measurement.
const BOUND: Duration = Duration::from_secs(60);

/// Runs a test body, and ends the process if it hangs.
pub fn bounded<T>(body: impl FnOnce() -> T) -> T {
    let (done, watched) = mpsc::channel::<()>();
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let watchdog = std::thread::spawn(move || {
        if watched.recv_timeout(BOUND) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("{test} has hung for {BOUND:?}");
            std::process::abort();
        }
    });
    let result = body();
    drop(done);
    watchdog.join().expect("the watchdog does not panic");
    result
}

/// Runs a test body on a runtime with so many workers, and ends the process if it hangs.
pub fn on_workers<T>(workers: usize, body: impl FnOnce() -> T) -> T {
    let runtime = Runtime::new(Config::default().workers(workers)).expect("the number of workers is in range");
    bounded(|| runtime.run(body))
}
