//! [`Packet`]: a thread's closure, then its result, in one place; and who is to learn of the end.
//!
//! Two sides share a packet without a lock: the thread, and its one handle.
//!
//! ```text
//!   content   closure --- begin ---> nothing --- put ---> result --- take ---> nothing
//!                        (thread)              (thread)            (handle)
//!
//!   word      NOBODY, or a chain --- put ---> ENDED --- take ---> TAKEN
//!                 |   (handle)      (thread)           (handle)
//!                 +--- detach ---> DETACHED
//!                     (handle)
//! ```
//!
//! The chain is what the end is to be told to: whoever waits for it, and what is to be dropped
//! then. It keeps a note that the handle is gone, if there is one.
//!
//! Who may touch the content follows from that, and every change of hands is one atomic step:
//!
//! 1. The closure belongs to whoever turns `begun`; that is one.
//! 2. From there on the content belongs to the [`Place`] that `begin` has returned, which is used
//!    up by `put`.
//! 3. `put` swaps ENDED in, which publishes the result. It belongs to whoever changes ENDED to
//!    TAKEN; that is one. If `put` has found DETACHED nobody else will come, and that one is the
//!    thread itself.
//!
//! A chain is boxes that the word owns, and after it whoever takes its address out of the word.

use crate::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::task::Waker;

use super::Result;
use super::join::report;
use crate::scheduler::claim::Wake;
use crate::scheduler::waiter::Waiter;
use crate::scheduler::worker;
use crate::unwinding::discard;

const AGAIN: &str = "the handle of a green thread was joined or polled again after it had given the thread's result";

const NOBODY: *mut Node = ptr::null_mut();
/// The result is there.
const ENDED: *mut Node = ptr::without_provenance_mut(1);
/// The handle is gone: nobody will ask for the result.
const DETACHED: *mut Node = ptr::without_provenance_mut(2);
/// The result is gone.
const TAKEN: *mut Node = ptr::without_provenance_mut(3);

/// Whether a word says that nobody is to be told of the end any more: there is no chain that could
/// be changed.
fn has_ended(word: *mut Node) -> bool {
    [ENDED, DETACHED, TAKEN].contains(&word)
}

/// One of a chain. Boxed, as of a hundred thousand threads few are watched at a time.
struct Node {
    what: What,
    next: *mut Node,
}

enum What {
    Watcher(Watcher),
    /// To be dropped at the end, whether there is a handle or not.
    Keepsake(Box<dyn Send>),
    /// What [`DETACHED`] says, where there is more to say.
    Detached,
}

/// Who is to learn of a thread's end.
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
            Watcher::Waker(waker) => {
                discard(panic::catch_unwind(AssertUnwindSafe(|| waker.wake())))
            }
        }
    }
}

/// A chain that has been taken out of a packet's word, or that nobody has seen yet.
struct Chain(*mut Node);

impl Chain {
    fn push(&mut self, what: What) {
        self.0 = Box::into_raw(Box::new(Node { what, next: self.0 }));
    }

    /// Gives the chain away as a word.
    fn into_word(self) -> *mut Node {
        ManuallyDrop::new(self).0
    }
}

impl Iterator for Chain {
    type Item = What;

    fn next(&mut self) -> Option<What> {
        if [NOBODY, ENDED, DETACHED, TAKEN].contains(&self.0) {
            return None;
        }
        // SAFETY: what is none of the constants comes from `Box::into_raw` in `push`, and belongs
        // to the chain.
        let node = unsafe { Box::from_raw(self.0) };
        self.0 = node.next;
        Some(node.what)
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

union Content<F, T> {
    closure: ManuallyDrop<F>,
    result: ManuallyDrop<Result<T>>,
}

/// The tail of the record of a thread spawned with `spawn`; see the module.
pub(super) struct Packet<F, T> {
    word: AtomicPtr<Node>,
    begun: AtomicBool,
    content: UnsafeCell<Content<F, T>>,
}

// SAFETY: a closure and a result are moved from thread to thread, never shared: the content has one
// owner at a time, and each hands it on by a step that releases and is acquired; see the module.
unsafe impl<F: Send, T: Send> Sync for Packet<F, T> {}

/// The result of a thread whose closure is elsewhere, on its way to whoever joins it.
pub(super) type Outcome<T> = Packet<(), T>;

/// Where the result of a thread belongs: the right to put it there, once.
pub(super) struct Place<'a, F, T>(&'a Packet<F, T>);

impl<F, T> Packet<F, T> {
    pub(super) fn new(closure: F) -> Packet<F, T> {
        let content = Content {
            closure: ManuallyDrop::new(closure),
        };
        Packet {
            word: AtomicPtr::new(NOBODY),
            begun: AtomicBool::new(false),
            content: UnsafeCell::new(content),
        }
    }

    /// Takes the closure out, to run it.
    ///
    /// # Panics
    /// Panics if it has been taken before.
    pub(super) fn begin(&self) -> (F, Place<'_, F, T>) {
        assert!(
            !self.begun.swap(true, Ordering::Relaxed),
            "a green thread runs once"
        );
        // SAFETY: a packet is made with a closure, and this is who owns it (1).
        let closure = unsafe { ptr::read(&raw const (*self.content.get()).closure) };
        (ManuallyDrop::into_inner(closure), Place(self))
    }

    /// Drops the closure if nobody has run it, or the result if it is there.
    #[cold]
    fn discard(&self) {
        match self.begun.load(Ordering::Relaxed) {
            false => drop(self.begin()),
            true => _ = self.take_result(&mut None),
        }
    }

    /// Moves the result to `result`, if it is there, for whoever changes the word; returns whether it
    /// is.
    #[inline]
    fn take_result(&self, result: &mut Option<Result<T>>) -> bool {
        let ours = self
            .word
            .compare_exchange(ENDED, TAKEN, Ordering::Acquire, Ordering::Relaxed)
            .is_ok();
        if ours {
            // SAFETY: the word has said that it is there, and we have changed it (3).
            *result = Some(unsafe { ManuallyDrop::take(&mut (*self.content.get()).result) });
        }
        ours
    }
}

impl<F, T> Place<'_, F, T> {
    /// Keeps the result of the calling green thread for whoever joins.
    pub(super) fn put(self, result: Result<T>) {
        let packet = self.0;
        if packet.word.load(Ordering::Relaxed) == DETACHED {
            // Nobody else looks at the packet any more.
            return forgo(result);
        }
        // SAFETY: the content is ours (2), and there is nothing in it.
        unsafe { (*packet.content.get()).result = ManuallyDrop::new(result) };
        let before = packet.word.swap(ENDED, Ordering::AcqRel);
        let mut detached = before == DETACHED;
        for what in Chain(before) {
            match what {
                What::Watcher(watcher) => watcher.wake(),
                What::Keepsake(keepsake) => drop(keepsake),
                What::Detached => detached = true,
            }
        }
        let mut result = None;
        if detached && packet.take_result(&mut result) {
            result.into_iter().for_each(forgo);
        }
    }
}

/// Drops the result of the calling green thread, which nobody will ask for: on the thread's own
/// stack, where the destructor may do as it likes.
fn forgo<T>(result: Result<T>) {
    if result.is_err() {
        let who = worker::with(|_, task| task.to_string());
        report(who.as_deref().unwrap_or("green thread"), &result);
    }
    discard(result);
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
        let chain = Chain(word);
        if !*self.begun.get_mut() || word == ENDED {
            self.discard();
        }
        drop(chain);
    }
}

/// The end of a thread, as the one handle sees it.
pub(super) trait End<T> {
    fn has_come(&self) -> bool;

    /// Moves the result to `result`, if it is there; returns whether it is. In place, as the result
    /// may be large and a green thread's stack is small.
    ///
    /// # Panics
    /// Panics if it has been taken.
    fn take(&self, result: &mut Option<Result<T>>) -> bool;

    /// Has `watcher` learn of the end, unless it has come: then it returns `false`. Whoever was to
    /// learn before is left in `before`, in either case: it may be user code, to be dropped
    /// where that may run.
    fn watch(&self, watcher: Option<Watcher>, before: &mut Option<Watcher>) -> bool;

    /// Drops `keepsake` at the end, whether there is a handle then or not. At once, if it has come.
    /// Other threads may do the same meanwhile.
    fn keep(&self, keepsake: Box<dyn Send>);

    /// Gives the handle up, and returns the result if it is there and nobody has taken it.
    fn detach(&self) -> Option<Result<T>>;
}

impl<F, T> Packet<F, T> {
    /// Puts `new` in the place of the word, and returns what that was; `None`, and nothing is done,
    /// if the end has come.
    fn exchange(&self, new: *mut Node) -> Option<*mut Node> {
        let mut before = self.word.load(Ordering::Relaxed);
        while !has_ended(before) {
            match self
                .word
                .compare_exchange_weak(before, new, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(before) => return Some(before),
                Err(now) => before = now,
            }
        }
        None
    }

    /// Takes the chain out; `None` if the end has come.
    fn take_chain(&self) -> Option<Chain> {
        self.exchange(NOBODY).map(Chain)
    }
}

impl<F, T> End<T> for Packet<F, T> {
    fn has_come(&self) -> bool {
        [ENDED, TAKEN].contains(&self.word.load(Ordering::Acquire))
    }

    fn take(&self, result: &mut Option<Result<T>>) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        assert!(word != TAKEN, "{AGAIN}");
        word == ENDED && self.take_result(result)
    }

    fn watch(&self, watcher: Option<Watcher>, before: &mut Option<Watcher>) -> bool {
        let Some(taken) = self.take_chain() else {
            return false;
        };
        let mut chain = Chain(NOBODY);
        for what in taken {
            match what {
                What::Watcher(watcher) => *before = Some(watcher),
                what => chain.push(what),
            }
        }
        if let Some(watcher) = watcher {
            chain.push(What::Watcher(watcher));
        }
        let word = chain.into_word();
        let between = self.exchange(word);
        // If the end came in between it has not seen the chain: what is in it is dropped now.
        drop(Chain(between.unwrap_or(word)));
        between.is_some()
    }

    fn keep(&self, keepsake: Box<dyn Send>) {
        let mut what = What::Keepsake(keepsake);
        let mut before = self.word.load(Ordering::Acquire);
        while !has_ended(before) {
            // The word's own, but for what is pushed: and that is taken back if the word has
            // changed.
            let mut chain = ManuallyDrop::new(Chain(before));
            chain.push(what);
            match self.word.compare_exchange_weak(
                before,
                chain.0,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return,
                Err(now) => before = now,
            }
            what = chain.next().expect("it has just been pushed");
        }
    }

    fn detach(&self) -> Option<Result<T>> {
        if let Some(before) = self.take_chain() {
            let (mut chain, mut detached) = (Chain(NOBODY), DETACHED);
            // A watcher is dropped here: user code, perhaps.
            for what in before.filter(|what| matches!(what, What::Keepsake(_))) {
                chain.push(what);
            }
            if chain.0 != NOBODY {
                chain.push(What::Detached);
                detached = chain.0;
            }
            if let Some(between) = self.exchange(detached) {
                drop(Chain(between));
                _ = chain.into_word();
                return None;
            }
        }
        let mut result = None;
        if self.word.load(Ordering::Relaxed) != TAKEN {
            self.take(&mut result);
        }
        result
    }
}
