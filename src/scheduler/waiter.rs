//! [`Waiter`]: the right to end one wait of one thread.
//!
//! Whatever a thread can wait for keeps waiters: a source its readers, a join its joiner.
//! [`Waiter::wake`] may be called from anywhere, as often as one likes; the claim word decides (law
//! 1), and the winner makes the thread runnable: a green thread through its home worker's queue, an
//! OS thread as it has gone to sleep.

use crate::atomic::AtomicU64;
use std::fmt;
use std::num::NonZero;
use std::sync::Arc;

use super::claim::{Epoch, Token, Wake};
use super::os_thread::OsThread;
use super::run_queue::{self, Home};
use super::task::TaskRef;

/// A thread, green or OS, as somebody who can wait.
#[derive(Clone)]
enum Who {
    Green(TaskRef),
    Os(Arc<OsThread>),
}

/// Names one wait of one thread among those in a list: the address of the thread's record, which
/// the list keeps alive, and which of its waits it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key(usize, Epoch);

/// The right to end one wait of one thread.
pub(crate) struct Waiter {
    who: Who,
    epoch: Epoch,
}

impl Waiter {
    /// The right to end the wait `epoch` of a green thread.
    pub(crate) fn green(task: TaskRef, epoch: Epoch) -> Waiter {
        Waiter {
            who: Who::Green(task),
            epoch,
        }
    }

    /// The right to end the wait `epoch` of an OS thread.
    pub(crate) fn os(thread: Arc<OsThread>, epoch: Epoch) -> Waiter {
        Waiter {
            who: Who::Os(thread),
            epoch,
        }
    }

    /// Makes it end no wait at all, for whoever keeps it; see [`Wait::renew`].
    #[inline]
    pub(crate) fn spend(&mut self) {
        self.epoch = Epoch::NONE;
    }

    #[inline]
    pub(crate) fn is_spent(&self) -> bool {
        self.epoch == Epoch::NONE
    }

    pub(crate) fn key(&self) -> Key {
        let address = match &self.who {
            Who::Green(task) => Arc::as_ptr(task).addr(),
            Who::Os(thread) => Arc::as_ptr(thread).addr(),
        };
        Key(address, self.epoch)
    }

    /// Whether the wait is still open. It may end at any time.
    pub(crate) fn is_waiting(&self) -> bool {
        match &self.who {
            Who::Green(task) => task.claim.is_open(self.epoch),
            Who::Os(thread) => thread.claim.is_open(self.epoch),
        }
    }

    /// The worker on which the thread lives, as a number of its own; 0 for OS threads.
    pub(crate) fn worker(&self) -> u32 {
        match &self.who {
            Who::Green(task) => task.home().map_or(0, |home| home.worker + 1),
            Who::Os(_) => 0,
        }
    }

    /// The id of the thread that waits.
    pub(crate) fn thread_id(&self) -> u64 {
        match &self.who {
            Who::Green(task) => task.id(),
            Who::Os(thread) => thread.id,
        }
    }

    /// Whether the thread that waits lives on the caller's worker, and so does not run now.
    pub(crate) fn is_near(&self) -> bool {
        match &self.who {
            Who::Green(task) => task.home().is_some_and(run_queue::is_at),
            Who::Os(_) => false,
        }
    }

    /// Ends the wait with `wake` and makes the thread runnable; `false`, and nothing is done, if
    /// the wait has ended already.
    #[inline]
    pub(crate) fn wake(&self, wake: Wake) -> bool {
        self.claim(wake).is_some()
    }

    /// Ends the wait with `wake`; the thread becomes runnable when the caller drops what this
    /// returns, and not before: so a lock under which it was found can be released first.
    /// `None`, and nothing is done, if the wait has ended already.
    #[inline]
    pub(crate) fn claim(&self, wake: Wake) -> Option<Claimed> {
        match &self.who {
            Who::Green(task) if task.claim.end(self.epoch, wake) => {
                let home = task.home().expect("only a started green thread waits");
                let door = u64::from(home.worker) << 32 | u64::from(home.slot);
                // A worker's number is far below 2^32.
                Some(Claimed {
                    door: NonZero::new(door + 1)?,
                    thread: None,
                })
            }
            Who::Os(thread) if thread.claim.end(self.epoch, wake) => Some(Claimed {
                door: NonZero::<u64>::MAX,
                thread: Some(thread.clone()),
            }),
            _ => None,
        }
    }
}

/// A thread whose wait has been ended for good. Dropping this makes it runnable.
///
/// Two words that fit into registers: it is handed from function to function while a lock is held.
#[must_use]
pub(crate) struct Claimed {
    /// One more than the worker and the slot of a green thread.
    door: NonZero<u64>,
    /// If it is an OS thread.
    thread: Option<Arc<OsThread>>,
}

impl Drop for Claimed {
    #[inline]
    fn drop(&mut self) {
        match &self.thread {
            None => {
                let door = self.door.get() - 1;
                run_queue::push(Home {
                    worker: (door >> 32) as u32,
                    slot: door as u32,
                });
            }
            Some(thread) => thread.unblock(),
        }
    }
}

/// A wait that is being opened or has just ended, as its own thread sees it: from it come the
/// waiters that are enlisted, and by it they are found again.
pub(crate) struct Wait<'a> {
    who: WhoRef<'a>,
    epoch: Epoch,
}

enum WhoRef<'a> {
    Green(&'a TaskRef),
    Os(&'a Arc<OsThread>),
}

impl<'a> Wait<'a> {
    pub(crate) fn green(task: &'a TaskRef, epoch: Epoch) -> Wait<'a> {
        Wait {
            who: WhoRef::Green(task),
            epoch,
        }
    }

    pub(crate) fn os(thread: &'a Arc<OsThread>, epoch: Epoch) -> Wait<'a> {
        Wait {
            who: WhoRef::Os(thread),
            epoch,
        }
    }

    /// Returns a waiter that ends this wait.
    pub(crate) fn waiter(&self) -> Waiter {
        match self.who {
            WhoRef::Green(task) => Waiter::green(task.clone(), self.epoch),
            WhoRef::Os(thread) => Waiter::os(thread.clone(), self.epoch),
        }
    }

    /// Makes a waiter that has ended an earlier wait of this thread one that ends this wait: for
    /// whoever keeps it, to save the counting of references. `false`, and nothing is done, if
    /// it is another thread's.
    #[inline]
    pub(crate) fn renew(&self, waiter: &mut Waiter) -> bool {
        let same = self.is_by(waiter);
        if same {
            waiter.epoch = self.epoch;
        }
        same
    }

    /// Names the waiters that end this wait.
    pub(crate) fn key(&self) -> Key {
        let address = match self.who {
            WhoRef::Green(task) => Arc::as_ptr(task).addr(),
            WhoRef::Os(thread) => Arc::as_ptr(thread).addr(),
        };
        Key(address, self.epoch)
    }

    /// Whether `waiter` ends this wait.
    pub(crate) fn is(&self, waiter: &Waiter) -> bool {
        self.epoch == waiter.epoch && self.is_by(waiter)
    }

    /// Whether `waiter` ends a wait of this thread.
    #[inline]
    fn is_by(&self, waiter: &Waiter) -> bool {
        match (&self.who, &waiter.who) {
            (WhoRef::Green(a), Who::Green(b)) => Arc::ptr_eq(a, b),
            (WhoRef::Os(a), Who::Os(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// Notes the address of what is waited for, and returns that of the record: each is brought
    /// into the cache by way of the other.
    pub(crate) fn link(&self, object: usize) -> usize {
        match self.who {
            WhoRef::Green(task) => {
                task.set_waits_for(object);
                Arc::as_ptr(task).addr()
            }
            WhoRef::Os(_) => 0,
        }
    }

    /// Lends the word in which the id stands of the thread that is waited for. The thread must
    /// suspend now, and end the loan when it is resumed, with `set_running`.
    pub(crate) fn set_owner(&self, owner: Option<&AtomicU64>) {
        if let (WhoRef::Green(task), Some(owner)) = (&self.who, owner) {
            task.set_owner(owner);
        }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The OS thread that waits, if it is one.
    pub(crate) fn os_thread(&self) -> Option<&OsThread> {
        match self.who {
            WhoRef::Green(_) => None,
            WhoRef::Os(thread) => Some(thread),
        }
    }

    /// The unpark token of the waiting thread.
    pub(crate) fn token(&self) -> &Token {
        match self.who {
            WhoRef::Green(task) => task.token(),
            WhoRef::Os(thread) => &thread.token,
        }
    }
}

impl fmt::Debug for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claimed { .. }")
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter")
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}
