//! Ready green threads: the run queue of this OS thread's worker, and the inbox through which
//! others reach it.
//!
//! Law 2 (home) lives here. A started green thread is known by the [`Slot`] it has in its worker's
//! table, and only that worker resumes it. Whoever makes it runnable calls [`push`]: on the home
//! worker's own OS thread that is one push to a plain queue; from anywhere else the slot goes into
//! the worker's [`Inbox`], and the worker is rung if it sleeps.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use super::inbox::{Bell, Inbox};
use crate::lock::Lock;

pub(crate) use super::inbox::Slot;

/// In a run queue: the place of an unstarted green thread, which this worker or another one starts.
/// No slot has this number, as no worker has so many threads.
pub(crate) const START: Slot = Slot::MAX;
/// In a run queue: the place of an unstarted green thread that only this worker may start.
pub(crate) const START_LOCAL: Slot = Slot::MAX - 1;

/// Places in a run queue that are kept when it is empty.
const BURST: usize = 1 << 18;

/// Where a started green thread lives: its worker's process-wide number, and its slot there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Home {
    pub(crate) worker: u32,
    pub(crate) slot: Slot,
}

/// Workers that a process can have at a time.
pub(crate) const MAX_WORKERS: usize = 4096;

/// The inbox of every worker number that was ever used. They are few and are used again, so that a
/// green thread can name its inbox by number: a counted reference would cost each of them two
/// atomic operations.
static INBOXES: [OnceLock<Inbox>; MAX_WORKERS] = [const { OnceLock::new() }; MAX_WORKERS];

/// Numbers that are not in use, below the first one that never was.
static FREE: Lock<(Vec<u32>, u32)> = Lock::new((Vec::new(), 0));

/// A worker's number and inbox, for as long as it holds this.
#[derive(Debug)]
pub(crate) struct Lease {
    worker: u32,
    inbox: &'static Inbox,
}

impl Lease {
    /// # Errors
    /// The process has [`MAX_WORKERS`] workers already.
    pub(crate) fn new(bell: Arc<dyn Bell>) -> io::Result<Lease> {
        let mut free = FREE.lock();
        let worker = match free.0.pop() {
            Some(worker) => worker,
            None if (free.1 as usize) < MAX_WORKERS => {
                free.1 += 1;
                free.1 - 1
            }
            None => return Err(io::Error::other("the process has 4,096 workers already")),
        };
        drop(free);
        let inbox = INBOXES[worker as usize].get_or_init(Inbox::new);
        inbox.open(bell);
        Ok(Lease { worker, inbox })
    }

    pub(crate) fn worker(&self) -> u32 {
        self.worker
    }
}

impl Deref for Lease {
    type Target = Inbox;

    fn deref(&self) -> &Inbox {
        self.inbox
    }
}

impl Drop for Lease {
    /// Nobody pushes any more: who could, has won the claim of a started green thread, and this
    /// worker's have all ended.
    fn drop(&mut self) {
        self.inbox.close();
        FREE.lock().0.push(self.worker);
    }
}

const NOBODY: u32 = u32::MAX;

/// The run queue of the worker that this OS thread is, if it is one.
pub(crate) struct LocalQueue {
    /// Whose queue this is.
    worker: Cell<u32>,
    /// The slots of ready threads, and [`START`] and [`START_LOCAL`] for unstarted ones.
    ///
    /// Owns memory only while the OS thread is a worker. Not dropped with the thread-locals: `exit`
    /// destroys these on a green thread's stack, while the loop below it still refers to the queue.
    ready: RefCell<ManuallyDrop<VecDeque<Slot>>>,
}

thread_local! {
    static LOCAL: LocalQueue = const {
        LocalQueue {
            worker: Cell::new(NOBODY),
            ready: RefCell::new(ManuallyDrop::new(VecDeque::new())),
        }
    };
    /// Has a destructor, so that it can be asked whether the thread-locals are being destroyed.
    static ALIVE: Alive = const { Alive };
}

struct Alive;

impl Drop for Alive {
    fn drop(&mut self) {}
}

impl LocalQueue {
    /// Runs `f` with this OS thread's queue.
    pub(crate) fn with<T>(f: impl FnOnce(&LocalQueue) -> T) -> T {
        LOCAL.with(f)
    }

    /// Makes this the queue of the worker of that number, or of nobody.
    pub(crate) fn set_worker(&self, worker: Option<u32>) {
        self.worker.set(worker.unwrap_or(NOBODY));
        **self.ready.borrow_mut() = VecDeque::new();
    }

    #[inline]
    pub(crate) fn push(&self, slot: Slot) {
        self.ready.borrow_mut().push_back(slot);
    }

    pub(crate) fn extend(&self, slots: impl IntoIterator<Item = Slot>) {
        self.ready.borrow_mut().extend(slots);
    }

    #[inline]
    pub(crate) fn pop(&self) -> Option<Slot> {
        self.ready.borrow_mut().pop_front()
    }

    /// Lets the one in that place change places with the first, and returns it.
    pub(crate) fn bring_forward(&self, at: usize) -> Option<Slot> {
        self.ready.borrow_mut().swap(0, at);
        self.peek(0)
    }

    /// The slot that will be popped after `ahead` others.
    #[inline]
    pub(crate) fn peek(&self, ahead: usize) -> Option<Slot> {
        self.ready.borrow().get(ahead).copied()
    }

    /// Gives back the memory of a queue that was once very long, when it is empty.
    #[inline]
    pub(crate) fn forget_burst(&self) {
        let mut ready = self.ready.borrow_mut();
        if ready.is_empty() && ready.capacity() > BURST {
            **ready = VecDeque::new();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.ready.borrow().len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ready.borrow().is_empty()
    }
}

/// Gives an unstarted thread of this OS thread's worker its place: `start` is [`START`] or
/// [`START_LOCAL`].
#[inline]
pub(crate) fn push_start(start: Slot) {
    LOCAL.with(|local| local.push(start));
}

/// Whether this OS thread can be a worker: not while its thread-locals are being destroyed.
pub(crate) fn is_available() -> bool {
    ALIVE.try_with(|_| ()).is_ok()
}

/// Makes the green thread at `home` runnable. The caller has won its claim.
#[inline]
pub(crate) fn push(home: Home) {
    let at_home = LOCAL.with(|local| {
        let at_home = local.worker.get() == home.worker;
        if at_home {
            local.push(home.slot);
        }
        at_home
    });
    if !at_home {
        inbox(home).push(home.slot);
    }
}

/// Tells the worker of the green thread at `home`, which is not the caller's, that it has been
/// cancelled, or a scope that it is in.
pub(crate) fn push_cancelled(home: Home) {
    inbox(home).push_cancelled(home.slot);
}

/// Whether the caller runs on the worker of the green thread at `home`.
pub(crate) fn is_at(home: Home) -> bool {
    LOCAL.with(|local| local.worker.get() == home.worker)
}

fn inbox(home: Home) -> &'static Inbox {
    INBOXES[home.worker as usize]
        .get()
        .expect("a green thread has started there")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Bell for Count {
        fn ring(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn drain(queue: &LocalQueue) -> Vec<Slot> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn at_home_a_push_goes_to_the_run_queue_and_rings_nobody() {
        let bell = Arc::new(Count::default());
        let inbox = Lease::new(bell.clone()).expect("a number is free");
        LocalQueue::with(|queue| {
            queue.set_worker(Some(inbox.worker()));
            assert!(inbox.begin_sleep());
            push(Home {
                worker: inbox.worker(),
                slot: 7,
            });
            assert_eq!(drain(queue), [7]);
            inbox.end_sleep();
            queue.set_worker(None);
        });
        assert_eq!(bell.0.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn from_elsewhere_a_push_rings_once_while_the_worker_sleeps() {
        let bell = Arc::new(Count::default());
        let inbox = Lease::new(bell.clone()).expect("a number is free");
        let home = |slot| Home {
            worker: inbox.worker(),
            slot,
        };
        push(home(1));
        assert_eq!(
            bell.0.load(Ordering::SeqCst),
            0,
            "an awake worker is not rung"
        );
        assert!(!inbox.begin_sleep(), "there is mail: it must not sleep");
        LocalQueue::with(|queue| {
            queue.extend(inbox.take(&mut Vec::new()).ready);
            assert_eq!(drain(queue), [1]);
            assert!(inbox.begin_sleep());
            push(home(2));
            push(home(3));
            assert_eq!(bell.0.load(Ordering::SeqCst), 1);
            queue.extend(inbox.take(&mut Vec::new()).ready);
            assert_eq!(drain(queue), [2, 3]);
        });
    }

    #[test]
    fn a_number_is_used_again_but_never_twice_at_a_time() {
        let bell = || Arc::new(Count::default());
        let leases: Vec<Lease> = (0..8)
            .map(|_| Lease::new(bell()).expect("a number is free"))
            .collect();
        for (at, lease) in leases.iter().enumerate() {
            assert!(
                leases[..at]
                    .iter()
                    .all(|other| other.worker() != lease.worker())
            );
        }
    }
}
