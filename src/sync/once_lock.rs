//! [`OnceLock`].

use std::fmt;
use std::mem;

use super::once::Once;

/// A value that is written once, by whoever comes first, as in a [`std::sync::OnceLock`].
///
/// ```
/// use hebra::sync::OnceLock;
///
/// static HOST: OnceLock<String> = OnceLock::new();
///
/// hebra::run(|| {
///     let host = HOST.get_or_init(|| String::from("localhost"));
///     assert_eq!(host, "localhost");
/// });
/// ```
pub struct OnceLock<T> {
    once: Once,
    /// Set by the one thread that runs the closure of `once`; so nobody ever waits for it. If that
    /// unwinds, std's cell is let go before `once` is.
    value: std::sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    /// Makes one without a value.
    pub const fn new() -> OnceLock<T> {
        OnceLock {
            once: Once::new(),
            value: std::sync::OnceLock::new(),
        }
    }

    /// Returns the value, if it is there.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        self.value.get()
    }

    /// Returns the value, if it is there.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut()
    }

    /// Waits for the value, whoever writes it.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use hebra::sync::OnceLock;
    /// use hebra::thread;
    ///
    /// hebra::run(|| {
    ///     let cell = Arc::new(OnceLock::new());
    ///     let theirs = cell.clone();
    ///     thread::spawn(move || theirs.set(92));
    ///     assert_eq!(*cell.wait(), 92);
    /// });
    /// ```
    ///
    /// # Cancellation
    /// Parks the current thread if it has to wait; this is a cancel point. In a destructor of a
    /// thread that is being cancelled it waits all the same.
    pub fn wait(&self) -> &T {
        self.once.wait_force();
        self.get().expect("it was complete")
    }

    /// Writes the value. If another thread is about to, waits for the outcome.
    ///
    /// # Cancellation
    /// As [`get_or_init`](OnceLock::get_or_init).
    ///
    /// # Errors
    /// There is a value already; the new one is in the error.
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        self.get_or_init(|| value.take().expect("a closure runs once"));
        value.map_or(Ok(()), Err)
    }

    /// Returns the value, which is what `f` returns if there is none yet. Of several threads one
    /// runs its closure, and the others wait.
    ///
    /// # Cancellation
    /// Parks the current thread if another runs its closure; this is a cancel point. If `f` is
    /// cancelled, there is no value, and the next caller's closure runs.
    ///
    /// # Panics
    /// Continues a panic of `f`; there is no value then. Panics if `f` asks for the value itself.
    #[inline]
    #[track_caller]
    pub fn get_or_init<F>(&self, f: F) -> &T
    where
        F: FnOnce() -> T,
    {
        match self.get() {
            Some(value) => value,
            None => self.init(f),
        }
    }

    #[cold]
    #[track_caller]
    fn init(&self, f: impl FnOnce() -> T) -> &T {
        self.once.call_once_force(|_| {
            // std's writes the value where it belongs: it may be too large to be handed on.
            self.value.get_or_init(f);
        });
        self.get().expect("a closure has run to its end")
    }

    /// Takes the value out.
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }

    /// Takes the value out, if there is one: the next can be written.
    pub fn take(&mut self) -> Option<T> {
        mem::take(self).into_inner()
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> OnceLock<T> {
        OnceLock::new()
    }
}

impl<T> From<T> for OnceLock<T> {
    fn from(value: T) -> OnceLock<T> {
        let cell = OnceLock::new();
        // It is new, and nobody else's.
        let _ = cell.set(value);
        cell
    }
}

impl<T: Clone> Clone for OnceLock<T> {
    fn clone(&self) -> OnceLock<T> {
        self.get()
            .cloned()
            .map_or_else(OnceLock::new, OnceLock::from)
    }
}

impl<T: PartialEq> PartialEq for OnceLock<T> {
    fn eq(&self, other: &OnceLock<T>) -> bool {
        self.get() == other.get()
    }
}

impl<T: Eq> Eq for OnceLock<T> {}

impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_tuple("OnceLock");
        match self.get() {
            Some(value) => debug.field(value),
            None => debug.field(&format_args!("<uninit>")),
        };
        debug.finish()
    }
}
