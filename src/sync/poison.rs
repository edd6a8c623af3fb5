//! Poisoning: a lock remembers that a thread has panicked while it held it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LockResult, PoisonError};
use std::thread::panicking;

use crate::park;

/// Whether a lock is poisoned.
#[derive(Debug)]
pub(super) struct Poison(AtomicBool);

/// Who holds a lock, and whether that thread was unwinding already when it took it: then it does
/// not poison.
///
/// One word, so that a guard fits into two registers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holder(u64);

const UNWINDING: u64 = 1 << 63;

impl Holder {
    /// The calling thread, whose id is `me`.
    #[inline]
    pub(super) fn new(me: u64) -> Holder {
        if panicking() {
            Holder(me | UNWINDING)
        } else {
            park::note_calm();
            Holder(me)
        }
    }

    #[inline]
    pub(super) fn id(self) -> u64 {
        self.0 & !UNWINDING
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
        if holder.0 & UNWINDING == 0 && park::is_panicking() {
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
