//! Atomics that delay the calling OS thread at random, before and after each operation.
//!
//! A race between workers needs one of them to be slow between two steps of a protocol. Ordinary
//! runs take some nanoseconds there; here any step may take microseconds. Each OS thread draws from
//! a generator of its own, which is seeded from `HEBRA_CHAOS_SEED` and the order of the threads'
//! first operations: the seed repeats the draws of a thread, not the interleaving.

use std::cell::Cell;
use std::hint::spin_loop;
use std::sync::OnceLock;
use std::sync::atomic::{self, Ordering};
use std::thread;
use std::time::Duration;

thread_local! {
    /// The state of the generator of this OS thread; zero until its first draw.
    static STATE: Cell<u64> = const { Cell::new(0) };
}

/// Draws, and spins, yields or sleeps accordingly; mostly it does nothing.
#[inline(never)]
pub(crate) fn delay() {
    let mut state = STATE.get();
    if state == 0 {
        state = first();
    }
    // xorshift64: never zero if it was not.
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    STATE.set(state);
    match (state >> 32) % 4096 {
        0..2 => thread::sleep(Duration::from_micros(state % 30)),
        2..24 => thread::yield_now(),
        24..280 => (0..state % 400).for_each(|_| spin_loop()),
        _ => {}
    }
}

#[cold]
fn first() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    static THREADS: atomic::AtomicU64 = atomic::AtomicU64::new(1);
    let seed = *SEED.get_or_init(|| {
        let given = std::env::var("HEBRA_CHAOS_SEED").ok();
        given.and_then(|seed| seed.parse().ok()).unwrap_or(1)
    });
    let number = THREADS.fetch_add(1, Ordering::Relaxed);
    (seed.wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15))) | 1
}

fn delayed<T>(operation: impl FnOnce() -> T) -> T {
    delay();
    let result = operation();
    delay();
    result
}

pub(crate) fn fence(order: Ordering) {
    delayed(|| atomic::fence(order));
}

macro_rules! methods {
    ($value:ty: $($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(
            #[allow(dead_code, reason = "not each type's operations are all used")]
            pub(crate) fn $name(&self, $($argument: $type),*) -> $result {
                delayed(|| self.0.$name($($argument),*))
            }
        )*
    };
}

macro_rules! atomics {
    ($($name:ident $(<$parameter:ident>)? of $value:ty;)*) => {
        $(
            #[derive(Debug)]
            #[repr(transparent)]
            pub(crate) struct $name $(<$parameter>)? (atomic::$name $(<$parameter>)?);

            #[allow(dead_code, reason = "not each type's operations are all used")]
            impl $(<$parameter>)? $name $(<$parameter>)? {
                pub(crate) const fn new(value: $value) -> Self {
                    Self(atomic::$name::new(value))
                }

                pub(crate) fn get_mut(&mut self) -> &mut $value {
                    self.0.get_mut()
                }

                pub(crate) fn into_inner(self) -> $value {
                    self.0.into_inner()
                }

                pub(crate) fn fetch_update(
                    &self,
                    success: Ordering,
                    failure: Ordering,
                    f: impl FnMut($value) -> Option<$value>,
                ) -> Result<$value, $value> {
                    delayed(|| self.0.fetch_update(success, failure, f))
                }

                methods! { $value:
                    load(order: Ordering) -> $value;
                    store(value: $value, order: Ordering) -> ();
                    swap(value: $value, order: Ordering) -> $value;
                    compare_exchange(
                        current: $value, new: $value, success: Ordering, failure: Ordering
                    ) -> Result<$value, $value>;
                    compare_exchange_weak(
                        current: $value, new: $value, success: Ordering, failure: Ordering
                    ) -> Result<$value, $value>;
                }
            }
        )*
    };
}

atomics! {
    AtomicBool of bool;
    AtomicPtr<T> of *mut T;
    AtomicU8 of u8;
    AtomicU32 of u32;
    AtomicU64 of u64;
    AtomicUsize of usize;
}

impl<T> Default for AtomicPtr<T> {
    fn default() -> AtomicPtr<T> {
        AtomicPtr::new(std::ptr::null_mut())
    }
}

macro_rules! bits {
    ($($name:ident of $value:ty;)*) => {
        $(
            impl Default for $name {
                fn default() -> $name {
                    $name::new(<$value>::default())
                }
            }

            impl $name {
                methods! { $value:
                    fetch_and(value: $value, order: Ordering) -> $value;
                    fetch_or(value: $value, order: Ordering) -> $value;
                }
            }
        )*
    };
}

macro_rules! numbers {
    ($($name:ident of $value:ty;)*) => {
        $(
            impl $name {
                methods! { $value:
                    fetch_add(value: $value, order: Ordering) -> $value;
                    fetch_sub(value: $value, order: Ordering) -> $value;
                    fetch_max(value: $value, order: Ordering) -> $value;
                }
            }
        )*
    };
}

bits! {
    AtomicBool of bool;
    AtomicU8 of u8;
    AtomicU32 of u32;
    AtomicU64 of u64;
    AtomicUsize of usize;
}

numbers! {
    AtomicU8 of u8;
    AtomicU32 of u32;
    AtomicU64 of u64;
    AtomicUsize of usize;
}
