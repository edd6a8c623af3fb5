//! Locks and their kin, with the API of [`std::sync`].
//!
//! They work between green threads of one worker or of several, and OS threads, in any mixture. Who
//! waits is served in turn, nobody spins, and whatever waits can be given a time-out. What needs no
//! waiting is std's own, and stands here so that `std::sync` in a path can be replaced by
//! `hebra::sync`.
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
