//! The panic count of a green thread: std's, taken along when the thread parks in the middle of its unwinding.
//!
//! std counts panics per OS thread. A green thread that parks in a destructor while it unwinds would leave its count behind, and to its
//! neighbours it would look as if they panicked: their guards would poison std's locks and ours where nothing is wrong, and not poison
//! them where something is. So whoever suspends while it unwinds has its count taken away from the OS thread, and gets it back when it
//! is resumed. Then `std::thread::panicking` is exact for every green thread.
//!
//! std has no way to set the count: a panic adds one where it begins, and takes one away where it is caught. A [`Weight`] is a closure on
//! a stack of its own that does both for ever, and stops in between:
//!
//! ```text
//!           raise: +1 on the OS thread that does it
//!   light -------------------------------------------> heavy: it stands in a destructor, in the middle of an unwinding
//!     ^                                                   |
//!     +---------------------------------------------------+
//!           drop: -1 on the OS thread that does it
//! ```
//!
//! To take one away from a count one drops a weight that is heavy already; to give it back one raises that weight again. The first time
//! there is none: then an OS thread of our own raises one, and ends. Its count goes with it.
//!
//! # Why a stack may move here
//!
//! That first raise and the drop happen on two OS threads, which law 2 forbids to green threads: their code, or the compiler, may keep the
//! address of a thread-local across a suspension. On a weight's stack there are our closure, `catch_unwind` and the unwinder, and none of
//! them has looked at a thread-local that it looks at again: std adds and takes away in functions of its own, which are not inlined here.

use std::panic::{self, AssertUnwindSafe};
use std::thread;

use crate::coroutine::{Coroutine, Yielder};
use crate::lock::Lock;
use crate::stack;
use crate::unwinding::is_unwinding;

const STACK_SIZE: usize = 64 << 10;

/// See the module.
struct Weight(Coroutine<(), (), ()>);

// SAFETY: the closure captures nothing, and what is on its stack is bound to no OS thread; see the module.
unsafe impl Send for Weight {}

/// Heavy weights that wait for their turn. They are few, and never freed: a coroutine that is suspended must not be.
static HEAVY: Lock<Vec<Weight>> = Lock::new(Vec::new());

/// The count of a green thread that is suspended: as many light weights.
pub(crate) struct Taken(Vec<Weight>);

/// Stops in the middle of an unwinding.
struct Stop<'a>(&'a Yielder<(), ()>);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.suspend(());
    }
}

impl Weight {
    /// Raises a weight on an OS thread of its own. `None` if the system refuses that or a stack.
    fn heavy() -> Option<Weight> {
        let raise = || {
            let stack = stack::acquire(STACK_SIZE).ok()?;
            let mut weight = Weight(Coroutine::new(stack, |yielder, ()| {
                loop {
                    let raised = panic::catch_unwind(AssertUnwindSafe(|| {
                        let _stop = Stop(yielder);
                        panic::resume_unwind(Box::new(()));
                    }));
                    debug_assert!(raised.is_err(), "it unwinds");
                    yielder.suspend(());
                }
            }));
            weight.swing();
            Some(weight)
        };
        thread::Builder::new().name("hebra-panic-count".into()).spawn(raise).ok()?.join().ok()?
    }

    /// Raises it if it is light, drops it if it is heavy.
    fn swing(&mut self) {
        self.0.resume(());
    }
}

/// Takes the calling thread's panic count from the OS thread. If the system lacks the means it stays, and the neighbours see it.
#[cold]
pub(crate) fn take() -> Taken {
    let mut taken = Vec::new();
    while is_unwinding() {
        let heavy = HEAVY.lock().pop();
        let Some(mut weight) = heavy.or_else(Weight::heavy) else { break };
        weight.swing();
        taken.push(weight);
    }
    Taken(taken)
}

impl Taken {
    /// Gives the count back to the OS thread on which it was taken.
    #[cold]
    pub(crate) fn give_back(self) {
        for mut weight in self.0 {
            weight.swing();
            HEAVY.lock().push(weight);
        }
    }
}
