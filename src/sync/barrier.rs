//! [`Barrier`].

use std::cell::Cell;
use std::fmt;
use std::time::{Duration, Instant};

use super::patience::{End, Patience};
use crate::lock::Lock;
use crate::park::{self, Wait, charge_or_yield, deadline_after};
use crate::scheduler::claim::Wake;
use crate::scheduler::task::Reason;
use crate::scheduler::wait_list::WaitList;
use crate::scheduler::waiter::Claimed;

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
    /// Rounds that are over. A waiter that was woken passes if its round is among them.
    round: u64,
    /// Those that have come for this round, fewer than `size`, each with the time at which it gives
    /// up.
    waiters: WaitList<Option<Instant>>,
}

impl State {
    /// Ends the round if the caller and those that still wait are `size`: they pass when what this
    /// returns is dropped, which is to be done without the lock.
    ///
    /// A waiter whose time is up, or that was cancelled, has not come, though it has not run since
    /// and is still in the list. Only a wait that this can end counts; and that cannot be undone. So
    /// it looks first how many there are. If one gives up between the two looks, those whose waits
    /// have been ended come again, and `None` says that the round goes on.
    fn pass(&mut self, size: usize) -> Option<Vec<Claimed>> {
        if self.waiters.len() + 1 < size {
            return None;
        }
        let now = park::now();
        self.waiters.retain(|waiter, gives_up| match gives_up {
            Some(at) if *at <= now => {
                drop(waiter.claim(Wake::TimedOut));
                false
            }
            _ => waiter.is_waiting(),
        });
        if self.waiters.len() + 1 < size {
            return None;
        }
        let mut claimed = Vec::with_capacity(self.waiters.len());
        while let Some((waiter, _)) = self.waiters.pop_with() {
            claimed.extend(waiter.claim(Wake::Woken));
        }
        let all = claimed.len() + 1 >= size;
        self.round += u64::from(all);
        all.then_some(claimed)
    }
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
                round: 0,
                waiters: WaitList::new(),
            }),
        }
    }

    /// Waits until as many threads have come as the barrier was made for.
    ///
    /// # Cancellation
    /// Parks the current thread unless it is the last to come; this is a cancel point, and then the
    /// thread has not come: the last to come counts the threads that still wait. In a destructor of a thread that is being cancelled it waits all
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
            let round = Cell::new(0);
            let mut released = None;
            let gives_up = gives_up_at(patience);
            let enter = |wait: &Wait<'_>| {
                let mut state = self.state.lock();
                released = state.pass(self.size);
                round.set(state.round);
                if released.is_none() {
                    state.waiters.push_with(wait.waiter(), gives_up);
                }
                released.is_none()
            };
            let leave = |wait: &Wait<'_>| self.state.lock().waiters.remove(wait);
            let end = patience.wait_once(Reason::Barrier, None, enter, leave);
            if let Some(released) = released {
                drop(released);
                return Some(BarrierWaitResult { is_leader: true });
            }
            match end {
                End::Got if self.state.lock().round != round.get() => {
                    return Some(BarrierWaitResult { is_leader: false });
                }
                End::GivenUp => return None,
                // It was woken for a round that was not to be, and comes again.
                End::Got | End::Left => {}
            }
        }
    }
}

/// When the calling thread, which is about to wait, gives up: by itself, or because a time-out
/// around it is over. One that is over already does not end the wait: it has been told, and the
/// thread waits all the same.
fn gives_up_at(patience: Patience) -> Option<Instant> {
    let own = match patience {
        Patience::Until(deadline) => deadline,
        Patience::Endless | Patience::Shielded => None,
    };
    let scope = park::scope_deadline().filter(|deadline| *deadline > park::now());
    own.into_iter().chain(scope).min()
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier").finish_non_exhaustive()
    }
}
