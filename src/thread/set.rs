//! [`JoinSet`]: green threads that are joined in the order in which they end.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::Location;
use std::sync::Arc;

use super::family::{Family, spawn_member};
use super::join::conclude;
use super::{Builder, LARGE, Result, Thread};
use crate::lock::Lock;
use crate::park::{self, Wait};
use crate::report::say;
use crate::scheduler::task::{Reason, Start};
use crate::scheduler::wait_list::WaitList;
use crate::unwinding::discard;

/// A set of green threads that are joined in the order in which they end. Dropping it cancels those
/// that have not, and waits for them; to drop it in one of them is a panic.
///
/// ```
/// use std::time::Duration;
/// use hebra::thread::{self, JoinSet};
///
/// hebra::run(|| {
///     let mut set = JoinSet::new();
///     for n in [30, 10, 20] {
///         set.spawn(move || {
///             thread::sleep(Duration::from_millis(n));
///             n
///         });
///     }
///     let mut ended = Vec::new();
///     while let Some(result) = set.join_next() {
///         ended.push(result.unwrap());
///     }
///     assert_eq!(ended, [10, 20, 30]);
/// });
/// ```
pub struct JoinSet<T> {
    shared: Arc<Shared<T>>,
    /// Threads that have been spawned and not been joined.
    len: usize,
}

struct Shared<T> {
    family: Arc<Family>,
    ended: Lock<Ended<T>>,
}

struct Ended<T> {
    results: VecDeque<Result<T>>,
    /// The owner of the set, if it waits.
    waiting: WaitList,
}

impl<T> JoinSet<T> {
    /// Makes an empty set.
    pub fn new() -> JoinSet<T> {
        let ended = Lock::new(Ended {
            results: VecDeque::new(),
            waiting: WaitList::new(),
        });
        JoinSet {
            shared: Arc::new(Shared {
                family: Arc::default(),
                ended,
            }),
            len: 0,
        }
    }

    /// Returns how many threads have been spawned and not been joined, whether they have ended or
    /// not.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether all threads have been joined.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Waits for the next thread to end and returns its result; `None` if there are no more.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point. No result is lost.
    pub fn join_next(&mut self) -> Option<Result<T>> {
        park::charge_or_yield();
        while !self.is_empty() {
            let result = self.try_join_next();
            if result.is_some() {
                return result;
            }
            if park::cannot_wait() {
                self.len -= 1;
                return Some(Err(Box::new(super::Cancelled::at(None))));
            }
            let ended = &self.shared.ended;
            park::park_insistently(Reason::Join, None, None, |wait: &Wait<'_>| {
                let mut ended = ended.lock();
                if !ended.results.is_empty() {
                    return None;
                }
                ended.waiting.push(wait.waiter());
                Some(|wait: &Wait<'_>| self.shared.ended.lock().waiting.remove(wait))
            });
        }
        None
    }

    /// Returns the result of the next thread that has ended, without waiting.
    pub fn try_join_next(&mut self) -> Option<Result<T>> {
        let result = self.shared.ended.lock().results.pop_front();
        self.len -= usize::from(result.is_some());
        result
    }

    /// Cancels all threads; see [`JoinHandle::cancel`](super::JoinHandle::cancel). They are joined
    /// as ever, most of them with [`Cancelled`](super::Cancelled). Those that are spawned
    /// afterwards are not cancelled.
    #[track_caller]
    pub fn cancel_all(&self) {
        self.shared.family.cancel(Location::caller());
        self.shared.family.pardon();
    }
}

impl<T: Send + 'static> JoinSet<T> {
    /// Spawns a green thread that belongs to the set.
    ///
    /// # Panics
    /// As [`spawn`](super::spawn).
    #[track_caller]
    pub fn spawn<F>(&mut self, f: F) -> Thread
    where
        F: FnOnce() -> T + Send + 'static,
    {
        self.spawn_with(Builder::new(), f)
            .expect("failed to spawn a green thread")
    }

    /// Spawns a green thread that `builder` describes.
    ///
    /// # Errors
    /// As [`Builder::spawn`].
    ///
    /// # Panics
    /// Panics outside a runtime.
    #[track_caller]
    pub fn spawn_with<F>(&mut self, builder: Builder, f: F) -> io::Result<Thread>
    where
        F: FnOnce() -> T + Send + 'static,
    {
        if size_of::<F>() > LARGE {
            return self.spawn_small(builder, Box::new(f));
        }
        self.spawn_small(builder, f)
    }

    #[track_caller]
    fn spawn_small<F>(&mut self, builder: Builder, f: F) -> io::Result<Thread>
    where
        F: FnOnce() -> T + Send + 'static,
    {
        let shared = self.shared.clone();
        let body = move |start: Start| {
            let result = conclude(start, f);
            let mut ended = shared.ended.lock();
            ended.results.push_back(result);
            ended.waiting.wake_all();
            drop(ended);
            // Results that nobody has asked for, if the set was dropped by one of its threads.
            discard(shared);
        };
        let task = spawn_member(&self.shared.family, builder, Location::caller(), body)?;
        self.len += 1;
        Ok(Thread::green(task))
    }
}

impl<T> Default for JoinSet<T> {
    fn default() -> JoinSet<T> {
        JoinSet::new()
    }
}

impl<T> Drop for JoinSet<T> {
    #[track_caller]
    fn drop(&mut self) {
        let at = Location::caller();
        self.shared.family.cancel(at);
        if self.shared.family.includes_caller() {
            // Nothing is borrowed, so they may go on.
            let what = "a JoinSet was dropped by one of its own threads, which cannot wait for its own end; nobody waits for the others";
            if std::thread::panicking() {
                return say(format_args!("{what}"));
            }
            panic!("{what}");
        }
        if park::cannot_wait() {
            // They may never end, and have borrowed nothing.
            return;
        }
        self.shared.family.wait(at);
        let results = std::mem::take(&mut self.shared.ended.lock().results);
        for result in results {
            discard(result);
        }
    }
}

impl<T> fmt::Debug for JoinSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinSet")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
