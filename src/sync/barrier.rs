//! [`Barrier`].

use std::cell::Cell;
use std::fmt;
use std::mem;
use std::time::{Duration, Instant};

use super::patience::{End, Patience};
use crate::lock::Lock;
use crate::park::{Wait, charge_or_yield, deadline_after};
use crate::scheduler::task::Reason;
use crate::scheduler::wait_list::WaitList;

/// Holds threads up until a number of them have come, as [`std::sync::Barrier`] does, green threads
/// and OS threads alike.
///
/// It can be used again at once, for the next such number.
///
/// ```
/// use hebra::sync::Barrier;
/// use hebra::thread;
///
/// let leaders = hebra::run(|| {
///     let barrier = Barrier::new(3);
///     thread::scope(|s| {
///         let threads: Vec<_> = (0..3).map(|_| s.spawn(|| barrier.wait().is_leader())).collect();
///         threads.into_iter().map(|thread| thread.join().unwrap()).filter(|leads| *leads).count()
///     })
/// });
/// assert_eq!(leaders, 1);
/// ```
pub struct Barrier {
    size: usize,
    state: Lock<State>,
}

struct State {
    /// How many have come for this round; less than `size`.
    arrived: usize,
    round: u64,
    waiters: WaitList,
}

/// What a [`Barrier`] tells those whom it lets pass.
#[derive(Debug)]
pub struct BarrierWaitResult {
    is_leader: bool,
}

impl BarrierWaitResult {
    /// Returns `true` for one of the threads: the last to come.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.is_leader
    }
}

impl Barrier {
    /// Makes a barrier that holds threads up until there are `n`. With 0 it holds nobody up, as
    /// with 1.
    pub const fn new(n: usize) -> Barrier {
        Barrier {
            size: n,
            state: Lock::new(State {
                arrived: 0,
                round: 0,
                waiters: WaitList::new(),
            }),
        }
    }

    /// Waits until as many threads have come as the barrier was made for.
    ///
    /// # Cancellation
    /// Parks the current thread unless it is the last to come; this is a cancel point, and then the
    /// thread has not come. In a destructor of a thread that is being cancelled it waits all
    /// the same.
    pub fn wait(&self) -> BarrierWaitResult {
        self.wait_for(Patience::Endless)
            .expect("its patience is endless")
    }

    /// As [`wait`](Barrier::wait), but for `timeout` at most: `None` if time was up, and then the
    /// thread has not come.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let barrier = hebra::sync::Barrier::new(2);
    /// assert!(barrier.wait_timeout(Duration::from_millis(1)).is_none());
    /// ```
    ///
    /// # Cancellation
    /// As [`wait`](Barrier::wait), but in a destructor of a thread that is being cancelled it does
    /// not wait.
    pub fn wait_timeout(&self, timeout: Duration) -> Option<BarrierWaitResult> {
        self.wait_for(Patience::Until(deadline_after(timeout)))
    }

    /// As [`wait`](Barrier::wait), but until `deadline` at most; see
    /// [`wait_timeout`](Barrier::wait_timeout).
    pub fn wait_deadline(&self, deadline: impl Into<Instant>) -> Option<BarrierWaitResult> {
        self.wait_for(Patience::Until(Some(deadline.into())))
    }

    fn wait_for(&self, patience: Patience) -> Option<BarrierWaitResult> {
        charge_or_yield();
        loop {
            let joined = Cell::new(0);
            let mut released = None;
            let mut counted = false;
            let enter = |wait: &Wait<'_>| {
                let mut state = self.state.lock();
                state.arrived += 1;
                let is_last = state.arrived >= self.size;
                if is_last {
                    state.arrived = 0;
                    state.round += 1;
                    released = Some(mem::take(&mut state.waiters));
                } else {
                    joined.set(state.round);
                    state.waiters.push(wait.waiter());
                }
                !is_last
            };
            let leave = |wait: &Wait<'_>| {
                let mut state = self.state.lock();
                counted = state.round != joined.get();
                if !counted {
                    state.arrived -= 1;
                    state.waiters.remove(wait);
                }
            };
            let end = patience.wait_once(Reason::Barrier, None, enter, leave);
            if let Some(mut released) = released {
                released.wake_all();
                return Some(BarrierWaitResult { is_leader: true });
            }
            // Who has left too late was counted: the others have passed.
            match end {
                End::Got => return Some(BarrierWaitResult { is_leader: false }),
                _ if counted => return Some(BarrierWaitResult { is_leader: false }),
                End::Left => {}
                End::GivenUp => return None,
            }
        }
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier").finish_non_exhaustive()
    }
}
