//! The panic count of a green thread and of a generator's body: std's, taken from the OS thread
//! while other code runs there.
//!
//! std counts panics per OS thread. A green thread that parks in a destructor while it unwinds
//! would leave its count behind, and to its neighbours it would look as if they panicked: their
//! guards would poison std's locks and ours where nothing is wrong, and not poison them where
//! something is. So a green thread that suspends while it unwinds has its count taken away from the
//! OS thread, and gets it back when it is resumed. Then `std::thread::panicking` is exact for every
//! green thread.
//!
//! The same holds for code that an unwinding thread calls and that has a stack of its own: the body
//! of a generator that a destructor resumes or drops, and a runtime that a destructor runs. The
//! caller's count is [taken](take) while they run. Only so can a body's own unwinding be told from
//! its resumer's, which decides whether it may yield.
//!
//! std has no way to set the count: a panic adds one where it begins, and takes one away where it
//! is caught. A [`Weight`] is a closure on a stack of its own that does both for ever, and stops in
//! between:
//!
//! ```text
//!           raise: +1 on the OS thread that does it
//!   light -------------------------------------------> heavy: it stands in a destructor, in the middle of an unwinding
//!     ^                                                   |
//!     +---------------------------------------------------+
//!           drop: -1 on the OS thread that does it
//! ```
//!
//! To take one away from a count one drops a weight that is heavy already; to give it back one
//! raises that weight again. The first time there is none: then an OS thread of our own raises one,
//! and ends. Its count goes with it.
//!
//! # Why a stack may move here
//!
//! That first raise and the drop happen on two OS threads, which law 2 forbids to green threads:
//! their code, or the compiler, may keep the address of a thread-local across a suspension. On a
//! weight's stack there are three functions of ours, and none of them looks at a thread-local both
//! before and after a suspension: [`raise`] adds and does not come back, [`dip`] takes away at its
//! very end, and the closure around it does neither. None is inlined into another, so the compiler
//! cannot bring the two together, be it at link time.
//!
//! Nor does an unwinding keep anything per OS thread but that count. Between two frames the
//! unwinder's own state is in the exception object, on the heap; it leaves none of its frames
//! behind when it enters a destructor. C++'s stack of caught exceptions is not in use.

use std::convert::Infallible;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::thread;

use crate::coroutine::{Coroutine, Yielder};
use crate::lock::Lock;
use crate::stack;
use crate::unwinding::is_unwinding;

const STACK_SIZE: usize = 64 << 10;

/// See the module.
struct Weight(Coroutine<(), (), ()>);

// SAFETY: the closure captures nothing, and nothing on its stack is bound to an OS thread while it
// is suspended; see the module.
unsafe impl Send for Weight {}

/// Heavy weights that wait for their turn. They are few, and never freed: a coroutine that is
/// suspended must not be.
static HEAVY: Lock<Vec<Weight>> = Lock::new(Vec::new());

/// A count that was taken: as many light weights. Its drop gives the count back, and belongs to the
/// OS thread on which it was taken.
pub(crate) struct Taken(Vec<Weight>);

/// Stops in the middle of an unwinding.
struct Stop<'a>(&'a Yielder<(), ()>);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.suspend(());
    }
}

/// Unwinds, and stops in the middle.
#[inline(never)] // See the module.
fn dip(yielder: &Yielder<(), ()>) {
    let unwound = panic::catch_unwind(AssertUnwindSafe(|| {
        let _stop = Stop(yielder);
        raise()
    }));
    match unwound {
        Ok(never) => match never {},
        Err(payload) => drop(payload),
    }
}

#[inline(never)] // See the module.
fn raise() -> Infallible {
    panic::resume_unwind(Box::new(()))
}

impl Weight {
    /// Raises a weight on an OS thread of its own. `None` if the system refuses that or a stack.
    fn heavy() -> Option<Weight> {
        let raise = || {
            let stack = stack::acquire(STACK_SIZE).ok()?;
            let mut weight = Weight(Coroutine::new(stack, |yielder, ()| {
                loop {
                    dip(yielder);
                    yielder.suspend(());
                }
            }));
            weight.swing();
            Some(weight)
        };
        thread::Builder::new()
            .name("hebra-panic-count".into())
            .spawn(raise)
            .ok()?
            .join()
            .ok()?
    }

    /// Raises it if it is light, drops it if it is heavy.
    fn swing(&mut self) {
        self.0.resume(());
    }
}

/// Takes the calling thread's panic count from the OS thread. If the system lacks the means it
/// stays: then [`is_unwinding`] is true afterwards, and the neighbours see it.
#[cold]
#[inline(never)]
pub(crate) fn take() -> Taken {
    let mut taken = Vec::new();
    // Where a panic aborts, only a panic hook runs while `panicking` is true, and no weight can be
    // raised.
    while cfg!(panic = "unwind") && is_unwinding() {
        let heavy = HEAVY.lock().pop();
        let Some(mut weight) = heavy.or_else(Weight::heavy) else {
            break;
        };
        weight.swing();
        taken.push(weight);
    }
    Taken(taken)
}

impl Taken {
    /// Gives the count back to the OS thread on which it was taken.
    #[cold]
    #[cfg(feature = "runtime")]
    pub(crate) fn give_back(self) {}

    /// Keeps the count from the OS thread for good: what it belongs to is never run again.
    pub(crate) fn keep(self) {
        mem::forget(self);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        for mut weight in self.0.drain(..) {
            weight.swing();
            HEAVY.lock().push(weight);
        }
    }
}
