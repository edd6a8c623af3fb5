//! What the tests share.

#![allow(dead_code)]

use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use hebra::{Config, Runtime};

pub mod place;
pub mod program;
pub mod random;

/// How long a test may take before it counts as hung. Far beyond what any needs: it is a bound, not
/// a measurement.
const BOUND: Duration = Duration::from_secs(60);

/// Runs a test body, and ends the process if it hangs.
pub fn bounded<T>(body: impl FnOnce() -> T) -> T {
    let (done, watched) = mpsc::channel::<()>();
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let watchdog = std::thread::spawn(move || {
        if watched.recv_timeout(BOUND) == Err(mpsc::RecvTimeoutError::Timeout) {
            // Where nobody reads that any more, `eprintln!` would panic.
            let _ = writeln!(std::io::stderr(), "{test} has hung for {BOUND:?}");
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
    let runtime = Runtime::new(Config::default().workers(workers))
        .expect("the number of workers is in range");
    bounded(|| runtime.run(body))
}

/// Runs one test of this binary once more, in a process of its own, where [`is_child`] holds.
pub fn child(test: &str, environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env("HEBRA_CHILD", "1");
    command.envs(environment.iter().copied()).output().unwrap()
}

/// Runs one test of this binary once more, in a process of its own, where [`is_child`] holds, and
/// makes sure that it passes.
pub fn passes_in_child(test: &str) {
    let output = child(test, &[]);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), stderr(&output));
    assert!(
        output.status.success(),
        "the child ended with {}\n{out}\n{err}",
        output.status
    );
    assert!(
        out.contains("1 passed"),
        "the child has run no test:\n{out}"
    );
}

pub fn is_child() -> bool {
    std::env::var_os("HEBRA_CHILD").is_some()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Lets the others run until something has come about.
pub fn wait_until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        hebra::thread::yield_now();
    }
}

/// Where the threads of a test run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    OneWorker,
    TwoWorkers,
    /// Every other one is an OS thread.
    Mixed,
    OsThreads,
}

impl Place {
    pub const ALL: [Place; 4] = [
        Place::OneWorker,
        Place::TwoWorkers,
        Place::Mixed,
        Place::OsThreads,
    ];

    /// Runs `f` on `count` threads, each with its number, and ends the process if they hang.
    pub fn run(self, count: usize, f: impl Fn(usize) + Sync) {
        let f = &f;
        let green = |workers, step| {
            let runtime = Runtime::new(Config::default().workers(workers))
                .expect("the number of workers is in range");
            runtime.run(|| {
                hebra::thread::scope(|s| {
                    (0..count)
                        .step_by(step)
                        .for_each(|n| drop(s.spawn(move || f(n))))
                })
            });
        };
        let os = |step| {
            std::thread::scope(|s| {
                (1..count)
                    .step_by(step)
                    .for_each(|n| drop(s.spawn(move || f(n))));
                if step == 1 { f(0) } else { green(1, 2) }
            });
        };
        bounded(|| match self {
            Place::OneWorker => green(1, 1),
            Place::TwoWorkers => green(2, 1),
            Place::Mixed => os(2),
            Place::OsThreads => os(1),
        });
    }
}

/// Runs `f` with a panic hook that is silent about the panics that the test wants: only if `f`
/// itself panics, the last one is told. One test of a binary at a time.
pub fn quietly<T>(f: impl FnOnce() -> T) -> T {
    static ONE: Mutex<()> = Mutex::new(());
    static LAST: Mutex<String> = Mutex::new(String::new());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = panic::take_hook();
    panic::set_hook(Box::new(|info| {
        *LAST.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string()
    }));
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    panic::set_hook(before);
    result.unwrap_or_else(|payload| {
        eprintln!("{}", LAST.lock().unwrap_or_else(PoisonError::into_inner));
        panic::resume_unwind(payload)
    })
}

/// Lets all others run until they wait for something, on a runtime of one worker. One `yield_now`
/// is not enough: a worker may resume its ready threads several times before it starts new ones.
pub fn run_the_others() {
    (0..300).for_each(|_| hebra::thread::yield_now());
}
