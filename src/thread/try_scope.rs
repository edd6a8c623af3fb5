//! Scopes whose threads may fail: the first failure cancels the others, and none is lost.
//!
//! What a thread fails with outlives the scope, as what it borrows does:
//! ```compile_fail,E0597
//! let failed = hebra::thread::try_scope(|s| {
//!     let local = String::from("mine");
//!     let borrowed: &str = &local;
//!     s.spawn(move || Err::<(), _>(borrowed));
//!     Ok(())
//! });
//! ```

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::panic::{self, AssertUnwindSafe, Location};
use std::sync::Arc;

use super::cancel::{Cancelled, is_cancellation};
use super::family::{Family, spawn_borrowing};
use super::join::{conclude, wait_for};
use super::packet::{End, Outcome};
use super::{Builder, Thread};
use crate::lock::Lock;
use crate::park;
use crate::scheduler::scopes::{Kind, Switch};
use crate::scheduler::task::{Start, TaskRef};
use crate::scheduler::worker;
use crate::unwinding::{discard, message};

/// How a thread of a [`try_scope`], or its closure, failed.
pub enum Failure<E> {
    /// It returned this error.
    Error(E),
    /// It panicked with this payload; or there was no stack for it, and this is the [`io::Error`]
    /// that says so.
    Panic(Box<dyn Any + Send>),
}

/// Why a [`try_scope`] failed: every failure, in the order in which they came about. There is at
/// least one.
#[derive(Debug)]
pub struct ScopeError<E> {
    failures: Vec<Failure<E>>,
}

/// A scope to spawn green threads in that may fail; see [`try_scope`].
pub struct TryScope<'scope, 'env: 'scope, E> {
    shared: Arc<Shared<E>>,
    /// Invariant, as in std: or `'scope` could shrink to less than the scope lasts.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// Owns the right to join a green thread of a [`try_scope`]. Dropped, the scope joins it.
pub struct TryScopedJoinHandle<'scope, T> {
    thread: Thread,
    outcome: Arc<Outcome<T>>,
    scope: PhantomData<&'scope ()>,
}

struct Shared<E> {
    family: Arc<Family>,
    failures: Lock<Vec<Failure<E>>>,
    /// Cancels the closure.
    switch: Arc<Switch>,
    /// The green thread that runs it.
    parent: Option<TaskRef>,
    at: &'static Location<'static>,
}

impl<E> Shared<E> {
    fn fail(&self, failure: Failure<E>) {
        let mut failures = self.failures.lock();
        failures.push(failure);
        let first = failures.len() == 1;
        // Before anybody can learn of a failure, or be cancelled because of it: whoever joins that
        // one asks whether to unwind.
        self.switch.turn();
        drop(failures);
        if first {
            self.family.cancel(self.at);
            if let Some(parent) = &self.parent {
                worker::tell_cancelled(parent);
            }
        }
    }
}

/// Runs `f`, in which green threads can be spawned that borrow what outlives the call and may fail,
/// and waits for all of them.
///
/// The first that returns an `Err` or panics, `f` included, cancels the others and `f`. What it
/// returns is the value of `f` if nobody failed, and else every failure, the first one first. (In
/// Trio this is a nursery, in Go an `errgroup`.)
///
/// ```
/// use std::time::Duration;
/// use hebra::thread;
///
/// hebra::run(|| {
///     let result: Result<(), _> = thread::try_scope(|s| {
///         s.spawn(|| Err::<(), _>("the disk is full"));
///         s.spawn(|| {
///             thread::sleep(Duration::from_secs(3600));
///             Ok(())
///         });
///         thread::sleep(Duration::from_secs(3600));
///         Ok(())
///     });
///     assert_eq!(result.unwrap_err().to_string(), "the disk is full");
/// });
/// ```
///
/// # Cancellation
/// If the calling thread is cancelled, in `f` or while it waits, so are the threads of the scope;
/// it waits for them all the same. When they have ended, a cancellation that was met in `f`
/// continues, and the failures are dropped; one that was met while waiting continues unless there
/// are failures to return.
///
/// # Errors
/// Every failure.
#[track_caller]
pub fn try_scope<'env, F, T, E>(f: F) -> Result<T, ScopeError<E>>
where
    F: for<'scope> FnOnce(&'scope TryScope<'scope, 'env, E>) -> Result<T, E>,
{
    // As in `scope`.
    park::charge_or_yield();
    let at = Location::caller();
    let shared = Arc::new(Shared {
        family: Arc::default(),
        failures: Lock::new(Vec::new()),
        switch: Arc::default(),
        parent: worker::with(|_, task| task.clone()),
        at,
    });
    let scope = TryScope {
        shared: shared.clone(),
        scope: PhantomData,
        env: PhantomData,
    };
    let entered = park::enter_scope(Kind::Switch(shared.switch.clone()));
    let result = panic::catch_unwind(AssertUnwindSafe(|| f(&scope)));
    let mut value = None;
    let mut cancellation = None;
    match result {
        Ok(Ok(returned)) => value = Some(returned),
        Ok(Err(error)) => shared.fail(Failure::Error(error)),
        Err(payload) if is_cancellation(&*payload) => {
            shared.family.cancel(at);
            cancellation = Some(payload);
        }
        Err(payload) => shared.fail(Failure::Panic(payload)),
    }
    let cut_short = shared.family.wait(at);
    let catches = entered.leave().is_ok_and(|catches| catches);
    let failures = std::mem::take(&mut *shared.failures.lock());
    match (cancellation, value) {
        (Some(payload), _) if !catches => {
            discard(failures);
            panic::resume_unwind(payload)
        }
        (_, Some(value)) if failures.is_empty() => {
            if cut_short {
                park::cancel_point();
            }
            Ok(value)
        }
        _ => Err(ScopeError { failures }),
    }
}

impl<'scope, E: Send + 'scope> TryScope<'scope, '_, E> {
    /// Spawns a green thread that may borrow what outlives the scope. If it fails, everybody else
    /// is cancelled.
    ///
    /// # Panics
    /// As [`spawn`](super::spawn).
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, f: F) -> TryScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> Result<T, E> + Send + 'scope,
        T: Send + 'scope,
    {
        self.spawn_with(Builder::new(), f)
            .expect("failed to spawn a green thread")
    }

    /// Spawns a green thread that `builder` describes; see [`spawn`](TryScope::spawn).
    ///
    /// # Errors
    /// As [`Builder::spawn`].
    ///
    /// # Panics
    /// Panics outside a runtime.
    #[track_caller]
    pub fn spawn_with<F, T>(
        &'scope self,
        builder: Builder,
        f: F,
    ) -> io::Result<TryScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> Result<T, E> + Send + 'scope,
        T: Send + 'scope,
    {
        let outcome = Arc::new(Outcome::pending());
        let (filled, shared) = (outcome.clone(), self.shared.clone());
        let body = move |start: Start| {
            let failed = || Err(Box::new(Cancelled::at(Some(shared.at))) as _);
            let result = match conclude(start, f) {
                Ok(Ok(value)) => Ok(value),
                Ok(Err(error)) => {
                    shared.fail(Failure::Error(error));
                    failed()
                }
                Err(payload) if payload.is::<Cancelled>() => Err(payload),
                Err(payload) => {
                    shared.fail(Failure::Panic(payload));
                    failed()
                }
            };
            filled.put(result);
            // If the handle is gone the result is dropped here, while what it borrows is there; so
            // it is with the errors.
            discard(filled);
            discard(shared);
        };
        // SAFETY: `try_scope` returns only when the family is empty, and what has the lifetime
        // `'scope` outlives that call.
        let task =
            unsafe { spawn_borrowing(&self.shared.family, builder, Location::caller(), body)? };
        Ok(TryScopedJoinHandle {
            thread: Thread::green(task),
            outcome,
            scope: PhantomData,
        })
    }
}

impl<T> TryScopedJoinHandle<'_, T> {
    /// Waits for the thread to end and returns its value.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point. If the thread has failed its scope is
    /// cancelled, so this unwinds to there.
    ///
    /// # Errors
    /// The thread was cancelled; or it failed, and the caller cannot unwind, as it does so already.
    pub fn join(self) -> Result<T, Cancelled> {
        park::charge_or_yield();
        wait_for(&*self.outcome, || self.thread.record().id_word()).map_err(|payload| {
            // Word of the failure may be on its way from another worker.
            park::learn_cancellation();
            park::cancel_point();
            payload
                .downcast_ref()
                .copied()
                .unwrap_or(Cancelled::at(None))
        })
    }

    /// Returns whether the thread has ended, without waiting: `join` will return at once.
    pub fn is_finished(&self) -> bool {
        self.outcome.has_come()
    }

    /// Returns the thread's handle.
    pub fn thread(&self) -> &Thread {
        &self.thread
    }

    /// Cancels the thread alone, which is no failure; see
    /// [`JoinHandle::cancel`](super::JoinHandle::cancel).
    #[track_caller]
    pub fn cancel(&self) {
        worker::cancel(self.thread.record(), Location::caller());
    }
}

impl<E> ScopeError<E> {
    /// Returns the failure that came first and cancelled the others.
    pub fn first(&self) -> &Failure<E> {
        self.failures
            .first()
            .expect("there is at least one failure")
    }

    /// Returns all failures, the first one first.
    pub fn failures(&self) -> &[Failure<E>] {
        &self.failures
    }

    /// Returns all failures, the first one first.
    pub fn into_failures(self) -> Vec<Failure<E>> {
        self.failures
    }
}

impl<E: fmt::Display> fmt::Display for ScopeError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first().fmt(f)?;
        match self.failures.len() - 1 {
            0 => Ok(()),
            others => write!(f, " (and {others} more)"),
        }
    }
}

impl<E: Error> Error for ScopeError<E> {}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Error(error) => error.fmt(f),
            Failure::Panic(payload) => write!(f, "panicked: {}", message(&**payload)),
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Error(error) => f.debug_tuple("Error").field(error).finish(),
            Failure::Panic(payload) => f.debug_tuple("Panic").field(&message(&**payload)).finish(),
        }
    }
}

impl<E> fmt::Debug for TryScope<'_, '_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryScope").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for TryScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryScopedJoinHandle")
            .field("thread", &self.thread())
            .finish_non_exhaustive()
    }
}
