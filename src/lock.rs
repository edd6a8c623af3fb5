//! A mutual-exclusion lock without poisoning, for the short critical sections of the library itself.
//!
//! No user code ever runs under a [`Lock`], and nothing parks under one, so a panic cannot leave its value half changed
//! and the holder cannot be descheduled by us. It is also the one place where the synchronisation primitives can be
//! exchanged for a model checker's.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// `std::sync::Mutex` whose `lock` cannot fail.
pub(crate) struct Lock<T: ?Sized>(Mutex<T>);

pub(crate) type LockGuard<'a, T> = MutexGuard<'a, T>;

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Lock<T> {
        Lock(Mutex::new(value))
    }
}

impl<T: ?Sized> Lock<T> {
    pub(crate) fn lock(&self) -> LockGuard<'_, T> {
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
