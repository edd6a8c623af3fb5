//! [`Lane`]: what calls in the blocking pool use one at a time.
//!
//! A file's position, the bytes that a cancelled read has brought: whoever wants to use them takes
//! a [`Turn`], and may carry it into the pool and back. A call that its caller has abandoned keeps
//! the turn until it ends, and then leaves in the lane what is to be left. So calls on one file
//! keep their order, and who gives up waiting for a terminal a thousand times occupies one thread
//! of the pool, not a thousand.

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::lock::Lock;
use crate::park::{self, Mode, Wait};
use crate::scheduler::claim::Wake;
use crate::scheduler::task::Reason;
use crate::scheduler::wait_list::WaitList;

/// A value that has one user at a time.
pub(crate) struct Lane<T>(Lock<State<T>>);

struct State<T> {
    /// `None` while somebody has a turn.
    free: Option<T>,
    waiting: WaitList,
}

impl<T> Lane<T> {
    pub(crate) fn new(value: T) -> Lane<T> {
        Lane(Lock::new(State {
            free: Some(value),
            waiting: WaitList::new(),
        }))
    }

    /// Waits for the turn. A cancel point; in a destructor of a thread that is being cancelled it
    /// waits all the same.
    pub(crate) fn enter(self: &Arc<Self>) -> Turn<T> {
        park::charge_or_yield();
        loop {
            if let Some(turn) = self.try_enter() {
                return turn;
            }
            park::park_insistently(Reason::Blocking, None, None, |wait| self.enlist(wait));
        }
    }

    /// Waits for the turn. A cancel point.
    ///
    /// # Errors
    /// The thread is cancelled and unwinds already.
    pub(crate) fn enter_unless_cancelled(self: &Arc<Self>) -> io::Result<Turn<T>> {
        park::charge_or_yield();
        loop {
            if let Some(turn) = self.try_enter() {
                return Ok(turn);
            }
            if park::park(Reason::Blocking, None, Mode::CancelPoint, |wait| {
                self.enlist(wait)
            }) == Wake::Cancelled
            {
                return Err(super::cancelled());
            }
        }
    }

    /// Takes the turn if nobody has it.
    fn try_enter(self: &Arc<Self>) -> Option<Turn<T>> {
        let value = self.0.lock().free.take()?;
        Some(Turn {
            lane: self.clone(),
            value: Some(value),
        })
    }

    fn enlist<'a>(&'a self, wait: &Wait<'_>) -> Option<impl FnOnce(&Wait<'_>) + use<'a, T>> {
        let mut state = self.0.lock();
        if state.free.is_some() {
            return None;
        }
        state.waiting.push(wait.waiter());
        Some(|wait: &Wait<'_>| self.0.lock().waiting.remove(wait))
    }

    fn leave(&self, value: T) {
        let mut state = self.0.lock();
        state.free = Some(value);
        state.waiting.wake_one();
    }
}

/// The right to use the value of a [`Lane`], until it is dropped: anywhere.
pub(crate) struct Turn<T> {
    lane: Arc<Lane<T>>,
    value: Option<T>,
}

impl<T: Send + 'static> Turn<T> {
    /// Has `f` use the value in the pool, and returns the turn with its result; as
    /// [`unblock`](super::unblock). If the caller is cancelled the turn ends when `f` does.
    pub(crate) fn unblock<R: Send + 'static>(
        self,
        f: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> (Turn<T>, R) {
        super::unblock(self.with(f))
    }

    /// As [`unblock`](Turn::unblock), for what may take for ever; see
    /// [`try_unblock`](super::try_unblock).
    pub(crate) fn try_unblock<R: Send + 'static>(
        self,
        f: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> io::Result<(Turn<T>, R)> {
        super::try_unblock(self.with(f))
    }

    fn with<R>(mut self, f: impl FnOnce(&mut T) -> R) -> impl FnOnce() -> (Turn<T>, R) {
        move || {
            let result = f(&mut self);
            (self, result)
        }
    }
}

impl<T> Deref for Turn<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("only drop takes it")
    }
}

impl<T> DerefMut for Turn<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("only drop takes it")
    }
}

impl<T> Drop for Turn<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            self.lane.leave(value);
        }
    }
}
