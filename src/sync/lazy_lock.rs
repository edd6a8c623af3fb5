//! [`LazyLock`].

use std::fmt;
use std::ops::{Deref, DerefMut};

use super::once_lock::OnceLock;
use crate::lock::Lock;
use crate::thread::shield;

/// A value that is made when it is first asked for, as in a [`std::sync::LazyLock`].
///
/// ```
/// use hebra::sync::LazyLock;
///
/// static PRIMES: LazyLock<Vec<u32>> = LazyLock::new(|| (2..50).filter(|n| (2..*n).all(|d| n % d != 0)).collect());
///
/// assert_eq!(hebra::run(|| PRIMES.len()), 15);
/// ```
///
/// # Cancellation
/// Who comes while another thread makes the value parks; this is a cancel point. Making it is not:
/// there is only one closure, so it runs to its end in a [`shield`].
pub struct LazyLock<T, F = fn() -> T> {
    value: OnceLock<T>,
    /// Until it runs.
    f: Lock<Option<F>>,
}

impl<T, F: FnOnce() -> T> LazyLock<T, F> {
    /// Makes a value to be made by `f`.
    pub const fn new(f: F) -> LazyLock<T, F> {
        LazyLock {
            value: OnceLock::new(),
            f: Lock::new(Some(f)),
        }
    }

    /// Returns the value, and makes it if that has not been done. Dereferencing does the same.
    ///
    /// # Panics
    /// Continues a panic of the closure, and panics ever after. Panics if the closure asks for the
    /// value.
    #[inline]
    #[track_caller]
    pub fn force(this: &LazyLock<T, F>) -> &T {
        this.value.get_or_init(|| {
            let f = this.f.lock().take();
            let f = f.expect("LazyLock instance has previously been poisoned");
            shield(f)
        })
    }

    /// Returns the value to be changed, and makes it if that has not been done.
    ///
    /// # Panics
    /// As [`force`](LazyLock::force).
    #[inline]
    #[track_caller]
    pub fn force_mut(this: &mut LazyLock<T, F>) -> &mut T {
        LazyLock::force(this);
        this.value.get_mut().expect("it has just been made")
    }
}

impl<T, F> LazyLock<T, F> {
    /// Returns the value, if it has been made.
    #[inline]
    pub fn get(this: &LazyLock<T, F>) -> Option<&T> {
        this.value.get()
    }

    /// Returns the value to be changed, if it has been made.
    #[inline]
    pub fn get_mut(this: &mut LazyLock<T, F>) -> Option<&mut T> {
        this.value.get_mut()
    }
}

impl<T, F: FnOnce() -> T> Deref for LazyLock<T, F> {
    type Target = T;

    #[inline]
    #[track_caller]
    fn deref(&self) -> &T {
        LazyLock::force(self)
    }
}

impl<T, F: FnOnce() -> T> DerefMut for LazyLock<T, F> {
    #[inline]
    #[track_caller]
    fn deref_mut(&mut self) -> &mut T {
        LazyLock::force_mut(self)
    }
}

impl<T: Default> Default for LazyLock<T> {
    fn default() -> LazyLock<T> {
        LazyLock::new(T::default)
    }
}

impl<T: fmt::Debug, F> fmt::Debug for LazyLock<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_tuple("LazyLock");
        match self.value.get() {
            Some(value) => debug.field(value),
            None => debug.field(&format_args!("<uninit>")),
        };
        debug.finish()
    }
}
