//! Poisoning: a lock remembers that a thread has panicked while it held it.

use crate::atomic::{AtomicBool, Ordering};
use std::sync::{LockResult, PoisonError};
use std::thread::panicking;

use crate::park;

/// Whether a lock is poisoned.
#[derive(Debug)]
pub(super) struct Poison(AtomicBool);

/// Whether the thread that took a lock was unwinding already: then it does not poison. A guard may
/// be carried to another thread, so it does not say which thread that was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holder {
    unwinding: bool,
}

impl Holder {
    /// The calling thread.
    #[inline]
    pub(super) fn new() -> Holder {
        let unwinding = panicking();
        if !unwinding {
            park::note_calm();
        }
        Holder { unwinding }
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

    /// To be called before the lock is given up: poisons it if the calling thread has begun to
    /// panic since it is the holder.
    #[inline]
    pub(super) fn note(&self, holder: Holder) {
        if panicking() {
            self.note_unwinding(holder);
        }
    }

    #[cold]
    fn note_unwinding(&self, holder: Holder) {
        if !holder.unwinding && park::is_panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Hands `guard` out, as an error if the lock is poisoned.
    #[inline]
    pub(super) fn judge<G>(&self, guard: G) -> LockResult<G> {
        if self.is_set() {
            Err(PoisonError::new(guard))
        } else {
            Ok(guard)
        }
    }
}
