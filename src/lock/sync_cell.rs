//! [`SyncCell`]: a value that whoever holds a lock may reach through a shared reference.

use std::cell::UnsafeCell;

/// See the module. If it is `SHARED`, the lock lets several threads in at a time, none of them to
/// change it.
pub(crate) struct SyncCell<const SHARED: bool, T: ?Sized>(UnsafeCell<T>);

// SAFETY: one thread at a time comes by a reference to the value this way, as whoever follows what
// `get` returns vouches for: so it has to be fit to go from thread to thread.
unsafe impl<T: ?Sized + Send> Sync for SyncCell<false, T> {}

// SAFETY: one thread at a time comes by an exclusive reference to the value, or several by shared
// ones, as whoever follows what `get` returns vouches for: so it has to be fit to go from thread to
// thread, and to be shared.
unsafe impl<T: ?Sized + Send + Sync> Sync for SyncCell<true, T> {}

impl<const SHARED: bool, T> SyncCell<SHARED, T> {
    pub(crate) const fn new(value: T) -> SyncCell<SHARED, T> {
        SyncCell(UnsafeCell::new(value))
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<const SHARED: bool, T: ?Sized> SyncCell<SHARED, T> {
    pub(crate) fn exclusive(&mut self) -> &mut T {
        self.0.get_mut()
    }

    /// Where the value is: for whoever holds the lock.
    #[inline]
    pub(crate) fn get(&self) -> *mut T {
        self.0.get()
    }
}
