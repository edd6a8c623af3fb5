//! [`Event`].

use crate::atomic::{AtomicBool, Ordering};
use std::fmt;
use std::mem;
use std::time::{Duration, Instant};

use super::patience::Patience;
use crate::lock::Lock;
use crate::park::{Wait, charge_or_yield, deadline_after};
use crate::scheduler::task::Reason;
use crate::scheduler::wait_list::WaitList;

/// A flag that threads can wait for: once it is set, everybody passes, until it is cleared.
///
/// What is written before [`set`](Event::set) is seen by whoever passes.
///
/// ```
/// use std::sync::Arc;
/// use hebra::sync::Event;
/// use hebra::thread;
///
/// hebra::run(|| {
///     let ready = Arc::new(Event::new());
///     let theirs = ready.clone();
///     thread::spawn(move || theirs.set());
///     ready.wait();
///     assert!(ready.is_set());
/// });
/// ```
#[derive(Default)]
pub struct Event {
    /// Written under the lock of `waiters`.
    set: AtomicBool,
    waiters: Lock<WaitList>,
}

impl Event {
    /// Makes an event that is not set.
    pub const fn new() -> Event {
        Event {
            set: AtomicBool::new(false),
            waiters: Lock::new(WaitList::new()),
        }
    }

    /// Sets the event: whoever waits passes, even if it is cleared at once.
    pub fn set(&self) {
        let mut released = {
            let mut waiters = self.waiters.lock();
            self.set.store(true, Ordering::Release);
            mem::take(&mut *waiters)
        };
        released.wake_all();
    }

    /// Clears the event: whoever comes from now on waits.
    pub fn clear(&self) {
        let _waiters = self.waiters.lock();
        self.set.store(false, Ordering::Release);
    }

    /// Returns whether the event is set.
    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    /// Waits until the event is set.
    ///
    /// # Cancellation
    /// Parks the current thread if it has to wait; this is a cancel point. In a destructor of a
    /// thread that is being cancelled it waits all the same.
    pub fn wait(&self) {
        self.wait_for(Patience::Endless);
    }

    /// Waits until the event is set, for `timeout` at most; returns whether it was.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let event = hebra::sync::Event::new();
    /// assert!(!event.wait_timeout(Duration::from_millis(1)));
    /// ```
    ///
    /// # Cancellation
    /// As [`wait`](Event::wait), but in a destructor of a thread that is being cancelled it does
    /// not wait.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_for(Patience::Until(deadline_after(timeout)))
    }

    /// Waits until the event is set, until `deadline` at most; see
    /// [`wait_timeout`](Event::wait_timeout).
    pub fn wait_deadline(&self, deadline: impl Into<Instant>) -> bool {
        self.wait_for(Patience::Until(Some(deadline.into())))
    }

    fn wait_for(&self, patience: Patience) -> bool {
        charge_or_yield();
        let enter = |wait: &Wait<'_>| {
            let mut waiters = self.waiters.lock();
            let waits = !self.is_set();
            if waits {
                waiters.push(wait.waiter());
            }
            waits
        };
        self.is_set()
            || patience.wait(Reason::Event, None, enter, |wait| {
                self.waiters.lock().remove(wait)
            })
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("set", &self.is_set())
            .finish_non_exhaustive()
    }
}
