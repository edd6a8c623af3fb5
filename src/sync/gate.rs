//! [`Gate`]: the readers or the writer that have a read-write lock, and who waits for it, first come first served.
//!
//! ```text
//!   state = 0             nobody is in
//!         | READERS | n   n readers are in, n > 0
//!         | WRITER        a writer is in
//!         | … | QUEUED    and others stand in `queue`
//! ```
//!
//! Who waits is let in by whoever leaves, or by whoever leaves the queue, in turn: a writer when
//! nobody is in, and readers together, as many as stand in front. A reader that comes while
//! somebody waits waits, too: so writers do not starve. It is in if the wake has won (law 1); if
//! its wait was over already, it is taken out again and the next one's turn has come.
//!
//! Who the writer is stands in a second word, `writer`, for those who ask; as in
//! [`baton`](super::baton).
//!
//! While `QUEUED` is set, those who come queue, and the state changes under the lock of `queue`
//! only; but for readers that leave, as long as they are not the last. It is set when somebody
//! queues and cleared when nobody does, under that lock.

use super::patience::Patience;
use crate::atomic::{AtomicU64, Ordering};
use crate::lock::Lock;
use crate::park::Wait;
use crate::scheduler::claim::Wake;
use crate::scheduler::task::Reason;
use crate::scheduler::wait_list::WaitList;
use crate::scheduler::waiter::Claimed;

const QUEUED: u64 = 1 << 63;
const READERS: u64 = 1 << 62;
const ONE_READER: u64 = READERS | 1;
const WRITER: u64 = 1;

/// What a thread wants of the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    /// For the thread of that id.
    Write(u64),
}

/// See the module.
pub(super) struct Gate {
    state: AtomicU64,
    /// The id of the thread that is in as a writer, written by that thread or by who lets it in;
    /// 0: nobody, or it has only just come.
    writer: AtomicU64,
    queue: Lock<WaitList<Access>>,
}

impl Gate {
    pub(super) const fn new() -> Gate {
        Gate {
            state: AtomicU64::new(0),
            writer: AtomicU64::new(0),
            queue: Lock::new(WaitList::new()),
        }
    }

    #[inline]
    pub(super) fn try_enter(&self, access: Access) -> bool {
        let entered = match access {
            Access::Write(_) => {
                self.state
                    .compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed)
            }
            Access::Read => {
                self.state
                    .fetch_update(Ordering::Acquire, Ordering::Relaxed, |state| match state {
                        0 => Some(ONE_READER),
                        _ if state & (READERS | QUEUED) == READERS => Some(state + 1),
                        _ => None,
                    })
            }
        };
        if entered.is_ok() {
            self.name_writer(access);
        }
        entered.is_ok()
    }

    /// `false` if it has given up.
    #[inline]
    pub(super) fn enter(&self, access: Access, patience: Patience) -> bool {
        if self.try_enter(access) {
            return true;
        }
        let entered = self.wait(access, patience);
        if entered {
            self.name_writer(access);
        }
        entered
    }

    #[inline]
    fn name_writer(&self, access: Access) {
        if let Access::Write(id) = access {
            self.writer.store(id, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(super) fn leave(&self, access: Access) {
        let left = match access {
            Access::Write(_) => {
                self.writer.store(0, Ordering::Relaxed);
                self.state
                    .compare_exchange(WRITER, 0, Ordering::Release, Ordering::Relaxed)
            }
            Access::Read => {
                self.state
                    .fetch_update(Ordering::Release, Ordering::Relaxed, |state| {
                        match state & !QUEUED {
                            ONE_READER if state & QUEUED != 0 => None,
                            ONE_READER => Some(0),
                            _ => Some(state - 1),
                        }
                    })
            }
        };
        if left.is_err() {
            self.leave_slowly(access);
        }
    }

    /// Makes the writer a reader, without letting another writer in between.
    pub(super) fn downgrade(&self) {
        self.writer.store(0, Ordering::Relaxed);
        if self
            .state
            .compare_exchange(WRITER, ONE_READER, Ordering::Release, Ordering::Relaxed)
            .is_err()
        {
            let mut queue = self.queue.lock();
            self.state.store(ONE_READER | QUEUED, Ordering::Release);
            let admitted = self.admit(&mut queue);
            drop(queue);
            drop(admitted);
        }
    }

    #[cold]
    fn wait(&self, access: Access, patience: Patience) -> bool {
        let enter = |wait: &Wait<'_>| {
            let mut queue = self.queue.lock();
            let waits = self.add(access, queue.is_empty()).is_err();
            if waits {
                queue.push_with(wait.waiter(), access);
            }
            waits
        };
        let leave = |wait: &Wait<'_>| {
            let mut queue = self.queue.lock();
            queue.remove(wait);
            // Readers may have stood behind a writer that is gone.
            let admitted = self.admit(&mut queue);
            drop(queue);
            drop(admitted);
        };
        patience.wait(Reason::Lock, Some(&self.writer), enter, leave)
    }

    #[cold]
    fn leave_slowly(&self, access: Access) {
        let mut queue = self.queue.lock();
        self.remove(access);
        let admitted = self.admit(&mut queue);
        drop(queue);
        drop(admitted);
    }

    /// Lets in those whose turn it is: they run when what this returns is dropped, which is to be
    /// done without the lock.
    fn admit(&self, queue: &mut WaitList<Access>) -> Vec<Claimed> {
        let mut admitted = Vec::new();
        while let Some(access) = queue.front()
            && self.add(*access, true).is_ok()
            && let Some((waiter, access)) = queue.pop_with()
        {
            // Before it can run, and leave.
            self.name_writer(access);
            match waiter.claim(Wake::Woken) {
                Some(claimed) => admitted.push(claimed),
                None => self.remove(access),
            }
        }
        if queue.is_empty() {
            self.state.fetch_and(!QUEUED, Ordering::Relaxed);
        }
        admitted
    }

    /// Under the lock of `queue`: lets one more in if it may come; else says that somebody waits.
    fn add(&self, access: Access, may_come: bool) -> Result<(), ()> {
        let mut added = false;
        let add = |state: u64| {
            let inside = state & !QUEUED;
            let state = match access {
                Access::Write(_) if may_come && inside == 0 => state | WRITER,
                Access::Read if may_come && inside == 0 => state | ONE_READER,
                Access::Read if may_come && inside & READERS != 0 => state + 1,
                _ => {
                    added = false;
                    return Some(state | QUEUED);
                }
            };
            added = true;
            Some(state)
        };
        // It has a new state for every one.
        let _ = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, add);
        if added { Ok(()) } else { Err(()) }
    }

    /// Under the lock of `queue`: takes out one who is in.
    fn remove(&self, access: Access) {
        if let Access::Write(_) = access {
            self.writer.store(0, Ordering::Relaxed);
        }
        let remove = |state: u64| match (access, state & !QUEUED) {
            (Access::Write(_), _) | (Access::Read, ONE_READER) => Some(state & QUEUED),
            (Access::Read, _) => Some(state - 1),
        };
        let _ = self
            .state
            .fetch_update(Ordering::Release, Ordering::Relaxed, remove);
    }
}
