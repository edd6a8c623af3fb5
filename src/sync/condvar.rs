//! [`Condvar`].

use crate::atomic::{AtomicBool, Ordering};
use std::fmt;
use std::mem;
use std::sync::LockResult;
use std::time::{Duration, Instant};

use super::mutex::MutexGuard;
use super::patience::{End, Patience};
use crate::lock::biased::BiasedLock;
use crate::park::{self, Wait, deadline_after};
use crate::scheduler::claim::Wake;
use crate::scheduler::task::Reason;
use crate::scheduler::wait_list::WaitList;
use crate::scheduler::waiter::{Claimed, Waiter};

/// Whether a wait with a time-out has ended because time was up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Returns `true` if time was up. The condition may have come about all the same.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

/// Waits for a condition on what a [`Mutex`](super::Mutex) guards, as [`std::sync::Condvar`] does,
/// on green threads and OS threads alike.
///
/// Threads are notified in the order in which they began to wait; then each waits for the mutex as
/// [`Mutex::lock`](super::Mutex::lock) does, and others may have it first. A wait may also end without
/// anybody's doing, so wait in a loop, or with [`wait_while`](Condvar::wait_while).
///
/// ```
/// use std::sync::Arc;
/// use hebra::sync::{Condvar, Mutex};
/// use hebra::thread;
///
/// hebra::run(|| {
///     let pair = Arc::new((Mutex::new(false), Condvar::new()));
///     let theirs = pair.clone();
///     thread::spawn(move || {
///         *theirs.0.lock().unwrap() = true;
///         theirs.1.notify_one();
///     });
///     let (started, changed) = &*pair;
///     let started = changed.wait_while(started.lock().unwrap(), |started| !*started).unwrap();
///     assert!(*started);
/// });
/// ```
#[derive(Default)]
pub struct Condvar {
    /// Whether there is anybody in the queue; written under its lock. Whoever changes the
    /// condition under the mutex after a thread has begun to wait sees it: it was written
    /// before that thread released the mutex.
    occupied: AtomicBool,
    queue: BiasedLock<Queue>,
}

/// Who waits, first come first served: those in the seats, and then the others.
#[derive(Default)]
struct Queue {
    /// Two are many: mostly it is one thread that waits for another, and then the other for the
    /// first.
    seats: [Seat; 2],
    /// The seat of the one who has waited longer, if anybody sits there.
    first: usize,
    /// Nobody sits down while there are any.
    others: WaitList,
}

/// The waiter of whoever has sat here last stays: the thread is likely to wait again, and counting
/// references takes as long as the rest.
#[derive(Default)]
struct Seat {
    waiter: Option<Waiter>,
    taken: bool,
}

impl Queue {
    const fn new() -> Queue {
        let seats = [const {
            Seat {
                waiter: None,
                taken: false,
            }
        }; 2];
        Queue {
            seats,
            first: 0,
            others: WaitList::new(),
        }
    }

    #[inline]
    fn is_empty(&self) -> bool {
        !self.seats[0].taken && !self.seats[1].taken && self.others.is_empty()
    }

    #[inline]
    fn push(&mut self, wait: &Wait<'_>) {
        if !self.others.is_empty() {
            return self.others.push(wait.waiter());
        }
        let free = |seat: &&mut Seat| !seat.taken;
        let renew = |seat: &mut Seat| {
            !seat.taken
                && seat
                    .waiter
                    .as_mut()
                    .is_some_and(|waiter| wait.renew(waiter))
        };
        let at = if renew(&mut self.seats[0]) {
            0
        } else if renew(&mut self.seats[1]) {
            1
        } else if let Some(seat) = self.seats.iter_mut().find(free) {
            seat.waiter = Some(wait.waiter());
            usize::from(self.seats[0].taken)
        } else {
            return self.others.push(wait.waiter());
        };
        self.seats[at].taken = true;
        if !self.seats[1 - at].taken {
            self.first = at;
        }
    }

    /// Takes the waiter of `wait` out, if it is still there.
    fn remove(&mut self, wait: &Wait<'_>) {
        let is = |seat: &&mut Seat| {
            seat.taken && seat.waiter.as_ref().is_some_and(|waiter| wait.is(waiter))
        };
        match self.seats.iter_mut().find(is) {
            Some(seat) => seat.taken = false,
            None => self.others.remove(wait),
        }
    }

    /// Ends the wait of the first that has not timed out or been cancelled: only such a one has
    /// been notified.
    #[inline]
    fn claim(&mut self) -> Option<Claimed> {
        for _ in 0..2 {
            if let Some(claimed) = self.claim_seat(self.first) {
                return Some(claimed);
            }
        }
        while let Some(waiter) = self.others.pop() {
            if let Some(claimed) = waiter.claim(Wake::Woken) {
                return Some(claimed);
            }
        }
        None
    }

    /// Lets go whoever sits there, and after that it is the other seat's turn.
    #[inline]
    fn claim_seat(&mut self, at: usize) -> Option<Claimed> {
        self.first = 1 - at;
        let seat = &mut self.seats[at];
        let taken = mem::take(&mut seat.taken);
        seat.waiter.as_ref().filter(|_| taken)?.claim(Wake::Woken)
    }
}

impl Condvar {
    /// Makes a condition variable that nobody waits on.
    pub const fn new() -> Condvar {
        Condvar {
            occupied: AtomicBool::new(false),
            queue: BiasedLock::new(Queue::new()),
        }
    }

    /// Unlocks the mutex and waits to be notified, in one step: no notification in between is
    /// missed. Then locks the mutex again.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point, and the mutex is unlocked then. If the
    /// thread has been notified already it returns, and the next cancel point unwinds. In a
    /// destructor of a thread that is being cancelled it waits all the same.
    ///
    /// # Errors
    /// The mutex is poisoned; the guard is in the error.
    #[inline(always)] // As `wait_for`.
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let mutex = guard.mutex();
        let (guard, _) = self.wait_for(guard, Patience::Endless);
        mutex.judge(guard)
    }

    /// Waits as long as `condition` holds. It is asked under the mutex, first of all before any
    /// wait.
    ///
    /// # Cancellation
    /// As [`wait`](Condvar::wait), if it has to wait.
    ///
    /// # Errors
    /// As [`wait`](Condvar::wait), if it has waited.
    #[inline(always)] // As `wait_for`.
    pub fn wait_while<'a, T: ?Sized, F>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: F,
    ) -> LockResult<MutexGuard<'a, T>>
    where
        F: FnMut(&mut T) -> bool,
    {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// Waits to be notified, for `timeout` at most. It may take longer to lock the mutex again.
    ///
    /// ```
    /// use std::time::Duration;
    /// use hebra::sync::{Condvar, Mutex};
    ///
    /// let (mutex, condvar) = (Mutex::new(()), Condvar::new());
    /// let (_guard, result) = condvar.wait_timeout(mutex.lock().unwrap(), Duration::from_millis(1)).unwrap();
    /// assert!(result.timed_out());
    /// ```
    ///
    /// # Cancellation
    /// As [`wait`](Condvar::wait), but in a destructor of a thread that is being cancelled it does
    /// not wait.
    ///
    /// # Errors
    /// As [`wait`](Condvar::wait).
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        self.wait_until(guard, deadline_after(timeout))
    }

    /// Waits to be notified, for so many milliseconds at most; returns `false` if time was up.
    ///
    /// # Errors
    /// As [`wait`](Condvar::wait).
    #[deprecated(note = "std has replaced it by `wait_timeout`")]
    pub fn wait_timeout_ms<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        ms: u32,
    ) -> LockResult<(MutexGuard<'a, T>, bool)> {
        let mutex = guard.mutex();
        let (guard, notified) = self.wait_for(
            guard,
            Patience::Until(deadline_after(Duration::from_millis(u64::from(ms)))),
        );
        mutex.judge((guard, notified))
    }

    /// Waits to be notified, until `deadline` at most; see [`wait_timeout`](Condvar::wait_timeout).
    ///
    /// # Errors
    /// As [`wait`](Condvar::wait).
    pub fn wait_deadline<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: impl Into<Instant>,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        self.wait_until(guard, Some(deadline.into()))
    }

    /// Waits as long as `condition` holds, for `timeout` at most. The result says that time was up
    /// only if the condition still holds.
    ///
    /// # Cancellation
    /// As [`wait_timeout`](Condvar::wait_timeout), if it has to wait.
    ///
    /// # Errors
    /// As [`wait`](Condvar::wait), if it has waited.
    pub fn wait_timeout_while<'a, T: ?Sized, F>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
        condition: F,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)>
    where
        F: FnMut(&mut T) -> bool,
    {
        self.wait_until_not(guard, deadline_after(timeout), condition)
    }

    /// Waits as long as `condition` holds, until `deadline` at most; see
    /// [`wait_timeout_while`](Condvar::wait_timeout_while).
    ///
    /// # Errors
    /// As [`wait`](Condvar::wait), if it has waited.
    pub fn wait_deadline_while<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: impl Into<Instant>,
        condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        self.wait_until_not(guard, Some(deadline.into()), condition)
    }

    /// Wakes the thread that has waited longest, if any waits.
    #[inline]
    pub fn notify_one(&self) {
        if self.occupied.load(Ordering::Relaxed) {
            let mut queue = self.queue.lock();
            let claimed = queue.claim();
            self.occupied.store(!queue.is_empty(), Ordering::Relaxed);
            drop(queue);
            drop(claimed);
        }
    }

    /// Wakes all threads that wait.
    pub fn notify_all(&self) {
        if self.occupied.load(Ordering::Relaxed) {
            let mut queue = self.queue.lock();
            self.occupied.store(false, Ordering::Relaxed);
            let seated = [queue.first, 1 - queue.first].map(|at| queue.claim_seat(at));
            let mut others = mem::take(&mut queue.others);
            drop(queue);
            seated.into_iter().for_each(drop);
            others.wake_all();
        }
    }

    fn wait_until<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Option<Instant>,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let mutex = guard.mutex();
        let (guard, notified) = self.wait_for(guard, Patience::Until(deadline));
        mutex.judge((guard, WaitTimeoutResult(!notified)))
    }

    fn wait_until_not<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        deadline: Option<Instant>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let mutex = guard.mutex();
        let mut over = deadline.is_some_and(|deadline| deadline <= park::now());
        loop {
            if !condition(&mut guard) {
                return Ok((guard, WaitTimeoutResult(false)));
            }
            if over {
                return mutex.judge((guard, WaitTimeoutResult(true)));
            }
            let (again, notified) = self.wait_for(guard, Patience::Until(deadline));
            (guard, _) = mutex.judge((again, WaitTimeoutResult(!notified)))?;
            over = !notified;
        }
    }

    /// Waits once, and returns with the mutex locked. `false` if nobody has ended the wait.
    #[inline(always)] // So that the switch's return is predicted; see `coroutine`.
    fn wait_for<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        patience: Patience,
    ) -> (MutexGuard<'a, T>, bool) {
        let mutex = guard.mutex();
        // Until it has been enlisted, whatever unwinds unlocks the mutex with the guard.
        let mut held = Some(guard);
        let enter = |wait: &Wait<'_>| {
            {
                let mut queue = self.queue.lock();
                queue.push(wait);
                self.occupied.store(true, Ordering::Relaxed);
            }
            held.take().expect("it waits once").release();
            true
        };
        let leave = |wait: &Wait<'_>| {
            let mut queue = self.queue.lock();
            queue.remove(wait);
            self.occupied.store(!queue.is_empty(), Ordering::Relaxed);
        };
        let end = patience.wait_once(Reason::Condvar, None, enter, leave);
        (held.unwrap_or_else(|| mutex.relock()), end == End::Got)
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}
