//! [`WaitList`]: the threads that wait for one object, first come first served.
//!
//! It stands under the object's own lock, together with what is waited for, so that looking and enlisting are one step.

use std::collections::VecDeque;

use crate::park::Wait;
use crate::scheduler::claim::Wake;
use crate::scheduler::waiter::Waiter;

/// FIFO of the waiters of one object.
#[derive(Debug, Default)]
pub(crate) struct WaitList(VecDeque<Waiter>);

impl WaitList {
    pub(crate) const fn new() -> WaitList {
        WaitList(VecDeque::new())
    }

    pub(crate) fn push(&mut self, waiter: Waiter) {
        self.0.push_back(waiter);
    }

    /// Takes the waiter of `wait` out, if it is still there: for whoever was not woken through this list.
    pub(crate) fn remove(&mut self, wait: &Wait<'_>) {
        if let Some(at) = self.0.iter().position(|waiter| wait.is(waiter)) {
            self.0.remove(at);
        }
    }

    /// Wakes everybody.
    pub(crate) fn wake_all(&mut self) {
        for waiter in self.0.drain(..) {
            waiter.wake(Wake::Woken);
        }
    }
}
