//! [`RwLock`].

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{LockResult, TryLockError, TryLockResult};
use std::time::{Duration, Instant};

use super::gate::{Access, Gate};
use super::patience::Patience;
use super::poison::{Holder, Poison};
use crate::lock::sync_cell::SyncCell;

use crate::park::{charge_or_yield, deadline_after, thread_id};

/// Guards a value that one thread changes or several read, as [`std::sync::RwLock`] has it, for
/// green threads and OS threads alike.
///
/// Waiters are admitted in the order in which they came, adjacent readers together, and none is
/// overtaken; see [Fairness](super#fairness). A reader that arrives while others wait goes to the
/// end of the queue, so writers do not starve; and a thread that reads already must not ask to read
/// again, for a writer may wait in between.
///
/// It is poisoned by a thread that panics while it writes; not by one that is cancelled.
///
/// ```
/// use hebra::sync::RwLock;
///
/// let lock = RwLock::new(5);
/// {
///     let (one, other) = (lock.read().unwrap(), lock.read().unwrap());
///     assert_eq!(*one + *other, 10);
/// }
/// *lock.write().unwrap() += 1;
/// assert_eq!(*lock.read().unwrap(), 6);
/// ```
pub struct RwLock<T: ?Sized> {
    gate: Gate,
    poison: Poison,
    value: SyncCell<true, T>,
}

impl<T> RwLock<T> {
    /// Makes an unlocked lock.
    pub const fn new(value: T) -> RwLock<T> {
        RwLock {
            gate: Gate::new(),
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

impl<T: ?Sized> RwLock<T> {
    /// Locks the value for reading, after those who wait already.
    ///
    /// # Cancellation
    /// Parks the current thread if it has to wait; this is a cancel point. In a destructor of a
    /// thread that is being cancelled it waits all the same.
    ///
    /// # Errors
    /// It is poisoned; the guard is in the error.
    #[inline]
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        charge_or_yield();
        self.gate.enter(Access::Read, Patience::Endless);
        self.poison.judge(self.reader())
    }

    /// Locks the value for reading if nobody writes or waits.
    ///
    /// # Errors
    /// Somebody does; or it is poisoned, and the guard is in the error.
    #[inline]
    pub fn try_read(&self) -> TryLockResult<RwLockReadGuard<'_, T>> {
        self.reader_if(self.gate.try_enter(Access::Read))
    }

    /// Locks the value for reading, but waits for `timeout` at most.
    ///
    /// # Cancellation
    /// As [`read`](RwLock::read), but in a destructor of a thread that is being cancelled it fails
    /// instead of waiting.
    ///
    /// # Errors
    /// `WouldBlock`: time was up. `Poisoned`: it is poisoned, and the guard is in the error.
    pub fn read_timeout(&self, timeout: Duration) -> TryLockResult<RwLockReadGuard<'_, T>> {
        self.reader_if(self.enter_until(Access::Read, || deadline_after(timeout)))
    }

    /// Locks the value for reading, but waits until `deadline` at most; see
    /// [`read_timeout`](RwLock::read_timeout).
    ///
    /// # Errors
    /// As [`read_timeout`](RwLock::read_timeout).
    pub fn read_deadline(
        &self,
        deadline: impl Into<Instant>,
    ) -> TryLockResult<RwLockReadGuard<'_, T>> {
        self.reader_if(self.enter_until(Access::Read, || Some(deadline.into())))
    }

    /// Locks the value for writing, after those who wait already.
    ///
    /// # Cancellation
    /// As [`read`](RwLock::read).
    ///
    /// # Errors
    /// It is poisoned; the guard is in the error.
    #[inline]
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        charge_or_yield();
        let me = thread_id();
        self.gate.enter(Access::Write(me), Patience::Endless);
        self.poison.judge(self.writer())
    }

    /// Locks the value for writing if nobody reads or writes.
    ///
    /// # Errors
    /// Somebody does; or it is poisoned, and the guard is in the error.
    #[inline]
    pub fn try_write(&self) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        let me = thread_id();
        self.writer_if(self.gate.try_enter(Access::Write(me)))
    }

    /// Locks the value for writing, but waits for `timeout` at most.
    ///
    /// ```
    /// use std::sync::TryLockError;
    /// use std::time::Duration;
    /// use hebra::sync::RwLock;
    ///
    /// let lock = RwLock::new(());
    /// let reader = lock.read().unwrap();
    /// let late = lock.write_timeout(Duration::from_millis(1));
    /// assert!(matches!(late, Err(TryLockError::WouldBlock)));
    /// # drop(reader);
    /// ```
    ///
    /// # Cancellation
    /// As [`read_timeout`](RwLock::read_timeout).
    ///
    /// # Errors
    /// As [`read_timeout`](RwLock::read_timeout).
    pub fn write_timeout(&self, timeout: Duration) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        let me = thread_id();
        self.writer_if(self.enter_until(Access::Write(me), || deadline_after(timeout)))
    }

    /// Locks the value for writing, but waits until `deadline` at most; see
    /// [`write_timeout`](RwLock::write_timeout).
    ///
    /// # Errors
    /// As [`read_timeout`](RwLock::read_timeout).
    pub fn write_deadline(
        &self,
        deadline: impl Into<Instant>,
    ) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        let me = thread_id();
        self.writer_if(self.enter_until(Access::Write(me), || Some(deadline.into())))
    }

    fn enter_until(&self, access: Access, deadline: impl FnOnce() -> Option<Instant>) -> bool {
        charge_or_yield();
        self.gate.try_enter(access) || self.gate.enter(access, Patience::Until(deadline()))
    }

    /// The calling thread has entered to read.
    #[inline]
    fn reader(&self) -> RwLockReadGuard<'_, T> {
        RwLockReadGuard {
            gate: &self.gate,
            value: self.value.get(),
            stays: PhantomData,
        }
    }

    fn reader_if(&self, entered: bool) -> TryLockResult<RwLockReadGuard<'_, T>> {
        if entered {
            Ok(self.poison.judge(self.reader())?)
        } else {
            Err(TryLockError::WouldBlock)
        }
    }

    /// The calling thread has entered to write.
    #[inline]
    fn writer(&self) -> RwLockWriteGuard<'_, T> {
        RwLockWriteGuard {
            lock: self,
            holder: Holder::new(),
            stays: PhantomData,
        }
    }

    fn writer_if(&self, entered: bool) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        if entered {
            Ok(self.poison.judge(self.writer())?)
        } else {
            Err(TryLockError::WouldBlock)
        }
    }

    /// Returns whether the lock is poisoned. Another thread may poison it at any time.
    pub fn is_poisoned(&self) -> bool {
        self.poison.is_set()
    }

    /// Says that the value is in order again, whatever the panic has left.
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

impl<T: ?Sized> UnwindSafe for RwLock<T> {}
impl<T: ?Sized> RefUnwindSafe for RwLock<T> {}

impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> RwLock<T> {
        RwLock::new(value)
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> RwLock<T> {
        RwLock::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RwLock");
        match self.try_read() {
            Ok(guard) => debug.field("data", &&*guard),
            Err(TryLockError::Poisoned(poisoned)) => debug.field("data", &&**poisoned.get_ref()),
            Err(TryLockError::WouldBlock) => debug.field("data", &format_args!("<locked>")),
        };
        debug
            .field("poisoned", &self.is_poisoned())
            .finish_non_exhaustive()
    }
}

/// The right to read what a [`RwLock`] guards; given back when it is dropped. Like std's it is not
/// `Send`.
#[must_use = "if unused, the lock is unlocked at once"]
#[clippy::has_significant_drop]
pub struct RwLockReadGuard<'a, T: ?Sized + 'a> {
    gate: &'a Gate,
    /// The lock's value. Not by a reference to the lock: as std's it can stand for a guard of what
    /// `T` is a subtype of, as who only reads does not mind.
    value: *const T,
    /// Keeps it from being sent, as std's.
    stays: PhantomData<std::sync::RwLockReadGuard<'a, T>>,
}

// SAFETY: a reference to the guard gives a reference to the value, which may be shared as `T` is
// `Sync`. As std's.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}

/// The right to change what a [`RwLock`] guards; given back when it is dropped. Like std's it is
/// not `Send`.
#[must_use = "if unused, the lock is unlocked at once"]
#[clippy::has_significant_drop]
pub struct RwLockWriteGuard<'a, T: ?Sized + 'a> {
    lock: &'a RwLock<T>,
    holder: Holder,
    /// Keeps it from being sent, as std's.
    stays: PhantomData<std::sync::RwLockWriteGuard<'a, T>>,
}

// SAFETY: a reference to the guard gives a reference to the value, and nothing else of the lock;
// that may be shared as `T` is `Sync`. As std's.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    /// Turns the right to change into the right to read. No other writer comes in between.
    ///
    /// ```
    /// use hebra::sync::{RwLock, RwLockWriteGuard};
    ///
    /// let lock = RwLock::new(1);
    /// let mut writer = lock.write().unwrap();
    /// *writer += 1;
    /// let reader = RwLockWriteGuard::downgrade(writer);
    /// assert_eq!((*reader, *lock.read().unwrap()), (2, 2));
    /// ```
    pub fn downgrade(this: RwLockWriteGuard<'a, T>) -> RwLockReadGuard<'a, T> {
        let this = ManuallyDrop::new(this);
        this.lock.gate.downgrade();
        this.lock.reader()
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the value is in the lock, which outlives the guard; this is in as a reader, and no
        // writer is in with it.
        unsafe { &*self.value }
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard is in alone, and exclusive references come from it by way of `&mut`.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard is in alone, and is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.gate.leave(Access::Read);
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.poison.note(self.holder);
        self.lock.gate.leave(Access::Write(0));
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
