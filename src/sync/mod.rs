//! Locks and their kin, with the API of [`std::sync`].
//!
//! They work between green threads of one worker or of several, and OS threads, in any mixture, and
//! each wait can be given a time-out. What needs no waiting is std's own, and is exported here so
//! that `std::sync` in a path can be replaced by `hebra::sync`.
//!
//! # Fairness
//!
//! Each object has one queue, first come first served, and a thread that waits is parked. (Before an
//! OS thread sleeps for the few instructions in which another changes such a queue, it may spin for
//! a microsecond.) Giving up, by a time-out or a cancellation, costs the same however long the queue
//! is.
//!
//! | Object | A thread that arrives while others wait | When it becomes free |
//! |---|---|---|
//! | [`Mutex`] | may overtake in the two cases below | the first in the queue is woken, and it is reserved for that one or may be overtaken for a while |
//! | [`RwLock`] | waits, a reader, too | it is handed to the first writer, or to all readers at the front |
//! | [`Semaphore`] | waits | permits are handed to the first, if there are enough for it |
//! | [`Condvar`] | | the first is notified; then it waits for the mutex like any other thread |
//!
//! A [`Mutex`] is reserved for the first in the queue if that is a green thread of the worker that
//! unlocks: so threads of one worker get it in turn. It may be overtaken by threads that arrive
//! before it runs:
//!
//! - 256 times, if it lives on that worker, but the queue has not been empty for 64 turns;
//! - 4,096 times, if it lives on another worker, or is an OS thread: a wake-up takes microseconds,
//!   in which the mutex would be idle.
//!
//! A thread that has been woken in vain is the first in the queue again, and the third time the
//! mutex is reserved for it. So a waiter is overtaken some 8,200 times at most for each turn of its
//! own. The worker of a woken thread may be busy: then threads of *other* workers take the mutex
//! after some 2 to 6 milliseconds, reserved or not, and it waits again as the first; threads of the
//! busy worker wait until that is free. To that end a thread of each worker in the queue is woken
//! from time to time, too, and the first of them to run has the mutex.
//!
//! [`RwLock`] and [`Semaphore`] hand over for good: if the worker of the next thread is busy, that
//! thread has the lock, or the permits, until it runs and gives them back, and the others wait.
//!
//! Beyond std there are [`Semaphore`], [`WaitGroup`], [`Event`] and [`oneshot`].
//!
//! # Poisoning
//!
//! A [`Mutex`] or a [`RwLock`] is poisoned by a thread that panics while it holds it, not by one
//! that is cancelled: its destructors have run, and it was stopped where it waited, not where it
//! failed.

mod barrier;
mod baton;
mod condvar;
mod event;
mod gate;
mod lazy_lock;
pub mod mpsc;
#[allow(unsafe_code)]
mod mutex;
mod once;
mod once_lock;
pub mod oneshot;
mod patience;
mod poison;
#[allow(unsafe_code)]
mod rwlock;
mod semaphore;
mod wait_group;

pub use std::sync::{Arc, LockResult, PoisonError, TryLockError, TryLockResult, Weak, atomic};

pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use event::Event;
pub use lazy_lock::LazyLock;
pub use mutex::{Mutex, MutexGuard};
#[expect(deprecated, reason = "as in std")]
pub use once::ONCE_INIT;
pub use once::{Once, OnceState};
pub use once_lock::OnceLock;
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{AcquireTimeoutError, Closed, OwnedPermit, Permit, Semaphore, TryAcquireError};
pub use wait_group::WaitGroup;
