//! The blocking pool: OS threads for calls that the kernel can only do blocking.
//!
//! [`unblock`] runs a closure there and parks its caller meanwhile, so that the other green threads
//! of the worker go on. Files, name resolution and standard input are made of it; use it for any
//! other call that blocks: a database's C library, a device, a long computation.
//!
//! # The life of a call
//!
//! ```text
//!   Queued(closure) --- a pool thread takes it ---> Running --- it returns or panics ---> Finished(result) --- the caller ---> Over
//!       |                                              |
//!       +--- the caller is cancelled ---> Over         +--- the caller is cancelled ---> Abandoned --- it returns: dropped ---> Over
//! ```
//!
//! # Why one pool for the process
//!
//! What it bounds, OS threads that sleep in the kernel, is a matter of the process; and a call
//! cannot be interrupted, so that it may outlive the runtime that made it. It is no hidden runtime:
//! it runs no green threads, has no threads before the first call, and loses them when they have
//! been idle for a while. The end of the process does not wait for them.

use std::fmt;
use std::io;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread::Result;
use std::time::{Duration, Instant};

use crate::lock::Lock;
use crate::park::{self, Mode, Wait};
use crate::scheduler::claim::Wake;
use crate::scheduler::task::Reason;
use crate::scheduler::waiter::Waiter;
use crate::scheduler::worker;

mod lane;
mod pool;

pub(crate) use lane::{Lane, Turn};
use pool::{Job, POOL, Ran, Submitted};

/// Runs `f` on the blocking pool, parks the current thread until it has returned, and returns its
/// result.
///
/// On a plain OS thread there is nobody to be kept waiting, and in a [simulation](crate::sim) no
/// time passes: there `f` is simply called.
///
/// ```
/// let total: u64 = hebra::run(|| {
///     let numbers: Vec<u64> = (0..1000).collect();
///     hebra::blocking::unblock(move || numbers.iter().sum()) // Something that takes long.
/// });
/// assert_eq!(total, 499_500);
/// ```
///
/// # Cancellation
/// Parks the current thread; this is a cancel point. A call that has not begun will not: `f` is
/// dropped. One that has begun cannot be interrupted: it goes on, what it does happens, and what it
/// returns is dropped on the pool's thread; it may even outlive the runtime. In a destructor of a
/// thread that is being cancelled the call is made and waited for all the same.
///
/// # Panics
/// Continues a panic of `f`.
pub fn unblock<F, T>(f: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    park::charge_or_yield();
    if is_inline() {
        return f();
    }
    park::cancel_point();
    begin(f).wait()
}

/// As [`unblock`], for what may take for ever: in a destructor of a thread that is being cancelled
/// it fails at once, and a time-out reaches it on a plain OS thread, too.
///
/// # Errors
/// The thread is cancelled and unwinds already.
pub(crate) fn try_unblock<F, T>(f: F) -> io::Result<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    try_unblock_as(f, false)
}

/// As [`try_unblock`], for what takes long, but ends: where the pool has no thread for it, the
/// caller makes the call.
///
/// # Errors
/// As [`try_unblock`].
pub(crate) fn try_unblock_finite<F, T>(f: F) -> io::Result<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    try_unblock_as(f, true)
}

fn try_unblock_as<F, T>(f: F, ends: bool) -> io::Result<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    if park::cancel_point() {
        return Err(cancelled());
    }
    let has_time_out = !worker::is_green() && park::scope_deadline().is_some();
    if is_inline() && !has_time_out {
        return Ok(f());
    }
    let pending = begin(f);
    loop {
        if let Some(result) = pending.call.take() {
            return Ok(result.unwrap_or_else(|payload| panic::resume_unwind(payload)));
        }
        let wake = park::park(
            Reason::Blocking,
            pending.ask_at(),
            Mode::CancelPoint,
            |wait| pending.call.enlist(wait),
        );
        if wake == Wake::Cancelled {
            return Err(cancelled());
        }
        pending.see_to_it(ends);
    }
}

/// Runs `f` on the pool, whoever calls, and returns at once.
pub(crate) fn begin<F, T>(f: F) -> Pending<F, T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let call = Call::queued(f);
    let submitted = POOL.submit(call.clone());
    if submitted == Submitted::Refused {
        call.run();
    }
    Pending::new(call, submitted)
}

/// As [`begin`]; `None`, and `f` is dropped, if the system refuses the pool its first thread.
pub(crate) fn try_begin<F, T>(f: F) -> Option<Pending<F, T>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let call = Call::queued(f);
    let submitted = POOL.submit(call.clone());
    (submitted != Submitted::Refused).then(|| Pending::new(call, submitted))
}

/// Sets how many OS threads the pool may have; 512 unless set. They sleep in the kernel most of the
/// time, so the number of processors does not matter. Further calls wait in a queue.
///
/// # Panics
/// If `max` is 0.
///
/// ```
/// hebra::blocking::set_max_threads(64);
/// ```
pub fn set_max_threads(max: usize) {
    assert!(max > 0, "the blocking pool needs a thread");
    POOL.set_max_threads(max);
}

/// Sets how long a thread of the pool waits for the next call before it ends; 5 s unless set.
/// Threads that are waiting already end as it was set before.
///
/// ```
/// hebra::blocking::set_keep_alive(std::time::Duration::from_secs(60));
/// ```
pub fn set_keep_alive(keep_alive: Duration) {
    POOL.set_keep_alive(keep_alive);
}

/// Whether calls are made by the caller itself: outside of a worker it keeps nobody waiting, and in
/// a simulation it takes no time.
fn is_inline() -> bool {
    !worker::is_green() || worker::seed().is_some()
}

fn cancelled() -> io::Error {
    io::Error::other("the green thread has been cancelled")
}

/// One call; see the module.
struct Call<F, T>(Lock<State<F, T>>);

struct State<F, T> {
    stage: Stage<F, T>,
    /// Who made the call, while it waits.
    waiter: Option<Waiter>,
}

enum Stage<F, T> {
    Queued(F),
    Running,
    Finished(Result<T>),
    /// Nobody will ask for the result.
    Abandoned,
    /// What there was has been taken.
    Over,
}

impl<F, T> Call<F, T> {
    fn queued(f: F) -> Arc<Call<F, T>> {
        Arc::new(Call(Lock::new(State {
            stage: Stage::Queued(f),
            waiter: None,
        })))
    }

    /// Takes the result, if it is there.
    fn take(&self) -> Option<Result<T>> {
        let mut state = self.0.lock();
        match mem::replace(&mut state.stage, Stage::Over) {
            Stage::Finished(result) => Some(result),
            other => {
                state.stage = other;
                None
            }
        }
    }

    fn enlist<'a>(&'a self, wait: &Wait<'_>) -> Option<impl FnOnce(&Wait<'_>) + use<'a, F, T>> {
        let mut state = self.0.lock();
        if let Stage::Finished(_) = state.stage {
            return None;
        }
        state.waiter = Some(wait.waiter());
        Some(|_: &Wait<'_>| self.0.lock().waiter = None)
    }

    /// Nobody waits any more. What is there is returned, to be dropped where nothing is locked.
    fn abandon(&self) -> Stage<F, T> {
        let mut state = self.0.lock();
        let next = if let Stage::Running = state.stage {
            Stage::Abandoned
        } else {
            Stage::Over
        };
        mem::replace(&mut state.stage, next)
    }
}

impl<F, T> Job for Call<F, T>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    fn run(&self) -> Ran {
        let f = {
            let mut state = self.0.lock();
            match mem::replace(&mut state.stage, Stage::Running) {
                Stage::Queued(f) => f,
                other => {
                    state.stage = other;
                    return Ran::Withdrawn;
                }
            }
        };
        let result = panic::catch_unwind(AssertUnwindSafe(f));
        let mut state = self.0.lock();
        if let Stage::Abandoned = state.stage {
            state.stage = Stage::Over;
            drop(state);
            discard(result);
            return Ran::Done(None);
        }
        state.stage = Stage::Finished(result);
        Ran::Done(state.waiter.take())
    }
}

/// A call whose caller has not given up.
pub(crate) struct Pending<F, T> {
    call: Arc<Call<F, T>>,
    /// The system has refused the thread for it: since when it waits for another.
    refused: Lock<Option<Instant>>,
}

/// How often a caller asks for the thread that was refused.
const ASK_AGAIN: Duration = Duration::from_millis(10);
/// After how long it makes the call itself.
const PATIENCE: Duration = Duration::from_millis(100);

impl<F, T> Pending<F, T> {
    fn new(call: Arc<Call<F, T>>, submitted: Submitted) -> Pending<F, T> {
        let refused = (submitted == Submitted::Waiting).then(park::now);
        Pending {
            call,
            refused: Lock::new(refused),
        }
    }

    /// When the caller has to [see to it](Pending::see_to_it) that the call is made.
    fn ask_at(&self) -> Option<Instant> {
        self.refused.lock().map(|_| park::now() + ASK_AGAIN)
    }
}

impl<F, T> Pending<F, T>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    /// Parks the current thread until the call has ended; as [`unblock`].
    pub(crate) fn wait(self) -> T {
        loop {
            if let Some(result) = self.call.take() {
                return result.unwrap_or_else(|payload| panic::resume_unwind(payload));
            }
            park::park_insistently(Reason::Blocking, None, self.ask_at(), |wait| {
                self.call.enlist(wait)
            });
            self.see_to_it(true);
        }
    }

    /// If no thread could be had for the call: asks for one again, and after a while makes the
    /// call, unless it may take for ever.
    fn see_to_it(&self, ends: bool) {
        let mut refused = self.refused.lock();
        let Some(since) = *refused else {
            return;
        };
        if POOL.make_up() {
            *refused = None;
        } else if ends && park::now().saturating_duration_since(since) >= PATIENCE {
            *refused = None;
            drop(refused);
            if let Ran::Done(_) = self.call.run() {
                POOL.withdraw();
            }
        }
    }
}

impl<F, T> Drop for Pending<F, T> {
    fn drop(&mut self) {
        let left = self.call.abandon();
        if let Stage::Queued(_) = left {
            POOL.withdraw();
        }
        drop(left);
    }
}

impl<F, T> fmt::Debug for Call<F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Call { .. }")
    }
}

/// Drops a value of the user's on a thread of the pool. A payload whose destructor panics, too, is
/// forgotten.
fn discard<T>(result: Result<T>) {
    if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| drop(result)))
        && let Err(another) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload)))
    {
        mem::forget(another);
    }
}
