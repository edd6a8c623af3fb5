//! Runs concurrent code under a virtual clock and a schedule that a seed decides: again and again,
//! and each time the same.
//!
//! ```
//! use std::time::Duration;
//! use hebra::{sim, thread};
//!
//! sim::check(0..100, || {
//!     let start = hebra::time::now();
//!     let slow = thread::spawn(|| thread::sleep(Duration::from_secs(3600)));
//!     let given_up = thread::timeout(Duration::from_secs(60), || slow.join().unwrap());
//!     assert!(given_up.is_err());
//!     assert_eq!(start.elapsed(), Duration::from_secs(60)); // And yet it took no time.
//! });
//! ```
//!
//! It is the same scheduler as ever, with one worker, and it differs in three things:
//!
//! - **Who runs next** is drawn from all that could, by a generator that begins with the seed. Two
//!   runs with one seed take the same steps; many seeds try many schedules.
//! - **Time** stands still while anybody can run. When everybody waits, the clock jumps to the next
//!   deadline: hours pass in microseconds, and a sleep ends exactly when it is due. Ask
//!   [`hebra::time`](crate::time) for the time, not std.
//! - **A deadlock** is when everybody waits and there is no deadline. The run fails, and tells who
//!   waits for what, since when, and for whom.
//!
//! A thread that waits by yielding in a loop is no obstacle: when nothing else happens, time passes
//! all the same. But threads that hand something to and fro for ever, or of which each spawns the
//! next, never let it: a run fails after 2,000,000 steps without any time passing, and names the
//! threads that took the last of them. `HEBRA_STEPS=10000000` in the environment allows more.
//!
//! Virtual time ends after 584 years: a sleep that would end later ends then. One that no
//! [`Instant`](std::time::Instant) can name the end of, such as that of [`Duration::MAX`], never
//! ends: if everybody else waits, too, the run fails with a report.
//!
//! A run fails also when `f` panics, or any other green thread whose
//! [`JoinHandle`](crate::thread::JoinHandle) has been dropped: a panic that nobody will see is a
//! bug of the test. Then everybody is cancelled and unwinds.
//!
//! # To repeat a failure
//!
//! What fails prints its seed, and how to repeat it: `HEBRA_SEED=17 cargo test name` makes
//! [`check`] try that seed alone. With `HEBRA_TRACE=1` in the environment every step is printed on
//! standard error, with `HEBRA_TRACE=path` it is written to that file. [`trace`] returns the same
//! as a string. A step says when it was, which thread it was of, how many could have run instead,
//! what ended that thread's wait, and what it did then:
//!
//! ```text
//! 0.000000000s spawn #1 'reader' (tests/pipe.rs:20:18)
//! 3 1.500000000s #1 'reader' (tests/pipe.rs:20:18), of 2 ready: sleeping, timed out -> locking
//! ```
//!
//! # How to write a simulated test
//!
//! Call the code as it is, inside of [`check`], and assert what has to hold whatever the schedule.
//! What it needs from outside comes as a parameter: the other end of a connection is a function or
//! a channel in the test, and a green thread behind it is the peer.
//!
//! - Build everything inside of the closure, so that each run begins anew. One worker runs it all,
//!   so `Rc`, `Cell` and [`spawn_local`](crate::thread::spawn_local) will do.
//! - Draw from [`random`] what the peer does: how long it takes, whether it fails, whether its
//!   answer is lost. A peer that never answers sleeps for [`Duration::MAX`]. Then a seed is a
//!   schedule and a fate.
//! - Bound the time: `assert!(began.elapsed() <= …)` is exact here. What hangs is found without, as
//!   a deadlock; what would go on for ever by yielding or by handing something over, too.
//! - To let everybody else come to rest, sleep for a nanosecond: that ends when nobody can run.
//! - A simulation takes microseconds for each step, so many seeds are cheap: a thousand in an
//!   ordinary test, a million overnight.
//! - Once it has held for the seeds of the test, try whether it can fail: break the code, and see.
//!
//! `examples/simulation.rs` is such a test: of a client that tries again, against a server that
//! loses requests and answers.
//!
//! # Cancellation
//!
//! A green thread can be cancelled wherever it waits, and each of these places is one that the test
//! of its ordinary course never tries. [`cancel_everywhere`] tries them all: it runs a closure
//! again and again, and cancels the thread in question at its first cancel point, at its second,
//! and so on.
//!
//! # What is the same in every run
//!
//! With one seed, and one build of the program: who runs when, who wakes whom, which wait has timed
//! out, what time it is, how threads are numbered in reports, and what [`random`] returns. A
//! different seed or a changed program has a schedule of its own.
//!
//! Not the same, and so the schedule is not either if it depends on that:
//!
//! - **The order of a `HashMap`**, as std's `RandomState` draws its keys from the system. A
//!   `BTreeMap` has one order, and so has a map with a hasher that is always the same.
//! - **std's clock**: `std::time::Instant` and `SystemTime` go on by themselves.
//!   [`time::now`](crate::time::now) is the clock of the run; `std::thread::sleep` puts the whole
//!   simulation to sleep.
//! - **Random numbers** from elsewhere, and the bytes of a file that has changed.
//! - **Addresses and ids**: of allocations, of stacks, of [`ThreadId`](crate::thread::ThreadId)s.
//! - **OS threads**, and what they race for. They may wake a simulated thread, but when they do so
//!   is their affair. Nobody waits for them: if everybody waits for an OS thread, that is reported
//!   as a deadlock.
//! - **What earlier runs have left** in a `static`.
//!
//! Whether it is so can be tested: two calls of [`trace`] with one seed return the same string.
//!
//! # What is not simulated
//!
//! - Green threads take turns where they wait, yield or end, not between any two instructions: as
//!   with one worker. What goes wrong between two atomic operations is found by a model checker
//!   such as loom, not here.
//! - Sockets, names, child processes and signals are refused with
//!   [`Unsupported`](std::io::ErrorKind::Unsupported): nobody could repeat what comes from outside.
//!   Files are used, and [blocking](crate::blocking) calls made, on the spot; they take no time.
//! - A lock of std's that is held across a wait blocks the only worker as soon as somebody else
//!   wants it, for good.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use crate::lock::Lock;
use crate::report::say;
use crate::runtime::{Config, Runtime};
use crate::scheduler::audit::Attempt;
use crate::scheduler::oracle::{Plan, Record};
use crate::scheduler::worker;

mod audit;
#[cfg(test)]
mod objects;

pub use audit::{Audit, cancel_everywhere};

/// Steps without any time passing after which a run fails, unless the environment says otherwise: a
/// few seconds' worth.
const STEPS_AT_ONCE: u64 = 2_000_000;

/// Virtual time that green threads are given to end after they have been cancelled.
const STRAGGLERS: Duration = Duration::from_secs(3600);

/// Runs `f` as a simulation with that seed, and returns its result.
///
/// ```
/// use std::time::Duration;
/// use hebra::{sim, thread};
///
/// let order = |seed| sim::run(seed, || {
///     let (tell, told) = std::sync::mpsc::channel();
///     for n in 0..4 {
///         let tell = tell.clone();
///         thread::spawn(move || tell.send(n).unwrap());
///     }
///     drop(tell);
///     thread::sleep(Duration::from_secs(1)); // When this ends everybody else has ended or waits.
///     told.into_iter().collect::<Vec<_>>()
/// });
/// assert_eq!(order(1), order(1));
/// assert!((0..100).any(|seed| order(seed) != order(1)));
/// ```
///
/// # Panics
/// Continues a panic of `f`. Panics with a report when there is a deadlock, and when a detached
/// green thread has panicked. Panics as [`Runtime::run`] does.
#[track_caller]
pub fn run<F, T>(seed: u64, f: F) -> T
where
    F: FnOnce() -> T,
{
    let announce = Announce {
        seed,
        how: false,
        attempt: None,
    };
    let value = simulate(plan(seed, from_environment(seed)), f);
    std::mem::forget(announce);
    value
}

/// Runs `f` as a simulation with each of these seeds, up to the first that fails.
///
/// With `HEBRA_SEED` in the environment it runs that seed alone.
///
/// # Panics
/// As [`run`], after saying on standard error with which seed. Panics if `HEBRA_SEED` is no number.
#[track_caller]
pub fn check<F>(seeds: impl IntoIterator<Item = u64>, mut f: F)
where
    F: FnMut(),
{
    let asked = asked_seed();
    let (seeds, asked) = (
        asked.is_none().then_some(seeds).into_iter().flatten(),
        asked,
    );
    for seed in asked.into_iter().chain(seeds) {
        let announce = Announce {
            seed,
            how: true,
            attempt: None,
        };
        simulate(plan(seed, from_environment(seed)), &mut f);
        std::mem::forget(announce);
    }
}

/// Runs `f` as a simulation, and returns its result and the record of all steps.
///
/// ```
/// use hebra::{sim, thread};
///
/// let (sum, steps) = sim::trace(7, || thread::spawn(|| 1 + 1).join().unwrap());
/// assert_eq!(sum, 2);
/// assert!(steps.contains("joining, woken -> ends"));
/// ```
///
/// # Panics
/// As [`run`].
#[track_caller]
pub fn trace<F, T>(seed: u64, f: F) -> (T, String)
where
    F: FnOnce() -> T,
{
    let announce = Announce {
        seed,
        how: false,
        attempt: None,
    };
    let steps = Arc::new(Lock::new(Vec::new()));
    let value = simulate(plan(seed, Some(steps.clone())), f);
    std::mem::forget(announce);
    let steps = std::mem::take(&mut *steps.lock());
    (
        value,
        String::from_utf8(steps).expect("only text is recorded"),
    )
}

/// Returns a number that is the same in every run of the same seed, and changes nothing about who
/// runs.
///
/// # Panics
/// Panics outside a simulation.
///
/// ```
/// let draw = |seed| hebra::sim::run(seed, || [hebra::sim::random(), hebra::sim::random()]);
/// assert_eq!(draw(1), draw(1));
/// assert_ne!(draw(1), draw(2));
/// ```
#[track_caller]
pub fn random() -> u64 {
    worker::random().expect("hebra::sim::random was called outside a simulation")
}

/// Returns the seed of the simulation that the caller runs in, or `None` outside.
pub fn seed() -> Option<u64> {
    worker::seed()
}

fn plan(seed: u64, record: Option<Record>) -> Plan {
    Plan {
        seed,
        record,
        attempt: None,
        steps: allowed_steps(),
    }
}

/// How many steps there may be without any time passing.
fn allowed_steps() -> u64 {
    static STEPS: OnceLock<u64> = OnceLock::new();
    *STEPS.get_or_init(|| match env::var("HEBRA_STEPS") {
        Ok(steps) => steps.trim().parse().unwrap_or_else(|_| {
            panic!("HEBRA_STEPS is to be a number from 0 to 2^64 - 1, not {steps:?}")
        }),
        Err(_) => STEPS_AT_ONCE,
    })
}

#[track_caller]
fn simulate<F, T>(plan: Plan, f: F) -> T
where
    F: FnOnce() -> T,
{
    let config = Config::default()
        .workers(1)
        .shutdown_timeout(STRAGGLERS)
        .simulated(plan);
    Runtime::new(config)
        .expect("the configuration is in range")
        .run(f)
}

/// Says which seed it was, when a panic passes.
struct Announce {
    seed: u64,
    /// Whether `HEBRA_SEED` repeats it.
    how: bool,
    /// What was audited.
    attempt: Option<Arc<Attempt>>,
}

impl Drop for Announce {
    fn drop(&mut self) {
        let seed = self.seed;
        if !self.how {
            return say(format_args!(
                "the simulation with seed {seed} has failed; HEBRA_TRACE=1 shows its steps"
            ));
        }
        let test = thread::current()
            .name()
            .filter(|name| *name != "main")
            .map(|name| format!(" {name}"));
        let test = test.unwrap_or_default();
        let aim = self.attempt.as_ref().and_then(|attempt| attempt.hit());
        let (which, aim) = match aim {
            Some(aim) => {
                let variable = format!(" HEBRA_CANCEL={aim:?}");
                (
                    format!(", with the audited thread cancelled {aim},"),
                    variable,
                )
            }
            None => Default::default(),
        };
        say(format_args!(
            "the simulation with seed {seed}{which} has failed; HEBRA_SEED={seed}{aim} cargo test{test} repeats it, and HEBRA_TRACE=1 \
             shows its steps"
        ));
    }
}

/// The seed that the environment asks for.
fn asked_seed() -> Option<u64> {
    env::var_os("HEBRA_SEED").map(|seed| parse_seed(&seed))
}

fn parse_seed(seed: &OsStr) -> u64 {
    let number = seed.to_str().and_then(|seed| seed.trim().parse().ok());
    number
        .unwrap_or_else(|| panic!("HEBRA_SEED is to be a number from 0 to 2^64 - 1, not {seed:?}"))
}

/// Where the environment wants the steps of a run written, with a headline there already.
fn from_environment(seed: u64) -> Option<Record> {
    static RECORD: OnceLock<Option<Record>> = OnceLock::new();
    let open = || -> Option<Record> {
        let path = env::var_os("HEBRA_TRACE").filter(|path| !path.is_empty() && path != "0")?;
        if path == "1" {
            return Some(Arc::new(Lock::new(io::stderr())));
        }
        let file = File::create(&path)
            .unwrap_or_else(|error| panic!("HEBRA_TRACE={path:?} cannot be written to: {error}"));
        Some(Arc::new(Lock::new(file)))
    };
    let record = RECORD.get_or_init(open).clone()?;
    // What cannot be written must not fail the run.
    let _ = record.lock().write_all(format!("seed {seed}\n").as_bytes());
    Some(record)
}
