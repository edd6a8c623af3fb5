//! [`Packet`]: a thread's closure, then its result, in one place; and who is to learn of the end.
//!
//! Two sides share a packet without a lock: the thread, and its one handle.
//!
//! ```text
//!   content   closure --- begin ---> nothing --- put ---> result --- take ---> nothing
//!                        (thread)              (thread)            (handle)
//!
//!   word      NOBODY, or a watcher --- put ---> ENDED --- take ---> TAKEN
//!                 |     (handle)      (thread)           (handle)     ^
//!                 +--- detach ---> DETACHED --- put ------------------+
//!                     (handle)                 (thread)
//! ```
//!
//! Who may touch the content follows from that, and every change of hands is one atomic step:
//!
//! 1. The closure belongs to whoever turns `begun`; that is one.
//! 2. From there on the content belongs to the [`Place`] that `begin` has returned, which is used up by `put`.
//! 3. `put` swaps ENDED in, which publishes the result. It belongs to whoever changes ENDED to TAKEN; that is one. If `put` finds
//!    DETACHED nobody else will come, and it is the thread's own again.
//!
//! A watcher is a box that the word owns, and so does whoever takes its address out of the word.

use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::task::Waker;

use super::Result;
use super::join::report;
use crate::scheduler::claim::Wake;
use crate::scheduler::waiter::Waiter;
use crate::scheduler::worker;
use crate::unwinding::discard;

const AGAIN: &str = "the handle of a green thread was joined or polled again after it had given the thread's result";

const NOBODY: *mut Watcher = ptr::null_mut();
/// The result is there.
const ENDED: *mut Watcher = ptr::without_provenance_mut(1);
/// The handle is gone: nobody will ask for the result.
const DETACHED: *mut Watcher = ptr::without_provenance_mut(2);
/// The result is gone.
const TAKEN: *mut Watcher = ptr::without_provenance_mut(3);

/// Who is to learn of a thread's end. Boxed, as of a hundred thousand threads few are watched at a time.
pub(super) enum Watcher {
    /// The one handle waits.
    Waiter(Waiter),
    /// The one handle is a future, and this wakes the task that has polled it last. User code.
    Waker(Waker),
}

impl Watcher {
    fn wake(self) {
        match self {
            Watcher::Waiter(waiter) => {
                waiter.wake(Wake::Woken);
            }
            Watcher::Waker(waker) => discard(panic::catch_unwind(AssertUnwindSafe(|| waker.wake()))),
        }
    }
}

/// Takes the watcher out of what stood in the word.
///
/// # Safety
/// The caller has taken `word` out of a packet's word.
unsafe fn watcher(word: *mut Watcher) -> Option<Box<Watcher>> {
    // SAFETY: what is none of the constants comes from `Box::into_raw` in `watch`, and the caller has it from the word.
    (![NOBODY, ENDED, DETACHED, TAKEN].contains(&word)).then(|| unsafe { Box::from_raw(word) })
}

union Content<F, T> {
    closure: ManuallyDrop<F>,
    result: ManuallyDrop<Result<T>>,
}

/// The tail of the record of a thread spawned with `spawn`; see the module.
pub(super) struct Packet<F, T> {
    word: AtomicPtr<Watcher>,
    begun: AtomicBool,
    content: UnsafeCell<Content<F, T>>,
}

// SAFETY: a closure and a result are moved from thread to thread, never shared: the content has one owner at a time, and each hands it on
// by a step that releases and is acquired; see the module.
unsafe impl<F: Send, T: Send> Sync for Packet<F, T> {}

/// The result of a thread whose closure is elsewhere, on its way to whoever joins it.
pub(super) type Outcome<T> = Packet<(), T>;

/// Where the result of a thread belongs: the right to put it there, once.
pub(super) struct Place<'a, F, T>(&'a Packet<F, T>);

impl<F, T> Packet<F, T> {
    pub(super) fn new(closure: F) -> Packet<F, T> {
        let content = Content { closure: ManuallyDrop::new(closure) };
        Packet { word: AtomicPtr::new(NOBODY), begun: AtomicBool::new(false), content: UnsafeCell::new(content) }
    }

    /// Takes the closure out, to run it.
    ///
    /// # Panics
    /// Panics if it has been taken before.
    pub(super) fn begin(&self) -> (F, Place<'_, F, T>) {
        assert!(!self.begun.swap(true, Ordering::Relaxed), "a green thread runs once");
        // SAFETY: a packet is made with a closure, and this is who owns it (1).
        let closure = unsafe { ptr::read(&raw const (*self.content.get()).closure) };
        (ManuallyDrop::into_inner(closure), Place(self))
    }

    /// Takes the result out.
    ///
    /// # Safety
    /// It is there, and the caller owns it (3).
    unsafe fn result(&self) -> Result<T> {
        // SAFETY: passed on to the caller.
        ManuallyDrop::into_inner(unsafe { ptr::read(&raw const (*self.content.get()).result) })
    }
}

impl<F, T> Place<'_, F, T> {
    /// Keeps the result of the calling green thread for whoever joins.
    pub(super) fn put(self, result: Result<T>) {
        let packet = self.0;
        // SAFETY: the content is ours (2), and there is nothing in it.
        unsafe { (*packet.content.get()).result = ManuallyDrop::new(result) };
        let before = packet.word.swap(ENDED, Ordering::AcqRel);
        if before == DETACHED {
            packet.word.store(TAKEN, Ordering::Relaxed);
            // SAFETY: it has just been put there, and there is no handle that could take it (3).
            let result = unsafe { packet.result() };
            // Here, on the thread's own stack, where the destructor of the result may do as it likes.
            let who = worker::with(|_, task| task.to_string());
            report(who.as_deref().unwrap_or("green thread"), &result);
            discard(result);
        // SAFETY: it has been swapped out.
        } else if let Some(watcher) = unsafe { watcher(before) } {
            watcher.wake();
        }
    }
}

impl<T> Outcome<T> {
    pub(super) fn pending() -> Outcome<T> {
        Packet::new(())
    }

    /// Keeps the result of the calling green thread for whoever joins.
    pub(super) fn put(&self, result: Result<T>) {
        let ((), place) = self.begin();
        place.put(result);
    }
}

impl<F, T> Drop for Packet<F, T> {
    fn drop(&mut self) {
        let word = *self.word.get_mut();
        if !*self.begun.get_mut() {
            // SAFETY: nobody has taken the closure, and nobody else is left who could (1).
            unsafe { ManuallyDrop::drop(&mut self.content.get_mut().closure) };
        } else if word == ENDED {
            // SAFETY: it was put there, and nobody has taken it.
            drop(unsafe { self.result() });
        }
        // SAFETY: nobody else is left to take it.
        drop(unsafe { watcher(word) });
    }
}

/// The end of a thread, as the one handle sees it.
pub(super) trait End<T> {
    fn has_come(&self) -> bool;

    /// Takes the result, if it is there.
    ///
    /// # Panics
    /// Panics if it has been taken.
    fn take(&self) -> Option<Result<T>>;

    /// Has `watch` learn of the end, instead of whoever was to learn before, who is returned.
    ///
    /// # Errors
    /// The end has come; it gives `watch` back.
    fn watch(&self, watch: Option<Box<Watcher>>) -> std::result::Result<Option<Box<Watcher>>, Option<Box<Watcher>>>;

    /// Gives the handle up, and returns the result if it is there and nobody has taken it.
    fn detach(&self) -> Option<Result<T>>;
}

impl<F, T> Packet<F, T> {
    /// Puts `new` in the place of a watcher, or of nobody, who is returned; `None`, and nothing is done, if the end has come.
    fn replace(&self, new: *mut Watcher) -> Option<Option<Box<Watcher>>> {
        let mut before = self.word.load(Ordering::Relaxed);
        while ![ENDED, DETACHED, TAKEN].contains(&before) {
            match self.word.compare_exchange_weak(before, new, Ordering::AcqRel, Ordering::Relaxed) {
                // SAFETY: it has been exchanged.
                Ok(before) => return Some(unsafe { watcher(before) }),
                Err(now) => before = now,
            }
        }
        None
    }
}

impl<F, T> End<T> for Packet<F, T> {
    fn has_come(&self) -> bool {
        [ENDED, TAKEN].contains(&self.word.load(Ordering::Acquire))
    }

    fn take(&self) -> Option<Result<T>> {
        let word = self.word.load(Ordering::Relaxed);
        assert!(word != TAKEN, "{AGAIN}");
        let ours = word == ENDED && self.word.compare_exchange(ENDED, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok();
        // SAFETY: the word has said that it is there, and we have changed it (3).
        ours.then(|| unsafe { self.result() })
    }

    fn watch(&self, watch: Option<Box<Watcher>>) -> std::result::Result<Option<Box<Watcher>>, Option<Box<Watcher>>> {
        let new = watch.map_or(NOBODY, Box::into_raw);
        // SAFETY: nobody has got to see it.
        self.replace(new).ok_or_else(|| unsafe { watcher(new) })
    }

    fn detach(&self) -> Option<Result<T>> {
        // What was watching is dropped here: user code, perhaps.
        if self.replace(DETACHED).is_some() || self.word.load(Ordering::Relaxed) == TAKEN {
            return None;
        }
        self.take()
    }
}
