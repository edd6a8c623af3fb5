//! [`Patience`]: for how long a thread is ready to wait, and waiting in line for what somebody hands over.

use crate::atomic::AtomicU64;
use std::time::Instant;

use crate::park::{self, Mode, Wait};
use crate::scheduler::claim::Wake;
use crate::scheduler::task::Reason;

/// For how long a thread is ready to wait.
#[derive(Debug, Clone, Copy)]
pub(super) enum Patience {
    /// As long as it takes. A cancel point; where a cancellation cannot unwind, it waits all the
    /// same.
    Endless,
    /// As long as it takes, cancelled or not.
    Shielded,
    /// Until time is up, if it ever is. A cancel point; where a cancellation cannot unwind, it
    /// gives up.
    Until(Option<Instant>),
}

/// How waiting once has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// There was no need to wait; or whoever woke the waiter has ended the wait for good, and may
    /// have handed something over.
    Got,
    /// The thread has left the line, for no reason. It has patience left.
    Left,
    /// The thread has left the line.
    GivenUp,
}

impl Patience {
    /// Waits in line, once. `enter` looks at the object under its lock, and enlists the waiter; or
    /// returns `false` if there is no need to wait. `leave` takes the waiter out again, unless
    /// a wake by way of it has ended the wait.
    ///
    /// `owner` is what dumps and deadlock reports follow: the id of the thread that is waited for,
    /// or 0.
    #[inline(always)] // As `park`.
    pub(super) fn wait_once(
        self,
        reason: Reason,
        owner: Option<&AtomicU64>,
        enter: impl FnOnce(&Wait<'_>) -> bool,
        leave: impl FnOnce(&Wait<'_>),
    ) -> End {
        self.wait_once_until(reason, owner, None, enter, leave)
    }

    /// As [`wait_once`](Patience::wait_once), but the wait ends when `due` has come, too: with
    /// [`End::Left`], if the thread has patience left.
    #[inline(always)] // As `park`.
    pub(super) fn wait_once_until(
        self,
        reason: Reason,
        owner: Option<&AtomicU64>,
        due: Option<Instant>,
        enter: impl FnOnce(&Wait<'_>) -> bool,
        leave: impl FnOnce(&Wait<'_>),
    ) -> End {
        let mut left = false;
        let register = |wait: &Wait<'_>| {
            let undo = |wait: &Wait<'_>| {
                left = true;
                leave(wait);
            };
            enter(wait).then(|| {
                wait.set_owner(owner);
                undo
            })
        };
        let wake = match self {
            Patience::Endless => park::park_insistently(reason, None, due, register),
            Patience::Shielded => park::park(reason, due, Mode::Shielded, register),
            Patience::Until(deadline) => {
                let until = due.into_iter().chain(deadline).min();
                park::park(reason, until, Mode::CancelPoint, register)
            }
        };
        let is_early = |deadline: Option<Instant>| {
            due.is_some_and(|due| deadline.is_none_or(|deadline| due < deadline))
        };
        match self {
            _ if wake == Wake::Woken && !left => End::Got,
            Patience::Until(deadline) if wake == Wake::TimedOut && is_early(deadline) => End::Left,
            Patience::Until(_) => End::GivenUp,
            Patience::Endless | Patience::Shielded => End::Left,
        }
    }

    /// Waits in line until it has got what it waits for, or time is up: then it returns `false`.
    /// See [`wait_once`](Patience::wait_once).
    #[inline(always)] // As `park`.
    pub(super) fn wait(
        self,
        reason: Reason,
        owner: Option<&AtomicU64>,
        mut enter: impl FnMut(&Wait<'_>) -> bool,
        mut leave: impl FnMut(&Wait<'_>),
    ) -> bool {
        loop {
            match self.wait_once(reason, owner, &mut enter, &mut leave) {
                End::Got => return true,
                End::Left => {}
                End::GivenUp => return false,
            }
        }
    }
}
