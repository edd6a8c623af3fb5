//! [`Guarded`]: a value that whoever holds a lock may reach through a shared reference.

use std::cell::UnsafeCell;

/// See the module. If it is `SHARED`, the lock lets several threads in at a time, none of them to change it.
pub(super) struct Guarded<const SHARED: bool, T: ?Sized>(UnsafeCell<T>);

// SAFETY: one thread at a time comes by a reference to the value this way, as whoever calls `get` or `get_mut` vouches for: so it has to be
// fit to go from thread to thread.
unsafe impl<T: ?Sized + Send> Sync for Guarded<false, T> {}

// SAFETY: one thread at a time comes by an exclusive reference to the value, or several by shared ones, as whoever calls `get` or `get_mut`
// vouches for: so it has to be fit to go from thread to thread, and to be shared.
unsafe impl<T: ?Sized + Send + Sync> Sync for Guarded<true, T> {}

impl<const SHARED: bool, T> Guarded<SHARED, T> {
    pub(super) const fn new(value: T) -> Guarded<SHARED, T> {
        Guarded(UnsafeCell::new(value))
    }

    pub(super) fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<const SHARED: bool, T: ?Sized> Guarded<SHARED, T> {
    pub(super) fn exclusive(&mut self) -> &mut T {
        self.0.get_mut()
    }

    /// # Safety
    /// Nobody has an exclusive reference while the returned one lives; and if another thread has a shared one, `T` is `Sync`.
    #[inline]
    pub(super) unsafe fn get(&self) -> &T {
        // SAFETY: passed on to the caller.
        unsafe { &*self.0.get() }
    }

    /// # Safety
    /// Nobody has another reference while the returned one lives.
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "it is what a lock is for")]
    pub(super) unsafe fn get_mut(&self) -> &mut T {
        // SAFETY: passed on to the caller.
        unsafe { &mut *self.0.get() }
    }
}
