//! [`WaitList`]: the threads that wait for one object, first come first served.
//!
//! It stands under the object's own lock, together with what is waited for, so that looking and enlisting are one step.

use std::collections::VecDeque;

use super::claim::Wake;
use super::waiter::{Wait, Waiter};

/// FIFO of the waiters of one object.
#[derive(Debug, Default)]
pub(crate) struct WaitList {
    /// Mostly one thread waits, so the first needs no allocation. `None` does not mean that there are no others.
    first: Option<Waiter>,
    others: VecDeque<Waiter>,
}

impl WaitList {
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none() && self.others.is_empty()
    }

    pub(crate) fn push(&mut self, waiter: Waiter) {
        if self.is_empty() {
            self.first = Some(waiter);
        } else {
            self.others.push_back(waiter);
        }
    }

    /// Takes the waiter of `wait` out, if it is still there: for whoever was not woken through this list.
    pub(crate) fn remove(&mut self, wait: &Wait<'_>) {
        if self.first.as_ref().is_some_and(|first| wait.is(first)) {
            self.first = None;
        } else if let Some(at) = self.others.iter().position(|waiter| wait.is(waiter)) {
            self.others.remove(at);
        }
    }

    /// Wakes everybody.
    pub(crate) fn wake_all(&mut self) {
        for waiter in self.first.take().into_iter().chain(self.others.drain(..)) {
            waiter.wake(Wake::Woken);
        }
    }
}
