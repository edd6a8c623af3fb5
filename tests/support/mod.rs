//! What the tests share.

#![allow(dead_code)]

use std::io::Write;
use std::process::{Command, Output};
use std::sync::mpsc;
use std::time::Duration;

use hebra::{Config, Runtime};

pub mod place;

/// How long a test may take before it counts as hung. Far beyond what any needs: it is a bound, not a measurement.
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
    let runtime = Runtime::new(Config::default().workers(workers)).expect("the number of workers is in range");
    bounded(|| runtime.run(body))
}

/// Runs one test of this binary once more, in a process of its own, where [`is_child`] holds.
pub fn child(test: &str, environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env("HEBRA_CHILD", "1");
    command.envs(environment.iter().copied()).output().unwrap()
}

/// Runs one test of this binary once more, in a process of its own, where [`is_child`] holds, and makes sure that it passes.
pub fn passes_in_child(test: &str) {
    let output = child(test, &[]);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), stderr(&output));
    assert!(output.status.success(), "the child ended with {}\n{out}\n{err}", output.status);
    assert!(out.contains("1 passed"), "the child has run no test:\n{out}");
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
