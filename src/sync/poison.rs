//! Poisoning: a lock remembers that a thread has panicked while it held it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LockResult, PoisonError};

use crate::park;

/// Whether a lock is poisoned.
#[derive(Debug)]
pub(super) struct Poison(AtomicBool);

/// What a guard remembers of the moment when it was taken: who unwinds already does not poison.
#[derive(Debug, Clone, Copy)]
pub(super) struct Since {
    unwinding: bool,
}

impl Since {
    #[inline]
    pub(super) fn now() -> Since {
        Since { unwinding: std::thread::panicking() }
    }
}

impl Poison {
    pub(super) const fn new() -> Poison {
        Poison(AtomicBool::new(false))
    }

    #[inline]
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Poisons the lock if the calling thread has begun to panic `since` then.
    #[inline]
    pub(super) fn note(&self, since: Since) {
        if !since.unwinding && std::thread::panicking() {
            self.note_unwinding();
        }
    }

    #[cold]
    fn note_unwinding(&self) {
        if park::is_panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Hands `guard` out, as an error if the lock is poisoned.
    #[inline]
    pub(super) fn judge<G>(&self, guard: G) -> LockResult<G> {
        if self.is_set() { Err(PoisonError::new(guard)) } else { Ok(guard) }
    }
}
