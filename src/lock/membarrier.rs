//! Asymmetric fences: nothing but order to the compiler on the side that is met often, a system
//! call on the other.
//!
//! Of two threads that each write a word and then look at the other's, at least one sees what the
//! other has written if there is a fence between the two steps of each (Dekker). A fence costs as
//! much as a compare-exchange, and here only the rare side pays: Linux's `membarrier` has every
//! processor that runs a thread of this process pass a full fence before it returns, wherever that
//! thread has got to. So to the thread it is as if its own fence had been a real one. (The scheme
//! is that of Dice, Huang and Yang, *Asymmetric Dekker Synchronization*, 2001; C++'s proposal P1202
//! has the two as `asymmetric_thread_fence_light` and `_heavy`.)

use std::sync::atomic::{AtomicBool, Ordering, compiler_fence};
use std::sync::{Condvar, Mutex, PoisonError};

static AVAILABLE: AtomicBool = AtomicBool::new(false);

/// Makes the fences available, if the system has them. It takes some ten milliseconds, once, in a
/// process that has many threads already.
pub(crate) fn prepare() {
    if !AVAILABLE.load(Ordering::Relaxed) && system::register() {
        AVAILABLE.store(true, Ordering::Relaxed);
    }
}

/// Whether [`heavy_fence`] can be called. It says no until [`prepare`] was called, and yes for ever
/// afterwards.
#[inline]
pub(crate) fn is_available() -> bool {
    AVAILABLE.load(Ordering::Relaxed)
}

/// The fence of the side that is met often.
#[inline(always)]
pub(crate) fn light_fence() {
    compiler_fence(Ordering::SeqCst);
}

/// The fence of the other side: a microsecond, more or less.
#[cold]
pub(crate) fn heavy_fence() {
    system::fence();
}

/// What they sleep on who wait for the side that is met often. There is one for all, as hardly
/// anybody ever does.
static CHANGED: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());

/// Sleeps until `is_so`, which is asked again after each [`announce`].
#[cold]
pub(crate) fn wait_until(is_so: impl Fn() -> bool) {
    if !is_so() {
        let (mutex, changed) = &CHANGED;
        let guard = mutex.lock().unwrap_or_else(PoisonError::into_inner);
        drop(
            changed
                .wait_while(guard, |()| !is_so())
                .unwrap_or_else(PoisonError::into_inner),
        );
    }
}

/// Wakes who sleeps in [`wait_until`], for what was written before.
#[cold]
#[inline(never)]
pub(crate) fn announce() {
    let (mutex, changed) = &CHANGED;
    drop(mutex.lock().unwrap_or_else(PoisonError::into_inner));
    changed.notify_all();
}

#[cfg(target_os = "linux")]
mod system {
    use rustix::thread::{MembarrierCommand, membarrier};

    use crate::report::say;

    /// The system may be too old, or a filter of system calls in the way.
    pub(super) fn register() -> bool {
        membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
    }

    pub(super) fn fence() {
        // Whoever forks after all has to register again. Who is filtered from now on must not go on
        // as if there had been a fence; nor may it unwind, as others would go on.
        let again = || register() && membarrier(MembarrierCommand::PrivateExpedited).is_ok();
        if membarrier(MembarrierCommand::PrivateExpedited).is_err() && !again() {
            say(format_args!(
                "the system call membarrier worked before and does not any more (is there a seccomp filter?)"
            ));
            std::process::abort();
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub(super) fn register() -> bool {
        false
    }

    pub(super) fn fence() {
        unreachable!("nobody relies on it where it is not available");
    }
}
