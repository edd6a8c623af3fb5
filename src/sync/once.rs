//! [`Once`].
//!
//! ```text
//!   Incomplete --- somebody runs the closure ---> Running --- it returns ---> Complete
//!       ^  ^                                       |   |
//!       |  +-------- it is cancelled --------------+   +---- it panics ---> Poisoned --- call_once_force ---> Running
//! ```

use crate::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::fmt;
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe};

use super::patience::Patience;
use crate::generator::generator_here;
use crate::lock::Lock;
use crate::park::{Wait, charge_or_yield, is_cancelling, thread_id};
use crate::scheduler::task::Reason;
use crate::scheduler::wait_list::WaitList;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Incomplete,
    Poisoned,
    Running,
    Complete,
}

/// Runs something once, whoever comes first, as [`std::sync::Once`] does; others wait until it is
/// done.
///
/// ```
/// use hebra::sync::Once;
///
/// static START: Once = Once::new();
///
/// hebra::run(|| {
///     for _ in 0..3 {
///         START.call_once(|| println!("printed once"));
///     }
/// });
/// assert!(START.is_completed());
/// ```
pub struct Once {
    /// `state` is `Complete`; written under its lock.
    complete: AtomicBool,
    /// The id of the thread that runs the closure, or 0; written under the lock of `state`.
    runner: AtomicU64,
    state: Lock<(State, WaitList)>,
    /// The generator on whose stack the closure was begun, or 0; written under the lock of `state`.
    generator: AtomicUsize,
}

/// A `Once` that has run nothing.
#[deprecated(note = "the `Once::new()` function is now preferred")]
#[expect(clippy::declare_interior_mutable_const, reason = "as in std")]
pub const ONCE_INIT: Once = Once::new();

/// What the closure of [`Once::call_once_force`] learns.
#[derive(Debug)]
pub struct OnceState {
    poisoned: bool,
}

impl OnceState {
    /// Returns whether an earlier closure has panicked.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }
}

/// The calling thread runs the closure. Dropped unfinished, it has unwound.
struct Run<'a> {
    once: &'a Once,
    /// An earlier closure has panicked.
    poisoned: bool,
    /// The thread was being cancelled before it began: then it is not that which ends the closure.
    cancelling: bool,
}

impl Once {
    /// Makes a `Once` that has run nothing.
    #[expect(clippy::new_without_default, reason = "std's has none")]
    pub const fn new() -> Once {
        let state = Lock::new((State::Incomplete, WaitList::new()));
        Once {
            complete: AtomicBool::new(false),
            runner: AtomicU64::new(0),
            generator: AtomicUsize::new(0),
            state,
        }
    }

    /// Runs `f` unless a closure has been run before; waits for one that is running. When this
    /// returns, one has run to its end, and what it wrote is seen.
    ///
    /// # Cancellation
    /// Parks the current thread if another runs its closure; this is a cancel point. If `f` is
    /// cancelled, it has not run, and the next caller's does.
    ///
    /// # Panics
    /// Continues a panic of `f`, and panics if an earlier closure has panicked. Panics if `f` calls
    /// this on the same `Once`.
    #[inline]
    #[track_caller]
    pub fn call_once<F>(&self, f: F)
    where
        F: FnOnce(),
    {
        if !self.is_completed() {
            self.call(false, |_| f());
        }
    }

    /// As [`call_once`](Once::call_once), but does not mind that an earlier closure has panicked.
    ///
    /// ```
    /// use hebra::sync::Once;
    ///
    /// let once = Once::new();
    /// # std::panic::set_hook(Box::new(|_| {}));
    /// let panicked = std::panic::catch_unwind(|| once.call_once(|| panic!("half done")));
    /// assert!(panicked.is_err());
    /// once.call_once_force(|state| assert!(state.is_poisoned()));
    /// assert!(once.is_completed());
    /// ```
    ///
    /// # Cancellation
    /// As [`call_once`](Once::call_once).
    ///
    /// # Panics
    /// Continues a panic of `f`. Panics if `f` calls this on the same `Once`.
    #[inline]
    #[track_caller]
    pub fn call_once_force<F>(&self, f: F)
    where
        F: FnOnce(&OnceState),
    {
        if !self.is_completed() {
            self.call(true, f);
        }
    }

    /// Returns whether a closure has run to its end.
    #[inline]
    pub fn is_completed(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// Waits until a closure has run to its end, whoever runs it.
    ///
    /// # Cancellation
    /// Parks the current thread if it has to wait; this is a cancel point. In a destructor of a
    /// thread that is being cancelled it waits all the same.
    ///
    /// # Panics
    /// Panics if a closure has panicked.
    #[track_caller]
    pub fn wait(&self) {
        if !self.wait_for(|state| !matches!(state, State::Complete | State::Poisoned)) {
            poisoned();
        }
    }

    /// Waits until a closure has run to its end; if one panics, for the next.
    ///
    /// # Cancellation
    /// As [`wait`](Once::wait).
    pub fn wait_force(&self) {
        self.wait_for(|state| state != State::Complete);
    }

    #[cold]
    #[track_caller]
    fn call(&self, forced: bool, f: impl FnOnce(&OnceState)) {
        if let Some(run) = self.begin(forced) {
            f(&OnceState {
                poisoned: run.poisoned,
            });
            run.finish();
        }
    }

    /// Makes the calling thread the one that runs its closure; `None` if another has.
    #[track_caller]
    fn begin(&self, forced: bool) -> Option<Run<'_>> {
        let (me, here) = (thread_id(), generator_here());
        loop {
            let mut state = self.state.lock();
            match state.0 {
                State::Complete => return None,
                State::Poisoned if !forced => {
                    drop(state);
                    poisoned();
                }
                State::Incomplete | State::Poisoned => {
                    let poisoned = state.0 == State::Poisoned;
                    state.0 = State::Running;
                    self.runner.store(me, Ordering::Relaxed);
                    self.generator.store(here, Ordering::Relaxed);
                    return Some(Run {
                        once: self,
                        poisoned,
                        cancelling: is_cancelling(),
                    });
                }
                State::Running => {
                    // A closure that was begun on the stack of a generator goes wherever that is
                    // carried: then it is the stack that says who is inside, and not the thread.
                    let reentrant = match self.generator.load(Ordering::Relaxed) {
                        0 => self.runner.load(Ordering::Relaxed) == me,
                        generator => generator == here,
                    };
                    drop(state);
                    assert!(!reentrant, "an initialisation asks for its own result");
                    self.wait_for(|state| state == State::Running);
                }
            }
        }
    }

    /// Waits as long as `holds` of the state; returns whether it is complete then.
    fn wait_for(&self, holds: impl Fn(State) -> bool) -> bool {
        charge_or_yield();
        while !self.is_completed() {
            let mut waits = false;
            let enter = |wait: &Wait<'_>| {
                let mut state = self.state.lock();
                waits = holds(state.0);
                if waits {
                    state.1.push(wait.waiter());
                }
                waits
            };
            Patience::Endless.wait(Reason::Once, Some(&self.runner), enter, |wait| {
                self.state.lock().1.remove(wait)
            });
            if !waits {
                break;
            }
        }
        self.is_completed()
    }

    fn end(&self, end: State) {
        let mut waiters = {
            let mut state = self.state.lock();
            state.0 = end;
            self.runner.store(0, Ordering::Relaxed);
            self.complete
                .store(end == State::Complete, Ordering::Release);
            mem::take(&mut state.1)
        };
        waiters.wake_all();
    }
}

impl Run<'_> {
    fn finish(self) {
        self.once.end(State::Complete);
        mem::forget(self);
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        let cancelled = is_cancelling() && !self.cancelling;
        self.once.end(if cancelled {
            State::Incomplete
        } else {
            State::Poisoned
        });
    }
}

#[cold]
#[track_caller]
fn poisoned() -> ! {
    panic!("Once instance has previously been poisoned");
}

impl UnwindSafe for Once {}
impl RefUnwindSafe for Once {}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").finish_non_exhaustive()
    }
}
