//! [`WaitList`]: the threads that wait for one object, first come first served.
//!
//! It stands under the object's own lock, together with what is waited for, so that looking and
//! enlisting are one step.

use std::collections::VecDeque;
use std::iter;

use super::claim::Wake;
use super::waiter::{Wait, Waiter};

/// FIFO of the waiters of one object.
#[derive(Debug)]
pub(crate) struct WaitList {
    /// Mostly one thread waits, so the first needs no allocation. `None` does not mean that there
    /// are no others. What has been spent is no longer in the list: it is left for a thread
    /// that comes again.
    first: Option<Waiter>,
    /// Boxed, as most lists never need it and thousands of them should stay small.
    #[expect(
        clippy::box_collection,
        reason = "a word instead of four in every socket"
    )]
    others: Option<Box<VecDeque<Waiter>>>,
}

impl WaitList {
    pub(crate) const fn new() -> WaitList {
        WaitList {
            first: None,
            others: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.as_ref().is_none_or(Waiter::is_spent)
            && self.others.as_ref().is_none_or(|others| others.is_empty())
    }

    pub(crate) fn push(&mut self, waiter: Waiter) {
        if self.is_empty() {
            self.first = Some(waiter);
        } else {
            self.others.get_or_insert_default().push_back(waiter);
        }
    }

    /// As [`push`](WaitList::push), for lists on which the same thread stands again and again.
    #[inline]
    pub(crate) fn push_again(&mut self, wait: &Wait<'_>) {
        let renewed = self.is_empty() && self.first.as_mut().is_some_and(|first| wait.renew(first));
        if !renewed {
            self.push(wait.waiter());
        }
    }

    /// For whoever has been the first already.
    pub(crate) fn push_front(&mut self, waiter: Waiter) {
        if let Some(second) = self.first.replace(waiter).filter(|first| !first.is_spent()) {
            self.others.get_or_insert_default().push_front(second);
        }
    }

    /// Whether the waiter of `wait` is still there: then `wait` has not been ended by way of this
    /// list.
    pub(crate) fn contains(&self, wait: &Wait<'_>) -> bool {
        let others = self.others.iter().flat_map(|others| others.iter());
        self.first
            .iter()
            .chain(others)
            .any(|waiter| wait.is(waiter))
    }

    /// Takes the waiter of `wait` out, if it is still there: for whoever was not woken through this
    /// list.
    pub(crate) fn remove(&mut self, wait: &Wait<'_>) {
        if self.first.as_ref().is_some_and(|first| wait.is(first)) {
            self.first = None;
        } else if let Some(others) = &mut self.others
            && let Some(at) = others.iter().position(|waiter| wait.is(waiter))
        {
            others.remove(at);
        }
    }

    /// Takes the first waiter out.
    pub(crate) fn pop(&mut self) -> Option<Waiter> {
        self.first
            .take()
            .filter(|first| !first.is_spent())
            .or_else(|| self.others.as_mut()?.pop_front())
    }

    #[allow(dead_code)] // As `pop`.
    /// Wakes the first whose wait has not ended otherwise, and returns whether there was one. Then
    /// it has been woken for good, so it may be given something.
    pub(crate) fn wake_one(&mut self) -> bool {
        while let Some(waiter) = self.pop() {
            if waiter.wake(Wake::Woken) {
                return true;
            }
        }
        false
    }

    /// As [`wake_one`](WaitList::wake_one). The first is expected [again](WaitList::push_again).
    #[inline]
    pub(crate) fn wake_one_again(&mut self) -> bool {
        if let Some(first) = self.first.as_mut().filter(|first| !first.is_spent()) {
            let woken = first.wake(Wake::Woken);
            first.spend();
            if woken {
                return true;
            }
        }
        self.others.is_some() && self.wake_one_of_others()
    }

    #[cold]
    #[inline(never)]
    fn wake_one_of_others(&mut self) -> bool {
        let others = self
            .others
            .iter_mut()
            .flat_map(|others| iter::from_fn(|| others.pop_front()));
        others.into_iter().any(|waiter| waiter.wake(Wake::Woken))
    }

    /// Wakes everybody.
    #[inline]
    pub(crate) fn wake_all(&mut self) {
        self.wake_all_again();
        self.first = None;
    }

    /// Wakes everybody. The first is expected [again](WaitList::push_again): what counts the
    /// references to its record stays as it is.
    #[inline]
    pub(crate) fn wake_all_again(&mut self) {
        if let Some(first) = self.first.as_mut().filter(|first| !first.is_spent()) {
            first.wake(Wake::Woken);
            first.spend();
        }
        if let Some(others) = &mut self.others {
            for waiter in others.drain(..) {
                waiter.wake(Wake::Woken);
            }
        }
    }
}

impl Default for WaitList {
    fn default() -> WaitList {
        WaitList::new()
    }
}
