//! [`Mutex`].

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{LockResult, TryLockError, TryLockResult};
use std::time::{Duration, Instant};

use super::baton::Baton;
use super::patience::Patience;
use super::poison::{Holder, Poison};
use crate::lock::sync_cell::SyncCell;

use crate::park::{charge_or_yield, deadline_after, thread_id};

/// Guards a value: one thread at a time reaches it, as [`std::sync::Mutex`] has it, for green
/// threads and OS threads alike.
///
/// Threads of one worker get it in the order in which they came: a thread that unlocks and locks
/// again goes to the end of the queue. A waiter that lives on another worker, or in a crowd, may be
/// overtaken a bounded number of times; the [module](super#fairness) has the numbers. A green thread
/// may keep the guard while it parks.
///
/// It is poisoned by a thread that panics while it holds the guard; not by one that is cancelled.
///
/// ```
/// use std::sync::Arc;
/// use hebra::sync::Mutex;
/// use hebra::thread;
///
/// let total = hebra::run(|| {
///     let total = Arc::new(Mutex::new(0));
///     let threads: Vec<_> = (1..=10).map(|n| {
///         let total = total.clone();
///         thread::spawn(move || *total.lock().unwrap() += n)
///     }).collect();
///     threads.into_iter().for_each(|thread| thread.join().unwrap());
///     *total.lock().unwrap()
/// });
/// assert_eq!(total, 55);
/// ```
pub struct Mutex<T: ?Sized> {
    baton: Baton,
    poison: Poison,
    value: SyncCell<false, T>,
}

impl<T> Mutex<T> {
    /// Makes an unlocked mutex.
    pub const fn new(value: T) -> Mutex<T> {
        Mutex {
            baton: Baton::new(),
            poison: Poison::new(),
            value: SyncCell::new(value),
        }
    }

    /// Takes the value out.
    ///
    /// # Errors
    /// It is poisoned; the value is in the error.
    pub fn into_inner(self) -> LockResult<T> {
        self.poison.judge(self.value.into_inner())
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Locks the mutex; see [Fairness](super#fairness) for the order in which those who wait get it.
    ///
    /// ```
    /// let mutex = hebra::sync::Mutex::new(1);
    /// *mutex.lock().unwrap() += 1;
    /// assert_eq!(*mutex.lock().unwrap(), 2);
    /// ```
    ///
    /// A thread that locks a mutex which it holds already waits for itself: for ever.
    ///
    /// # Cancellation
    /// Parks the current thread if it has to wait; this is a cancel point. In a destructor of a
    /// thread that is being cancelled it waits all the same.
    ///
    /// # Errors
    /// It is poisoned; the guard is in the error.
    #[inline]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        charge_or_yield();
        self.baton.take(thread_id(), Patience::Endless);
        self.poison.judge(self.guard())
    }

    /// Locks the mutex if no thread holds it, and it is not reserved for one that has been woken.
    ///
    /// # Errors
    /// It is held or reserved; or it is poisoned, and the guard is in the error.
    #[inline]
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        self.outcome(self.baton.try_take(thread_id()))
    }

    /// Locks the mutex, but waits for `timeout` at most.
    ///
    /// ```
    /// use std::sync::TryLockError;
    /// use std::time::Duration;
    /// use hebra::sync::Mutex;
    ///
    /// let mutex = Mutex::new(());
    /// let guard = mutex.lock().unwrap();
    /// let late = mutex.lock_timeout(Duration::from_millis(1));
    /// assert!(matches!(late, Err(TryLockError::WouldBlock)));
    /// # drop(guard);
    /// ```
    ///
    /// # Cancellation
    /// Parks the current thread if it has to wait; this is a cancel point. In a destructor of a
    /// thread that is being cancelled it fails instead of waiting.
    ///
    /// # Errors
    /// `WouldBlock`: time was up. `Poisoned`: it is poisoned, and the guard is in the error.
    pub fn lock_timeout(&self, timeout: Duration) -> TryLockResult<MutexGuard<'_, T>> {
        self.lock_until(|| deadline_after(timeout))
    }

    /// Locks the mutex, but waits until `deadline` at most; see
    /// [`lock_timeout`](Mutex::lock_timeout).
    ///
    /// # Errors
    /// As [`lock_timeout`](Mutex::lock_timeout).
    pub fn lock_deadline(&self, deadline: impl Into<Instant>) -> TryLockResult<MutexGuard<'_, T>> {
        self.lock_until(|| Some(deadline.into()))
    }

    fn lock_until(
        &self,
        deadline: impl FnOnce() -> Option<Instant>,
    ) -> TryLockResult<MutexGuard<'_, T>> {
        charge_or_yield();
        let me = thread_id();
        self.outcome(self.baton.try_take(me) || self.baton.take(me, Patience::Until(deadline())))
    }

    fn outcome(&self, taken: bool) -> TryLockResult<MutexGuard<'_, T>> {
        if taken {
            Ok(self.poison.judge(self.guard())?)
        } else {
            Err(TryLockError::WouldBlock)
        }
    }

    /// The baton is the calling thread's.
    #[inline]
    fn guard(&self) -> MutexGuard<'_, T> {
        MutexGuard {
            mutex: self,
            holder: Holder::new(),
            stays: PhantomData,
        }
    }

    /// Locks the mutex for the calling thread, which has waited for a condition. That wait has
    /// succeeded, so this is not the place to be cancelled.
    #[inline]
    pub(super) fn relock(&self) -> MutexGuard<'_, T> {
        // The guard that was given up may have been locked by another thread of this worker, and
        // have been carried here: its id must not stand for the calling thread.
        self.baton.take(thread_id(), Patience::Shielded);
        self.guard()
    }

    /// Hands `value`, which a guard belongs to, out as an error if the mutex is poisoned.
    pub(super) fn judge<G>(&self, value: G) -> LockResult<G> {
        self.poison.judge(value)
    }

    /// Returns whether the mutex is poisoned. Another thread may poison it at any time.
    pub fn is_poisoned(&self) -> bool {
        self.poison.is_set()
    }

    /// Says that the value is in order again, whatever the panic has left.
    ///
    /// ```
    /// use hebra::sync::Mutex;
    ///
    /// let mutex = Mutex::new(1);
    /// # std::panic::set_hook(Box::new(|_| {}));
    /// let panicked = std::panic::catch_unwind(|| {
    ///     let _guard = mutex.lock().unwrap();
    ///     panic!("half done");
    /// });
    /// assert!(panicked.is_err() && mutex.is_poisoned());
    /// *mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = 0;
    /// mutex.clear_poison();
    /// assert_eq!(*mutex.lock().unwrap(), 0);
    /// ```
    pub fn clear_poison(&self) {
        self.poison.clear();
    }

    /// Returns the value. Nothing is locked: the borrow keeps everybody else off.
    ///
    /// # Errors
    /// It is poisoned; the reference is in the error.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.poison.judge(self.value.exclusive())
    }
}

impl<T: ?Sized> UnwindSafe for Mutex<T> {}
impl<T: ?Sized> RefUnwindSafe for Mutex<T> {}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Mutex<T> {
        Mutex::new(value)
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Mutex");
        match self.try_lock() {
            Ok(guard) => debug.field("data", &&*guard),
            Err(TryLockError::Poisoned(poisoned)) => debug.field("data", &&**poisoned.get_ref()),
            Err(TryLockError::WouldBlock) => debug.field("data", &format_args!("<locked>")),
        };
        debug
            .field("poisoned", &self.is_poisoned())
            .finish_non_exhaustive()
    }
}

/// The right to reach what a [`Mutex`] guards; unlocks it when it is dropped. Like std's it is not
/// `Send`.
#[must_use = "if unused, the mutex is unlocked at once"]
#[clippy::has_significant_drop]
pub struct MutexGuard<'a, T: ?Sized + 'a> {
    mutex: &'a Mutex<T>,
    holder: Holder,
    /// Keeps it from being sent, as std's.
    stays: PhantomData<std::sync::MutexGuard<'a, T>>,
}

// SAFETY: a reference to the guard gives a reference to the value, and nothing else of the mutex;
// that may be shared as `T` is `Sync`. As std's.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    pub(super) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }

    /// Unlocks the mutex, for [`Mutex::relock`]: poisoned or not, it stays what it is.
    #[inline]
    pub(super) fn release(self) {
        ManuallyDrop::new(self).mutex.baton.pass();
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard has the baton, of which there is one, and exclusive references come
        // from the guard by way of `&mut`. It can be shared between threads only if `T` is
        // `Sync`.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard has the baton, of which there is one, and is borrowed exclusively.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.mutex.poison.note(self.holder);
        self.mutex.baton.pass();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
