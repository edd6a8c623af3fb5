//! A mutual-exclusion lock without poisoning, for the short critical sections of the library
//! itself.
//!
//! No user code ever runs under a [`Lock`], and nothing parks under one, so a panic cannot leave
//! its value half changed and the holder cannot be descheduled by us. It is also the one place
//! where the synchronisation primitives can be exchanged for a model checker's.
//!
//! Two workers that use the same object all the time would wrest its lock from each other for every
//! operation, and to fetch a lock and what it guards from another processor takes ten times as long
//! as the operation. So who finds a lock held does not watch it, but keeps away: meanwhile the
//! other gets dozens of operations done. (Anderson, *The Performance of Spin Lock Alternatives*,
//! 1990.)

#[cfg(feature = "runtime")]
#[allow(unsafe_code)]
pub(crate) mod biased;
#[cfg(feature = "runtime")]
pub(crate) mod membarrier;
#[cfg(feature = "runtime")]
#[allow(unsafe_code)]
pub(crate) mod sync_cell;

use std::fmt;
use std::hint::spin_loop;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// For how many pauses of the processor who has found a lock held keeps away from it, at first:
/// some hundred nanoseconds to a microsecond.
const PAUSES: u32 = 32;
/// How often, each time for twice as long, before he sleeps.
const ROUNDS: u32 = 3;

/// `std::sync::Mutex` whose `lock` cannot fail.
pub(crate) struct Lock<T: ?Sized>(Mutex<T>);

pub(crate) type LockGuard<'a, T> = MutexGuard<'a, T>;

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Lock<T> {
        Lock(Mutex::new(value))
    }
}

impl<T: ?Sized> Lock<T> {
    #[inline]
    pub(crate) fn lock(&self) -> LockGuard<'_, T> {
        #[cfg(all(hebra_chaos, feature = "runtime"))]
        crate::atomic::delay();
        self.try_lock().unwrap_or_else(|| self.lock_contended())
    }

    #[inline]
    fn try_lock(&self) -> Option<LockGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Keeps away for a while, longer each time, and then sleeps.
    #[cold]
    #[inline(never)]
    fn lock_contended(&self) -> LockGuard<'_, T> {
        for round in 0..ROUNDS {
            (0..PAUSES << round).for_each(|_| spin_loop());
            if let Some(guard) = self.try_lock() {
                return guard;
            }
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Default> Default for Lock<T> {
    fn default() -> Lock<T> {
        Lock::new(T::default())
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lock { .. }")
    }
}
