//! [`WaitGroup`].

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::patience::Patience;
use crate::lock::Lock;
use crate::park::{Wait, charge_or_yield, deadline_after};
use crate::scheduler::task::Reason;
use crate::scheduler::wait_list::WaitList;

/// Waits until several threads have done something: every clone is dropped when its thread is done,
/// as crossbeam's `WaitGroup` has it.
///
/// ```
/// use hebra::sync::WaitGroup;
/// use hebra::thread;
///
/// hebra::run(|| {
///     let group = WaitGroup::new();
///     for _ in 0..4 {
///         let share = group.clone();
///         thread::spawn(move || {
///             // Some work.
///             drop(share);
///         });
///     }
///     group.wait();
/// });
/// ```
pub struct WaitGroup {
    state: Arc<Lock<State>>,
    /// This share counts among `shares`: not while it waits.
    counts: bool,
}

struct State {
    /// Clones that others wait for.
    shares: usize,
    waiters: WaitList,
}

impl WaitGroup {
    /// Makes a group with this one share.
    pub fn new() -> WaitGroup {
        WaitGroup {
            state: Arc::new(Lock::new(State {
                shares: 1,
                waiters: WaitList::new(),
            })),
            counts: true,
        }
    }

    /// Gives this share back and waits until all others have been dropped, or wait.
    ///
    /// # Cancellation
    /// Parks the current thread if it has to wait; this is a cancel point. In a destructor of a
    /// thread that is being cancelled it waits all the same.
    pub fn wait(mut self) {
        self.wait_for(Patience::Endless);
    }

    /// As [`wait`](WaitGroup::wait), but for `timeout` at most.
    ///
    /// ```
    /// use std::time::Duration;
    /// use hebra::sync::WaitGroup;
    ///
    /// let group = WaitGroup::new();
    /// let share = group.clone();
    /// let group = group.wait_timeout(Duration::from_millis(1)).unwrap_err();
    /// drop(share);
    /// assert!(group.wait_timeout(Duration::from_millis(1)).is_ok());
    /// ```
    ///
    /// # Cancellation
    /// As [`wait`](WaitGroup::wait), but in a destructor of a thread that is being cancelled it
    /// does not wait.
    ///
    /// # Errors
    /// Time was up; the error is this share.
    pub fn wait_timeout(mut self, timeout: Duration) -> Result<(), WaitGroup> {
        if self.wait_for(Patience::Until(deadline_after(timeout))) {
            Ok(())
        } else {
            Err(self)
        }
    }

    /// As [`wait`](WaitGroup::wait), but until `deadline` at most; see
    /// [`wait_timeout`](WaitGroup::wait_timeout).
    ///
    /// # Errors
    /// Time was up; the error is this share.
    pub fn wait_deadline(mut self, deadline: impl Into<Instant>) -> Result<(), WaitGroup> {
        if self.wait_for(Patience::Until(Some(deadline.into()))) {
            Ok(())
        } else {
            Err(self)
        }
    }

    fn wait_for(&mut self, patience: Patience) -> bool {
        charge_or_yield();
        self.give_back();
        let enter = |wait: &Wait<'_>| {
            let mut state = self.state.lock();
            let waits = state.shares > 0;
            if waits {
                state.waiters.push(wait.waiter());
            }
            waits
        };
        let done = patience.wait(Reason::Group, None, enter, |wait| {
            self.state.lock().waiters.remove(wait)
        });
        if !done {
            self.state.lock().shares += 1;
            self.counts = true;
        }
        done
    }

    fn give_back(&mut self) {
        if !mem::take(&mut self.counts) {
            return;
        }
        let mut state = self.state.lock();
        state.shares -= 1;
        if state.shares == 0 {
            let mut released = mem::take(&mut state.waiters);
            drop(state);
            released.wake_all();
        }
    }
}

impl Clone for WaitGroup {
    fn clone(&self) -> WaitGroup {
        self.state.lock().shares += 1;
        WaitGroup {
            state: self.state.clone(),
            counts: true,
        }
    }
}

impl Drop for WaitGroup {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl Default for WaitGroup {
    fn default() -> WaitGroup {
        WaitGroup::new()
    }
}

impl fmt::Debug for WaitGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shares = self.state.lock().shares;
        f.debug_struct("WaitGroup")
            .field("shares", &shares)
            .finish_non_exhaustive()
    }
}
