//! Whether the calling thread unwinds, as far as std can tell.
//!
//! std counts panics per OS thread. A generator's body that is abandoned in the middle of its unwinding never counts down again, and
//! std has no way to do it for it. From then on `std::thread::panicking` is always true on that OS thread and says nothing: then we go by
//! the rule that hardly ever is anybody unwinding.

use std::cell::Cell;
use std::thread;

thread_local! {
    static STUCK: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling OS thread unwinds: the caller itself, or a neighbour that is suspended in the middle of it.
#[inline(always)]
pub(crate) fn is_unwinding() -> bool {
    thread::panicking() && !is_stuck()
}

/// Whether std's count can no longer be believed on this OS thread.
#[cold]
pub(crate) fn is_stuck() -> bool {
    STUCK.get()
}

/// Notes that a body is left behind in the middle of its unwinding.
pub(crate) fn set_stuck() {
    STUCK.set(true);
}
