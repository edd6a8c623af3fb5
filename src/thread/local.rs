//! [`LocalKey`]: a value for each thread, green or OS, with the API of [`std::thread::LocalKey`].
//!
//! A key holds two things: how to make a value, and a thread-local of std's. On a plain OS thread
//! it *is* that thread-local; on a green thread its address is what the green thread keeps a value
//! of its own under, with its worker.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::mem;
use std::ptr;
use std::rc::Rc;

use crate::scheduler::locals::{Found, Key};
use crate::scheduler::worker;

const GONE: &str = "cannot access a thread-local value during or after its destruction";

/// Declares keys of which each thread, green or OS, has a value of its own, as
/// [`std::thread_local!`] does.
///
/// The grammar is std's: attributes, a visibility, several keys, `const { … }` initialisers. See
/// [`LocalKey`].
///
/// ```
/// use std::cell::{Cell, RefCell};
///
/// hebra::thread_local! {
///     /// How often this thread has counted.
///     pub static COUNT: Cell<u32> = const { Cell::new(0) };
///     static WORDS: RefCell<Vec<String>> = RefCell::new(vec!["one".into()]);
/// }
///
/// hebra::run(|| {
///     COUNT.set(5);
///     let other = hebra::thread::spawn(|| COUNT.get());
///     assert_eq!(other.join().unwrap(), 0);
///     WORDS.with_borrow_mut(|words| words.push("two".into()));
///     assert_eq!((COUNT.get(), WORDS.take().len()), (5, 2));
/// });
/// ```
#[macro_export]
macro_rules! thread_local {
    () => {};
    ($(#[$attribute:meta])* $visibility:vis static $name:ident: $type:ty = const $init:block $(; $($rest:tt)*)?) => {
        $(#[$attribute])*
        $visibility static $name: $crate::thread::LocalKey<$type> = {
            ::std::thread_local! {
                static __HEBRA_OS: $type = const { $init };
            }
            $crate::thread::LocalKey::new(|| const { $init }, || &__HEBRA_OS)
        };
        $($crate::thread_local!($($rest)*);)?
    };
    ($(#[$attribute:meta])* $visibility:vis static $name:ident: $type:ty = $init:expr $(; $($rest:tt)*)?) => {
        $(#[$attribute])*
        $visibility static $name: $crate::thread::LocalKey<$type> = {
            const __HEBRA_INIT: fn() -> $type = || $init;
            ::std::thread_local! {
                static __HEBRA_OS: $type = __HEBRA_INIT();
            }
            $crate::thread::LocalKey::new(__HEBRA_INIT, || &__HEBRA_OS)
        };
        $($crate::thread_local!($($rest)*);)?
    };
}

/// A key of which each thread, green or OS, has a value of its own, as [`std::thread::LocalKey`];
/// made by [`hebra::thread_local!`](crate::thread_local!).
///
/// Inside [`with`](LocalKey::with) the thread may park: the value is its own until it ends. It need
/// not be `Send`, as a green thread stays on its worker. The body of a generator sees the values of
/// the thread that runs it.
///
/// # Initialisation and destruction
///
/// A value is made at a thread's first use of the key. The initialiser may park. If it panics,
/// nothing has happened, and the next use tries again. If it uses its own key, the value of the
/// inner use is replaced by that of the outer one, as in std.
///
/// Values are destroyed when the thread ends: it has returned, panicked, or been cancelled, as at
/// the end of its runtime. On a green thread that happens on its own stack, the last initialised
/// first, before a join of it returns. A destructor may park, and may use other keys: those that
/// are initialised only then are destroyed in their turn, those that have been destroyed give an
/// [`AccessError`]. Where std would end the process, because a destructor panics, a green thread
/// says so on standard error and goes on with the next.
///
/// On a plain OS thread the key is a thread-local of std's, in all of this.
pub struct LocalKey<T: 'static> {
    init: fn() -> T,
    os: fn() -> &'static std::thread::LocalKey<T>,
}

/// Where the calling thread keeps its value.
enum Place<T: 'static> {
    /// In std's thread-local.
    Os(&'static std::thread::LocalKey<T>),
    Green(Rc<T>),
    /// Nowhere yet; it is a green thread.
    Nothing,
    Gone,
}

impl<T: 'static> LocalKey<T> {
    #[doc(hidden)]
    pub const fn new(
        init: fn() -> T,
        os: fn() -> &'static std::thread::LocalKey<T>,
    ) -> LocalKey<T> {
        LocalKey { init, os }
    }

    #[inline]
    fn key(&'static self) -> Key {
        ptr::from_ref(self).addr()
    }

    #[inline]
    fn place(&'static self) -> Place<T> {
        let key = self.key();
        let found = worker::with(|local, _| {
            local
                .with_locals(|locals| locals.find(key))
                .unwrap_or(Found::Nothing)
        });
        match found {
            Some(Found::Value(value)) => {
                Place::Green(value.downcast().expect("a key has values of one type"))
            }
            Some(Found::Nothing) => Place::Nothing,
            Some(Found::Destroyed) => Place::Gone,
            None => Place::Os((self.os)()),
        }
    }

    /// Keeps `value` for the calling green thread.
    fn initialize(&'static self, value: T) -> Rc<T> {
        let value = Rc::new(value);
        let kept: Rc<dyn Any> = value.clone();
        let key = self.key();
        let before = worker::with(|local, _| {
            local.with_new_locals(|locals| locals.insert(key, kept, mem::needs_drop::<T>()))
        });
        // Not inside of `with`: its destructor may do as it likes.
        drop(before);
        value
    }

    /// Runs `f` with the calling thread's value, made if this is the first use.
    ///
    /// # Panics
    /// Panics while the value is being destroyed, and afterwards as long as the thread destroys
    /// others.
    #[inline]
    #[track_caller]
    pub fn with<F, R>(&'static self, f: F) -> R
    where
        F: FnOnce(&T) -> R,
    {
        self.try_with(f).expect(GONE)
    }

    /// Runs `f` with the calling thread's value, made if this is the first use.
    ///
    /// # Errors
    /// An [`AccessError`] while the value is being destroyed, and afterwards as long as the thread
    /// destroys others.
    #[inline]
    pub fn try_with<F, R>(&'static self, f: F) -> Result<R, AccessError>
    where
        F: FnOnce(&T) -> R,
    {
        match self.place() {
            Place::Green(value) => Ok(f(&value)),
            Place::Os(key) => key.try_with(f).map_err(|_| AccessError(())),
            Place::Nothing => Ok(f(&self.initialize((self.init)()))),
            Place::Gone => Err(AccessError(())),
        }
    }
}

impl<T: 'static> LocalKey<Cell<T>> {
    /// Sets the value. At the first use the initialiser is not run.
    ///
    /// # Panics
    /// As [`with`](LocalKey::with).
    #[track_caller]
    pub fn set(&'static self, value: T) {
        match self.place() {
            Place::Green(cell) => cell.set(value),
            Place::Os(key) => key.set(value),
            Place::Nothing => drop(self.initialize(Cell::new(value))),
            Place::Gone => panic!("{GONE}"),
        }
    }

    /// Returns a copy of the value.
    ///
    /// # Panics
    /// As [`with`](LocalKey::with).
    #[inline]
    #[track_caller]
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }

    /// Takes the value and leaves the default.
    ///
    /// # Panics
    /// As [`with`](LocalKey::with).
    #[track_caller]
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(Cell::take)
    }

    /// Puts `value` in the place of the old one, which it returns.
    ///
    /// # Panics
    /// As [`with`](LocalKey::with).
    #[track_caller]
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> LocalKey<RefCell<T>> {
    /// Runs `f` with the value borrowed.
    ///
    /// # Panics
    /// As [`with`](LocalKey::with), and while it is borrowed mutably: by the thread itself, as
    /// nobody else can.
    #[inline]
    #[track_caller]
    pub fn with_borrow<F, R>(&'static self, f: F) -> R
    where
        F: FnOnce(&T) -> R,
    {
        self.with(|cell| f(&cell.borrow()))
    }

    /// Runs `f` with the value borrowed mutably.
    ///
    /// # Panics
    /// As [`with`](LocalKey::with), and while it is borrowed.
    #[inline]
    #[track_caller]
    pub fn with_borrow_mut<F, R>(&'static self, f: F) -> R
    where
        F: FnOnce(&mut T) -> R,
    {
        self.with(|cell| f(&mut cell.borrow_mut()))
    }

    /// Sets the value. At the first use the initialiser is not run.
    ///
    /// # Panics
    /// As [`with_borrow_mut`](LocalKey::with_borrow_mut).
    #[track_caller]
    pub fn set(&'static self, value: T) {
        match self.place() {
            Place::Green(cell) => drop(cell.replace(value)),
            Place::Os(key) => key.set(value),
            Place::Nothing => drop(self.initialize(RefCell::new(value))),
            Place::Gone => panic!("{GONE}"),
        }
    }

    /// Takes the value and leaves the default.
    ///
    /// # Panics
    /// As [`with_borrow_mut`](LocalKey::with_borrow_mut).
    #[track_caller]
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(RefCell::take)
    }

    /// Puts `value` in the place of the old one, which it returns.
    ///
    /// # Panics
    /// As [`with_borrow_mut`](LocalKey::with_borrow_mut).
    #[track_caller]
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").finish_non_exhaustive()
    }
}

/// Says that a thread-local value is being destroyed, or has been; see [`LocalKey::try_with`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AccessError(());

impl fmt::Debug for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessError").finish()
    }
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("already destroyed")
    }
}

impl Error for AccessError {}
