//! Scoped threads: green threads that borrow from whoever has spawned them, with the API of
//! [`std::thread::scope`].
//!
//! # What must not compile
//!
//! What is borrowed outlives the scope, and not only the closure that spawns:
//! ```compile_fail,E0373
//! hebra::thread::scope(|s| {
//!     let local = 7;
//!     s.spawn(|| local + 1);
//! });
//! ```
//! ```compile_fail,E0597
//! hebra::thread::scope(|s| {
//!     let local = 7;
//!     let borrowed = &local;
//!     s.spawn(move || borrowed + 1);
//! });
//! ```
//! Neither a handle nor the scope leaves the scope:
//! ```compile_fail
//! let handle = hebra::thread::scope(|s| s.spawn(|| 7));
//! ```
//! ```compile_fail,E0521
//! let mut escaped = None;
//! hebra::thread::scope(|s| escaped = Some(s));
//! ```
//! Two threads do not change the same thing, nor does anybody else while they may:
//! ```compile_fail,E0499
//! let mut count = 0;
//! hebra::thread::scope(|s| {
//!     s.spawn(|| count += 1);
//!     s.spawn(|| count += 1);
//! });
//! ```
//! ```compile_fail,E0506
//! let mut count = 0;
//! hebra::thread::scope(|s| {
//!     let first = s.spawn(|| println!("{count}"));
//!     count = 1;
//! });
//! ```
//! And they need not run on the worker that has spawned them:
//! ```compile_fail,E0277
//! let shared = std::rc::Rc::new(7);
//! hebra::thread::scope(|s| drop(s.spawn(|| *shared)));
//! ```

use crate::atomic::{AtomicUsize, Ordering};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::panic::{self, AssertUnwindSafe, Location};
use std::sync::Arc;

use super::cancel::{Cancelled, is_cancellation};
use super::family::{Family, spawn_alone, spawn_borrowing};
use super::join::{JoinHandle, conclude, wait_for};
use super::packet::{End, Outcome};
use super::{Builder, Result, Thread};
use crate::park;
use crate::scheduler::task::Start;
use crate::scheduler::worker;
use crate::unwinding::discard;

/// A scope to spawn green threads in; see [`scope`].
pub struct Scope<'scope, 'env: 'scope> {
    family: Arc<Family>,
    /// Panics of threads that nobody has joined.
    panics: Arc<AtomicUsize>,
    /// Invariant, as in std: or `'scope` could shrink to less than the scope lasts.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// Owns the right to join a scoped green thread; see [`scope`]. Dropped, the scope joins it.
pub struct ScopedJoinHandle<'scope, T> {
    thread: Thread,
    outcome: Arc<Outcome<T>>,
    panics: Arc<AtomicUsize>,
    scope: PhantomData<&'scope ()>,
}

/// Runs `f`, in which green threads can be spawned that borrow what outlives the call, and waits
/// for all of them, as [`std::thread::scope`] does.
///
/// They run on any worker. Whoever is not joined when `f` returns or panics is joined then. If the
/// calling thread is cancelled, in `f` or while it waits, so are the threads of the scope; it waits
/// for them all the same.
///
/// ```
/// hebra::run(|| {
///     let words = vec!["strand", "of", "thread"];
///     let mut longest = "";
///     let lengths = hebra::thread::scope(|s| {
///         let lengths = s.spawn(|| words.iter().map(|word| word.len()).sum::<usize>());
///         s.spawn(|| longest = words.iter().max_by_key(|word| word.len()).unwrap());
///         lengths.join().unwrap()
///     });
///     assert_eq!((lengths, longest.len()), (14, 6));
/// });
/// ```
///
/// # Cancellation
/// A cancel point when it is called and when it ends. The threads end before the call does, come what may: a thread that does not react to being
/// cancelled holds it up. When they have ended the cancellation continues, whether it was met in
/// `f` or while waiting for them: the value of `f` would say that they are done.
///
/// # Panics
/// Continues a panic of `f`. Panics if a thread of the scope panicked and was not joined.
#[track_caller]
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    // Before there is anything to wait for: an empty scope does not park.
    park::charge_or_yield();
    let at = Location::caller();
    let scope = Scope {
        family: Arc::default(),
        panics: Arc::default(),
        scope: PhantomData,
        env: PhantomData,
    };
    let result = panic::catch_unwind(AssertUnwindSafe(|| f(&scope)));
    if result
        .as_ref()
        .is_err_and(|payload| is_cancellation(&**payload))
    {
        scope.family.cancel(at);
    }
    let cut_short = scope.family.wait(at);
    match result {
        Err(payload) => panic::resume_unwind(payload),
        Ok(_) if scope.panics.load(Ordering::Relaxed) > 0 => panic!("a scoped thread panicked"),
        Ok(value) => {
            if cut_short {
                park::cancel_point();
            }
            value
        }
    }
}

impl<'scope, 'env> Scope<'scope, 'env> {
    /// Spawns a green thread that may borrow what outlives the scope.
    ///
    /// # Panics
    /// As [`spawn`](super::spawn).
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        Builder::new()
            .spawn_scoped(self, f)
            .expect("failed to spawn a green thread")
    }
}

impl Builder {
    /// Spawns a green thread in a scope; see [`scope`](fn@super::scope).
    ///
    /// # Errors
    /// As [`Builder::spawn`].
    ///
    /// # Panics
    /// Panics outside a runtime.
    #[track_caller]
    pub fn spawn_scoped<'scope, 'env, F, T>(
        self,
        scope: &'scope Scope<'scope, 'env>,
        f: F,
    ) -> io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        let outcome = Arc::new(Outcome::pending());
        let (filled, panics) = (outcome.clone(), scope.panics.clone());
        let body = move |start: Start| {
            let result = conclude(start, f);
            if result
                .as_ref()
                .is_err_and(|payload| !payload.is::<Cancelled>())
            {
                panics.fetch_add(1, Ordering::Relaxed);
            }
            filled.put(result);
            // If the handle is gone the result is dropped here, while what it borrows is there.
            discard(filled);
        };
        // SAFETY: `scope` returns only when the family is empty, and what has the lifetime `'scope`
        // outlives that call.
        let task = unsafe { spawn_borrowing(&scope.family, self, Location::caller(), body)? };
        Ok(ScopedJoinHandle {
            thread: Thread::green(task),
            outcome,
            panics: scope.panics.clone(),
            scope: PhantomData,
        })
    }
}

impl Builder {
    /// Spawns a green thread that may borrow, and that nobody waits for, as
    /// [`std::thread::Builder::spawn_unchecked`].
    ///
    /// # Errors
    /// As [`Builder::spawn`].
    ///
    /// # Panics
    /// Panics outside a runtime.
    ///
    /// # Safety
    /// The thread must be joined before anything ends that `f` or its result borrows; a cancelled
    /// [`join`](JoinHandle::join) has not joined it, and a runtime that ends may leave stragglers.
    /// Or nothing borrowed may be used after it has ended.
    #[track_caller]
    pub unsafe fn spawn_unchecked<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        let outcome = Arc::new(Outcome::pending());
        let filled = outcome.clone();
        let body = move |start: Start| filled.put(conclude(start, f));
        // SAFETY: the caller's promise is what is asked for here.
        let task = unsafe { spawn_alone(self, Location::caller(), body)? };
        Ok(JoinHandle::local(task, outcome))
    }
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits for the thread to end and returns its result.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point, and then the scope joins the thread.
    ///
    /// # Errors
    /// As [`JoinHandle::join`](super::JoinHandle::join).
    pub fn join(self) -> Result<T> {
        park::charge_or_yield();
        let result = wait_for(&*self.outcome, || self.thread.record().id_word());
        if result
            .as_ref()
            .is_err_and(|payload| !payload.is::<Cancelled>())
        {
            self.panics.fetch_sub(1, Ordering::Relaxed);
        }
        result
    }

    /// Returns whether the thread has ended, without waiting: `join` will return at once.
    pub fn is_finished(&self) -> bool {
        self.outcome.has_come()
    }

    /// Returns the thread's handle.
    pub fn thread(&self) -> &Thread {
        &self.thread
    }

    /// Cancels the thread; see [`JoinHandle::cancel`](super::JoinHandle::cancel).
    #[track_caller]
    pub fn cancel(&self) {
        worker::cancel(self.thread.record(), Location::caller());
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedJoinHandle").finish_non_exhaustive()
    }
}
