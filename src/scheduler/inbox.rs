//! The thread-safe door to one worker, and how it goes to sleep without missing a knock.
//!
//! # The sleep protocol
//!
//! ```text
//!   worker                                  somebody else
//!   1 asleep = true                         1 lock; push; unlock
//!   2 lock; look into the inbox; unlock     2 if asleep: asleep = false, ring the bell
//!   3 empty? wait for I/O or the bell
//! ```
//!
//! The lock orders step 2 of the worker against step 1 of the other. If the push came first, the
//! worker sees it and does not sleep; if it came later, the unlock of the worker's look has
//! published `asleep`, and the bell rings. The bell stays rung until the worker's wait has consumed
//! it, so it may ring before the wait begins.
//!
//! # Who sleeps
//!
//! Threads that have not started lie where any worker can take them, and a worker that sleeps must
//! not miss those either. They are not in its inbox, so there it is two fences ([`Sleepers`]) that
//! make one of the two see the other:
//!
//! ```text
//!   worker                                  spawner
//!   1 announce: count += 1; fence           1 put the thread down
//!   2 look for threads; none? wait          2 fence; count > 0? rouse one
//! ```
//!
//! `examples/with-crates/tests/loom.rs` tries all interleavings of both.

use std::sync::Arc;

use crate::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use crate::lock::Lock;

/// The place of a started green thread in its worker's table.
pub(crate) type Slot = u32;

/// Wakes a worker that waits for I/O.
pub(crate) trait Bell: Send + Sync {
    fn ring(&self);
}

/// The thread-safe door to one worker.
pub(crate) struct Inbox {
    mail: Lock<Mail>,
    /// How much mail there is; written under its lock, read by the worker to pass by an empty
    /// inbox without locking.
    len: AtomicUsize,
    /// The worker is about to wait, or waits: ring.
    asleep: AtomicBool,
    /// `None` while no worker has this number.
    bell: Lock<Option<Arc<dyn Bell>>>,
}

/// What others have to say to a worker, by slots of its table.
#[derive(Debug, Default)]
pub(crate) struct Mail {
    /// Green threads that somebody else made runnable.
    pub(crate) ready: Vec<Slot>,
    /// Green threads that somebody else has cancelled, or a scope that they are in. The slot may
    /// have another tenant by now.
    pub(crate) cancelled: Vec<Slot>,
}

impl Mail {
    fn len(&self) -> usize {
        self.ready.len() + self.cancelled.len()
    }
}

impl Inbox {
    pub(crate) fn new() -> Inbox {
        let mail = Lock::new(Mail::default());
        Inbox {
            mail,
            len: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
            bell: Lock::new(None),
        }
    }

    /// Makes it the inbox of a worker that `bell` wakes.
    pub(crate) fn open(&self, bell: Arc<dyn Bell>) {
        *self.bell.lock() = Some(bell);
        // The last worker of that number may have been told of a cancellation that came too late.
        self.mail.lock().cancelled.clear();
    }

    /// Makes it nobody's inbox.
    pub(crate) fn close(&self) {
        self.bell.lock().take();
    }

    pub(crate) fn push(&self, slot: Slot) {
        self.post(|mail| mail.ready.push(slot));
    }

    pub(crate) fn push_cancelled(&self, slot: Slot) {
        self.post(|mail| mail.cancelled.push(slot));
    }

    fn post(&self, add: impl FnOnce(&mut Mail)) {
        let mut mail = self.mail.lock();
        add(&mut mail);
        self.len.store(mail.len(), Ordering::Relaxed);
        drop(mail);
        self.rouse();
    }

    /// Rings if the worker sleeps. What it is to find must have been published by a lock that it
    /// takes before it sleeps. Returns whether it rang.
    pub(crate) fn rouse(&self) -> bool {
        let rings = self.asleep.load(Ordering::Relaxed)
            && self
                .asleep
                .compare_exchange(true, false, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok();
        if rings && let Some(bell) = &*self.bell.lock() {
            bell.ring();
        }
        rings
    }

    /// Home worker only: takes what has arrived. `spare` is an empty vector that is filled next, so
    /// that the lock is held for a swap.
    pub(crate) fn take(&self, spare: &mut Vec<Slot>) -> Mail {
        if self.len.load(Ordering::Relaxed) == 0 {
            return Mail::default();
        }
        let mut mail = self.mail.lock();
        let ready = std::mem::replace(&mut mail.ready, std::mem::take(spare));
        let cancelled = std::mem::take(&mut mail.cancelled);
        self.len.store(0, Ordering::Relaxed);
        Mail { ready, cancelled }
    }

    /// Home worker only: whether there seems to be mail.
    #[inline]
    pub(crate) fn may_have_mail(&self) -> bool {
        self.len.load(Ordering::Relaxed) > 0
    }

    /// Whether there is mail that its worker has not taken.
    pub(crate) fn has_mail(&self) -> bool {
        self.mail.lock().len() > 0
    }

    /// Home worker only: announces that it will sleep. `false` if there is mail, and it must not.
    pub(crate) fn begin_sleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        let may_sleep = !self.has_mail();
        if !may_sleep {
            self.end_sleep();
        }
        may_sleep
    }

    /// Home worker only: it is awake again. Whatever somebody did before it rang can be seen now.
    pub(crate) fn end_sleep(&self) {
        self.asleep.swap(false, Ordering::AcqRel);
    }
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// How many workers of a runtime sleep, or are about to; see the module.
#[derive(Debug, Default)]
pub(crate) struct Sleepers(AtomicUsize);

impl Sleepers {
    /// A worker is about to sleep. It must look for threads afterwards, and
    /// [`wake_up`](Sleepers::wake_up) again.
    pub(crate) fn announce(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn wake_up(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether there may be a worker that has not seen what the caller has put down before.
    pub(crate) fn any(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) > 0
    }
}
