//! Whether the calling thread unwinds, as far as std can tell; and what to do with panics that are
//! nobody's.
//!
//! std counts panics per OS thread. A generator's body that is abandoned in the middle of its
//! unwinding never counts down again: its count is taken away (see `panic_count`). Where the system
//! refuses the means for that, `std::thread::panicking` is always true on that OS thread from then
//! on and says nothing: then we assume that nothing unwinds.

#[cfg(feature = "runtime")]
use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::OnceLock;
use std::thread;

thread_local! {
    static STUCK: Cell<bool> = const { Cell::new(false) };
    /// Of the OS thread's own code; a green thread has one in its record.
    static IN_DESTRUCTOR: Cell<bool> = const { Cell::new(false) };
}

/// Exchanges the flag of the calling thread if that is a green one. Set before the first green
/// thread runs.
static GREEN_FLAG: OnceLock<fn(bool) -> Option<bool>> = OnceLock::new();

/// Says how to reach the flag of [`set_in_destructor`] of a green thread.
#[cfg(feature = "runtime")]
pub(crate) fn use_green_flag(exchange: fn(bool) -> Option<bool>) {
    GREEN_FLAG.get_or_init(|| exchange);
}

/// Notes whether the calling thread runs the body of a generator that its unwinding has resumed, and
/// returns what was noted before.
///
/// The body does not unwind, and its panic count is 0. But a cancellation that unwound it would
/// come out of a destructor, which aborts: a cancel point there must report it instead.
#[cold]
pub(crate) fn set_in_destructor(value: bool) -> bool {
    let green = GREEN_FLAG.get().and_then(|exchange| exchange(value));
    green.unwrap_or_else(|| IN_DESTRUCTOR.replace(value))
}

/// What [`set_in_destructor`] has noted of the calling OS thread's own code.
#[cfg(feature = "runtime")]
pub(crate) fn is_os_in_destructor() -> bool {
    IN_DESTRUCTOR.get()
}

/// Whether the calling thread unwinds. See `panic_count` for its neighbours.
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

/// Runs `f`. A backtrace that std prints ends at a function of this name, unless
/// `RUST_BACKTRACE=full` asks for all of it: what is below belongs to the scheduler.
#[cfg(feature = "runtime")]
#[inline(never)]
pub(crate) fn __rust_begin_short_backtrace<T>(f: impl FnOnce() -> T) -> T {
    let result = f();
    // Or the call would be the last thing, and leave no frame.
    std::hint::black_box(());
    result
}

/// The payload that unwinds a cancelled thread. While it lives the thread unwinds because of it;
/// whoever swallows the unwinding drops it.
#[cfg(feature = "runtime")]
pub(crate) struct CancelUnwind {
    /// Told, with the id of the thread, when the unwinding is over.
    over: fn(u64),
    thread: u64,
}

#[cfg(feature = "runtime")]
impl CancelUnwind {
    pub(crate) fn new(thread: u64, over: fn(u64)) -> CancelUnwind {
        CancelUnwind { over, thread }
    }

    /// Whether it unwinds the thread `thread`, or is for one that had nothing to unwind.
    pub(crate) fn is_of(&self, thread: u64) -> bool {
        self.thread == thread || self.thread == 0
    }

    /// For a thread that had nothing to unwind.
    pub(crate) fn of_nothing() -> CancelUnwind {
        CancelUnwind {
            over: |_| (),
            thread: 0,
        }
    }
}

#[cfg(feature = "runtime")]
impl Drop for CancelUnwind {
    fn drop(&mut self) {
        (self.over)(self.thread);
    }
}

/// Drops a value of the user's; a panic in its destructor is the `Err`.
pub(crate) fn drop_quietly<V>(value: V) -> thread::Result<()> {
    panic::catch_unwind(AssertUnwindSafe(|| drop(value)))
}

/// Drops a value of the user's whatever its destructor does: a payload may panic in its turn. One
/// that does so for ever is forgotten.
pub(crate) fn discard<V>(value: V) {
    let mut dropped = drop_quietly(value);
    for _ in 0..8 {
        let Err(payload) = dropped else { return };
        dropped = drop_quietly(payload);
    }
    std::mem::forget(dropped);
}

/// What a panic says. It may run user code, the `Display` of an error; a panic in there is caught.
#[cfg(feature = "runtime")]
pub(crate) fn message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else if let Some(error) = payload.downcast_ref::<std::io::Error>() {
        panic::catch_unwind(AssertUnwindSafe(|| error.to_string())).unwrap_or_else(|payload| {
            discard(payload);
            String::from("an error that panics when it is displayed")
        })
    } else {
        String::from("a payload that is no text")
    }
}
