//! [`Semaphore`].

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::patience::Patience;
use crate::lock::Lock;
use crate::park::{Wait, charge_or_yield, deadline_after};
use crate::scheduler::claim::Wake;
use crate::scheduler::task::Reason;
use crate::scheduler::wait_list::WaitList;
use crate::scheduler::waiter::Claimed;

/// A number of permits that threads acquire and release: for what only so many may do at a time.
///
/// Waiters are served in the order in which they came, however many permits they want: a later one
/// that wants fewer does not overtake. See [Fairness](super#fairness).
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use hebra::sync::Semaphore;
/// use hebra::thread;
///
/// let busiest = hebra::run(|| {
///     let (permits, busy, busiest) = (Semaphore::new(3), AtomicUsize::new(0), AtomicUsize::new(0));
///     thread::scope(|s| {
///         for _ in 0..10 {
///             s.spawn(|| {
///                 let _permit = permits.acquire().unwrap();
///                 busiest.fetch_max(busy.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
///                 thread::yield_now();
///                 busy.fetch_sub(1, Ordering::Relaxed);
///             });
///         }
///     });
///     busiest.into_inner()
/// });
/// assert!(busiest <= 3);
/// ```
pub struct Semaphore(Lock<State>);

struct State {
    /// Those that nobody holds. If somebody waits, they are fewer than the first in the queue
    /// wants.
    permits: usize,
    queue: WaitList<Turn>,
    /// The ticket of the next to wait.
    next_ticket: u64,
    /// Once it is closed: the first ticket that was not served. All before it were, or have been
    /// given up.
    closed: Option<u64>,
}

/// What a thread waits for.
#[derive(Clone, Copy)]
struct Turn {
    ticket: u64,
    wanted: usize,
}

/// The semaphore is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed(());

/// Why [`Semaphore::try_acquire`] has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryAcquireError {
    /// There are not enough permits, or others wait for them already.
    NoPermits,
    /// The semaphore is closed.
    Closed,
}

/// Why [`Semaphore::acquire_timeout`] has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcquireTimeoutError {
    /// Time was up.
    Timeout,
    /// The semaphore is closed.
    Closed,
}

/// How asking for permits has ended, if they were not granted.
enum Refusal {
    NotNow,
    Closed,
}

impl Semaphore {
    /// Makes a semaphore with so many permits.
    pub const fn new(permits: usize) -> Semaphore {
        Semaphore(Lock::new(State {
            permits,
            queue: WaitList::new(),
            next_ticket: 0,
            closed: None,
        }))
    }

    /// Acquires a permit, after those who wait already.
    ///
    /// # Cancellation
    /// Parks the current thread if it has to wait; this is a cancel point, and no permit is lost.
    /// In a destructor of a thread that is being cancelled it waits all the same.
    ///
    /// # Errors
    /// The semaphore is closed.
    pub fn acquire(&self) -> Result<Permit<'_>, Closed> {
        self.acquire_many(1)
    }

    /// Acquires `count` permits at once, after those who wait already.
    ///
    /// It waits for ever if there will never be so many.
    ///
    /// # Cancellation
    /// As [`acquire`](Semaphore::acquire).
    ///
    /// # Errors
    /// The semaphore is closed.
    pub fn acquire_many(&self, count: usize) -> Result<Permit<'_>, Closed> {
        match self.take(count, || Patience::Endless) {
            Ok(()) => Ok(Permit {
                semaphore: self,
                count,
            }),
            Err(_) => Err(Closed(())),
        }
    }

    /// Acquires a permit if there is one and nobody waits for it.
    ///
    /// # Errors
    /// There is none; or the semaphore is closed.
    pub fn try_acquire(&self) -> Result<Permit<'_>, TryAcquireError> {
        self.try_acquire_many(1)
    }

    /// Acquires `count` permits if there are so many and nobody waits.
    ///
    /// # Errors
    /// As [`try_acquire`](Semaphore::try_acquire).
    pub fn try_acquire_many(&self, count: usize) -> Result<Permit<'_>, TryAcquireError> {
        match self.0.lock().try_take(count) {
            Ok(()) => Ok(Permit {
                semaphore: self,
                count,
            }),
            Err(Refusal::NotNow) => Err(TryAcquireError::NoPermits),
            Err(Refusal::Closed) => Err(TryAcquireError::Closed),
        }
    }

    /// Acquires a permit, but waits for `timeout` at most.
    ///
    /// ```
    /// use std::time::Duration;
    /// use hebra::sync::{AcquireTimeoutError, Semaphore};
    ///
    /// let none = Semaphore::new(0);
    /// assert_eq!(none.acquire_timeout(Duration::from_millis(1)).unwrap_err(), AcquireTimeoutError::Timeout);
    /// ```
    ///
    /// # Cancellation
    /// As [`acquire`](Semaphore::acquire), but in a destructor of a thread that is being cancelled
    /// it fails instead of waiting.
    ///
    /// # Errors
    /// Time was up; or the semaphore is closed.
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>, AcquireTimeoutError> {
        self.acquire_many_timeout(1, timeout)
    }

    /// Acquires a permit, but waits until `deadline` at most; see
    /// [`acquire_timeout`](Semaphore::acquire_timeout).
    ///
    /// # Errors
    /// As [`acquire_timeout`](Semaphore::acquire_timeout).
    pub fn acquire_deadline(
        &self,
        deadline: impl Into<Instant>,
    ) -> Result<Permit<'_>, AcquireTimeoutError> {
        self.acquire_many_deadline(1, deadline)
    }

    /// Acquires `count` permits at once, but waits for `timeout` at most; see
    /// [`acquire_timeout`](Semaphore::acquire_timeout).
    ///
    /// # Errors
    /// As [`acquire_timeout`](Semaphore::acquire_timeout).
    pub fn acquire_many_timeout(
        &self,
        count: usize,
        timeout: Duration,
    ) -> Result<Permit<'_>, AcquireTimeoutError> {
        self.acquire_until(count, || deadline_after(timeout))
    }

    /// Acquires `count` permits at once, but waits until `deadline` at most; see
    /// [`acquire_timeout`](Semaphore::acquire_timeout).
    ///
    /// # Errors
    /// As [`acquire_timeout`](Semaphore::acquire_timeout).
    pub fn acquire_many_deadline(
        &self,
        count: usize,
        deadline: impl Into<Instant>,
    ) -> Result<Permit<'_>, AcquireTimeoutError> {
        self.acquire_until(count, || Some(deadline.into()))
    }

    fn acquire_until(
        &self,
        count: usize,
        deadline: impl FnOnce() -> Option<Instant>,
    ) -> Result<Permit<'_>, AcquireTimeoutError> {
        match self.take(count, || Patience::Until(deadline())) {
            Ok(()) => Ok(Permit {
                semaphore: self,
                count,
            }),
            Err(Refusal::NotNow) => Err(AcquireTimeoutError::Timeout),
            Err(Refusal::Closed) => Err(AcquireTimeoutError::Closed),
        }
    }

    /// Acquires `count` permits in a form that can be moved into a thread; see
    /// [`acquire_many`](Semaphore::acquire_many).
    ///
    /// ```
    /// use std::sync::Arc;
    /// use hebra::sync::Semaphore;
    /// use hebra::thread;
    ///
    /// hebra::run(|| {
    ///     let connections = Arc::new(Semaphore::new(2));
    ///     for _ in 0..5 {
    ///         let permit = connections.acquire_owned(1).unwrap();
    ///         thread::spawn(move || drop(permit)); // It would serve a connection first.
    ///     }
    /// });
    /// ```
    ///
    /// # Cancellation
    /// As [`acquire`](Semaphore::acquire).
    ///
    /// # Errors
    /// The semaphore is closed.
    pub fn acquire_owned(self: &Arc<Self>, count: usize) -> Result<OwnedPermit, Closed> {
        self.acquire_many(count)?.forget();
        Ok(OwnedPermit {
            semaphore: self.clone(),
            count,
        })
    }

    /// Acquires `count` permits in a form that can be moved into a thread, if there are so many and
    /// nobody waits.
    ///
    /// # Errors
    /// As [`try_acquire`](Semaphore::try_acquire).
    pub fn try_acquire_owned(
        self: &Arc<Self>,
        count: usize,
    ) -> Result<OwnedPermit, TryAcquireError> {
        self.try_acquire_many(count)?.forget();
        Ok(OwnedPermit {
            semaphore: self.clone(),
            count,
        })
    }

    /// Adds `count` permits: those of a permit that was forgotten, or new ones.
    ///
    /// # Panics
    /// Panics if there would be more than `usize::MAX`.
    pub fn release(&self, count: usize) {
        let mut state = self.0.lock();
        let permits = state.permits.checked_add(count);
        // Not under the lock.
        let Some(permits) = permits else {
            drop(state);
            panic!("a semaphore has usize::MAX permits at most");
        };
        state.permits = permits;
        let served = state.serve();
        drop(state);
        drop(served);
    }

    /// Returns how many permits nobody holds. Another thread may acquire them at any time.
    pub fn available(&self) -> usize {
        self.0.lock().permits
    }

    /// Closes the semaphore for good: whoever waits fails, and so does whoever comes. Permits can
    /// still be released.
    pub fn close(&self) {
        let mut refused = {
            let mut state = self.0.lock();
            let first = state
                .queue
                .front()
                .map_or(state.next_ticket, |turn| turn.ticket);
            state.closed.get_or_insert(first);
            mem::take(&mut state.queue)
        };
        refused.wake_all();
    }

    /// Returns whether the semaphore is closed.
    pub fn is_closed(&self) -> bool {
        self.0.lock().closed.is_some()
    }

    fn take(&self, wanted: usize, patience: impl FnOnce() -> Patience) -> Result<(), Refusal> {
        charge_or_yield();
        match self.0.lock().try_take(wanted) {
            Err(Refusal::NotNow) => {}
            result => return result,
        }
        let mut refused = false;
        let mut ticket = None;
        let enter = |wait: &Wait<'_>| {
            let mut state = self.0.lock();
            match state.try_take(wanted) {
                Ok(()) => {
                    ticket = None;
                    return false;
                }
                Err(Refusal::Closed) => {
                    refused = true;
                    return false;
                }
                Err(Refusal::NotNow) => {}
            }
            ticket = Some(state.next_ticket);
            let turn = Turn {
                ticket: state.next_ticket,
                wanted,
            };
            state.next_ticket += 1;
            state.queue.push_with(wait.waiter(), turn);
            true
        };
        let leave = |wait: &Wait<'_>| {
            let mut state = self.0.lock();
            state.queue.remove(wait);
            // Who has stood behind may want less.
            let served = state.serve();
            drop(state);
            drop(served);
        };
        let got = patience().wait(Reason::Acquire, None, enter, leave);
        match ticket {
            _ if refused => Err(Refusal::Closed),
            _ if !got => Err(Refusal::NotNow),
            Some(ticket) if self.0.lock().closed.is_some_and(|first| ticket >= first) => {
                Err(Refusal::Closed)
            }
            _ => Ok(()),
        }
    }
}

impl State {
    fn try_take(&mut self, wanted: usize) -> Result<(), Refusal> {
        if self.closed.is_some() {
            return Err(Refusal::Closed);
        }
        if !self.queue.is_empty() || self.permits < wanted {
            return Err(Refusal::NotNow);
        }
        self.permits -= wanted;
        Ok(())
    }

    /// Gives permits to those who wait, in turn: they run when what this returns is dropped, which
    /// is to be done without the lock.
    fn serve(&mut self) -> Vec<Claimed> {
        let mut served = Vec::new();
        while self
            .queue
            .front()
            .is_some_and(|turn| turn.wanted <= self.permits)
        {
            let Some((waiter, turn)) = self.queue.pop_with() else {
                break;
            };
            // Who has timed out or was cancelled gets nothing.
            if let Some(claimed) = waiter.claim(Wake::Woken) {
                self.permits -= turn.wanted;
                served.push(claimed);
            }
        }
        served
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("available", &self.available())
            .finish_non_exhaustive()
    }
}

/// Permits of a [`Semaphore`], released when they are dropped.
#[derive(Debug)]
#[must_use = "if unused, the permit is released at once"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    count: usize,
}

impl Permit<'_> {
    /// Returns how many permits this is.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Takes the permits out of circulation; [`release`](Semaphore::release) puts them back.
    pub fn forget(self) {
        mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.semaphore.release(self.count);
    }
}

/// Permits of a [`Semaphore`] in an [`Arc`], released when they are dropped.
#[derive(Debug)]
#[must_use = "if unused, the permit is released at once"]
pub struct OwnedPermit {
    semaphore: Arc<Semaphore>,
    count: usize,
}

impl OwnedPermit {
    /// Returns how many permits this is.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Takes the permits out of circulation; [`release`](Semaphore::release) puts them back.
    pub fn forget(mut self) {
        self.count = 0;
    }
}

impl Drop for OwnedPermit {
    fn drop(&mut self) {
        self.semaphore.release(self.count);
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the semaphore is closed")
    }
}

impl fmt::Display for TryAcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TryAcquireError::NoPermits => "there are not enough permits",
            TryAcquireError::Closed => "the semaphore is closed",
        })
    }
}

impl fmt::Display for AcquireTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AcquireTimeoutError::Timeout => "timed out waiting for permits",
            AcquireTimeoutError::Closed => "the semaphore is closed",
        })
    }
}

impl std::error::Error for Closed {}
impl std::error::Error for TryAcquireError {}
impl std::error::Error for AcquireTimeoutError {}
