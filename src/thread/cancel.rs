//! Cancelling, as its users see it: `cancel`, [`timeout`] and [`shield`] are three faces of the
//! cancel scope.

use std::any::Any;
use std::fmt;
use std::panic::{self, AssertUnwindSafe, Location};
use std::time::{Duration, Instant};

use crate::park::{self, CancelUnwind, Entered};
use crate::scheduler::scopes::Kind;

/// The payload with which the `join` of a cancelled green thread fails.
///
/// A green thread is cancelled by [`JoinHandle::cancel`](super::JoinHandle::cancel), by the scope
/// or the set that it belongs to, or by the end of its runtime: when the closure given to
/// [`run`](crate::run) has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled {
    at: Option<&'static Location<'static>>,
}

impl Cancelled {
    pub(super) fn at(at: Option<&'static Location<'static>>) -> Cancelled {
        Cancelled { at }
    }

    /// Returns the place that asked for it: the call that cancelled the thread. `None` if its
    /// runtime ended.
    pub fn location(&self) -> Option<&'static Location<'static>> {
        self.at
    }
}

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(at) => write!(f, "the green thread was cancelled at {at}"),
            None => f.write_str("the green thread was cancelled because its runtime ended"),
        }
    }
}

impl std::error::Error for Cancelled {}

/// What [`timeout`] returns if time was up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed(());

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the deadline has elapsed")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for std::io::Error {
    fn from(elapsed: Elapsed) -> std::io::Error {
        std::io::Error::new(std::io::ErrorKind::TimedOut, elapsed)
    }
}

/// Runs `f`, and cancels it if it has not returned after `duration`.
///
/// It is not interrupted while it computes: it unwinds from the place where it waits, or from the
/// next one where it would have to. From then on every cancel point in `f` unwinds, until `timeout`
/// has caught it. What `f` returns counts, however late it comes. Time-outs nest; the nearest
/// deadline is [`deadline`]. Works on plain OS threads, too.
///
/// What was cancelled did not happen: a message is still in its channel, a lock not taken, a byte
/// not read.
///
/// ```
/// use std::time::Duration;
/// use hebra::thread;
///
/// hebra::run(|| {
///     let late = thread::timeout(Duration::from_millis(1), || thread::sleep(Duration::from_secs(3600)));
///     assert!(late.is_err());
///     assert_eq!(thread::timeout(Duration::from_secs(3600), || 6 * 7), Ok(42));
/// });
/// ```
///
/// # Cancellation
/// It passes on a cancellation of the thread, or of a scope further out. In a destructor that runs
/// because a thread unwinds nothing can unwind once more: there the waits in `f` fail or return at
/// once when time is up.
///
/// # Errors
/// Time was up.
///
/// # Panics
/// Continues a panic of `f`. In `f`, a yield of the generator that has called `timeout` panics:
/// time would be up for whoever runs meanwhile.
#[inline]
pub fn timeout<T>(duration: Duration, f: impl FnOnce() -> T) -> std::result::Result<T, Elapsed> {
    // One that no `Instant` can name is none, and `deadline` says so.
    until(park::now().checked_add(duration), duration.is_zero(), f)
}

/// Runs `f`, and cancels it if it has not returned at `deadline`; see [`timeout`].
///
/// # Cancellation
/// As [`timeout`].
///
/// # Errors
/// Time was up.
///
/// # Panics
/// As [`timeout`].
#[inline]
pub fn timeout_at<T>(
    deadline: impl Into<Instant>,
    f: impl FnOnce() -> T,
) -> std::result::Result<T, Elapsed> {
    let deadline = deadline.into();
    until(Some(deadline), deadline <= park::now(), f)
}

#[inline]
fn until<T>(
    deadline: Option<Instant>,
    past: bool,
    f: impl FnOnce() -> T,
) -> std::result::Result<T, Elapsed> {
    let f = || {
        if past {
            // Now, and not when the worker reads the clock next: there may be cancel points before.
            park::learn_cancellation();
        }
        f()
    };
    in_scope(Kind::Deadline(deadline), f).ok_or(Elapsed(()))
}

/// Runs `f` out of reach of cancellations: of the thread, and of the scopes that it is in. They are
/// delivered at the next cancel point after `f`. Scopes that `f` itself opens work as ever.
///
/// Use it for what must not be left half done: a rollback, a farewell to a peer. It holds up the
/// end of its runtime, so let it be short.
///
/// ```
/// use std::time::Duration;
/// use hebra::thread;
///
/// hebra::run(|| {
///     let mut done = false;
///     let late = thread::timeout(Duration::from_millis(1), || {
///         thread::shield(|| {
///             thread::sleep(Duration::from_millis(5));
///             done = true;
///         });
///         thread::yield_now(); // Here it is cancelled.
///     });
///     assert!(done && late.is_err());
/// });
/// ```
///
/// # Panics
/// Continues a panic of `f`; and as [`timeout`].
#[inline]
pub fn shield<T>(f: impl FnOnce() -> T) -> T {
    in_scope(Kind::Shield, f).expect("a shield cannot be cancelled")
}

/// Returns whether the calling thread is cancelled here: the next cancel point would unwind it.
/// Looks at deadlines, too. A thread that computes for long can ask, and give up.
pub fn is_cancelled() -> bool {
    park::learn_cancellation()
}

/// Returns the nearest deadline of the time-outs that the calling thread is in, as far as no
/// [`shield`] keeps them off.
///
/// ```
/// use std::time::Duration;
/// use hebra::thread;
///
/// assert_eq!(thread::deadline(), None);
/// thread::timeout(Duration::from_secs(60), || assert!(thread::deadline().is_some())).unwrap();
/// ```
pub fn deadline() -> Option<Instant> {
    park::scope_deadline()
}

/// Runs `f` in a cancel scope; `None` if that has caught its cancellation.
#[inline]
pub(super) fn in_scope<T>(kind: Kind, f: impl FnOnce() -> T) -> Option<T> {
    let entered = park::enter_scope(kind);
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    leave(entered, result)
}

/// Leaves a cancel scope with the result of what was run in it.
#[inline]
fn leave<T>(entered: Entered, result: super::Result<T>) -> Option<T> {
    match (entered.leave(), result) {
        (Ok(_), Ok(value)) => Some(value),
        (Ok(true), Err(payload)) if is_cancellation(&*payload) => None,
        (_, Err(payload)) => panic::resume_unwind(payload),
        (Err(_), Ok(_)) => panic!(
            "a generator was suspended inside of a time-out or a cancel scope that it had opened, and resumed by another thread; \
             do not yield inside of a cancel scope (PEP 789 tells why)"
        ),
    }
}

/// Whether a payload is that of a cancellation of the calling thread. One that another thread's
/// code has caught and rethrown here is a panic.
#[inline]
pub(super) fn is_cancellation(payload: &(dyn Any + Send)) -> bool {
    payload
        .downcast_ref::<CancelUnwind>()
        .is_some_and(|cancel| cancel.is_of(park::thread_id()))
}
