//! [`BiasedLock`]: a lock that costs next to nothing while one OS thread uses it.
//!
//! Most objects are used by the green threads of one worker. There nobody can be in a critical
//! section while somebody else comes to it, and a lock only has to notice that another OS thread
//! has come after all. So a lock that has been taken many times by the same OS thread becomes
//! *biased*: it has that one for its owner, who enters and leaves by writing a word of its own.
//! Whoever else comes *revokes* the bias, by an [asymmetric fence](crate::lock::membarrier), and it is a
//! plain lock from then on, until one OS thread has had it many more times in a row.
//!
//! ```text
//!     the owner                                another, who holds the plain lock
//!     inside = true                            owner = NOBODY
//!     light fence                              heavy fence
//!     owner is me: it is mine                  inside is false: it is mine, and nobody is the owner
//!     owner is another: inside = false,        inside is true: sleep until the owner has left
//!       and in by the plain lock
//! ```
//!
//! At least one of the two sees what the other has written. Who leaves looks at the owner again in
//! the same way, and wakes whoever sleeps. (The idea is that of Vasudevan, Namjoshi and Namjoshi,
//! *Simple and Fast Biased Locks*, 2010.)
//!
//! Each bias has its own word `inside`: its owner may be interrupted before it writes, and go on
//! when the lock is biased to another, whose word it must not touch. So there is a small number of
//! them to a lock, for its whole life.
//!
//! It is for what [`Lock`] is for: short sections without user code, under which nothing parks.

use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::lock::membarrier::{announce, heavy_fence, is_available, light_fence, wait_until};
use crate::lock::sync_cell::SyncCell;
use crate::lock::{Lock, LockGuard};

/// No OS thread has this number.
const NOBODY: u32 = 0;
/// The number of OS threads that have none, or for which there was none left. No lock has it for
/// its owner.
const UNNUMBERED: u32 = u32::MAX - (BIASES - 1);
/// How many times a lock is biased. The numbers of OS threads are multiples of it.
const BIASES: u32 = 4;
/// How many times in a row the same OS thread takes a lock before it is biased. To revoke that
/// costs as much as some hundred. Few where a model checker has to get there.
const ENOUGH: u32 = if cfg!(test) { 1 } else { 256 };
/// Each revocation makes so many times as many necessary.
const MORE: u32 = if cfg!(test) { 1 } else { 16 };

thread_local! {
    static NUMBER: Cell<u32> = const { Cell::new(UNNUMBERED) };
}

/// See the module. What the owner needs of it lies first.
#[repr(C)]
pub(crate) struct BiasedLock<T> {
    /// The number of the OS thread that it is biased to, plus that of the bias. It is written
    /// under the plain lock.
    owner: AtomicU32,
    /// For each bias: its owner is in the critical section, or about to find out that it is the
    /// owner no more.
    inside: [AtomicBool; BIASES as usize],
    value: SyncCell<false, T>,
    plain: Lock<History>,
}

/// Who has come by the plain lock.
struct History {
    last: u32,
    /// How many times in a row.
    times: u32,
    /// How many are enough.
    enough: u32,
    /// How many biases have been revoked.
    revoked: u32,
}

impl<T> BiasedLock<T> {
    pub(crate) const fn new(value: T) -> BiasedLock<T> {
        BiasedLock {
            owner: AtomicU32::new(NOBODY),
            inside: [const { AtomicBool::new(false) }; BIASES as usize],
            plain: Lock::new(History {
                last: NOBODY,
                times: 0,
                enough: ENOUGH,
                revoked: 0,
            }),
            value: SyncCell::new(value),
        }
    }

    #[inline(always)]
    pub(crate) fn lock(&self) -> BiasedGuard<'_, T> {
        let entry = match self.enter() {
            Some(inside) => Entry::Owner { inside },
            None => Entry::Plain {
                _guard: self.lock_plain(),
            },
        };
        BiasedGuard { lock: self, entry }
    }

    /// Enters as the owner, if the caller is the owner. Returns the word that says so.
    #[inline(always)]
    fn enter(&self) -> Option<&AtomicBool> {
        let owner = self.owner.load(Ordering::Relaxed);
        let bias = owner ^ NUMBER.with(Cell::get);
        if bias >= BIASES {
            return None;
        }
        let inside = &self.inside[bias as usize];
        inside.store(true, Ordering::Relaxed);
        light_fence();
        if self.owner.load(Ordering::Relaxed) == owner {
            return Some(inside);
        }
        self.leave(inside);
        None
    }

    #[inline(always)]
    fn leave(&self, inside: &AtomicBool) {
        inside.store(false, Ordering::Release);
        light_fence();
        if self.owner.load(Ordering::Relaxed) == NOBODY {
            announce();
        }
    }

    #[inline(never)]
    fn lock_plain(&self) -> LockGuard<'_, History> {
        let mut history = self.plain.lock();
        let me = number();
        let owner = self.owner.load(Ordering::Relaxed);
        if owner != NOBODY {
            self.revoke(owner % BIASES);
            let History {
                enough, revoked, ..
            } = *history;
            *history = History {
                last: me,
                times: 0,
                enough: enough.saturating_mul(MORE),
                revoked: revoked + 1,
            };
        } else if history.last != me {
            history.last = me;
            history.times = 0;
        } else {
            history.times = history.times.saturating_add(1);
            if history.times >= history.enough
                && history.revoked < BIASES
                && me != UNNUMBERED
                && is_available()
            {
                self.owner.store(me + history.revoked, Ordering::Relaxed);
            }
        }
        history
    }

    /// Makes nobody the owner, and waits until the last one, that of this bias, has left. The
    /// caller holds the plain lock.
    #[cold]
    fn revoke(&self, bias: u32) {
        self.owner.store(NOBODY, Ordering::Relaxed);
        heavy_fence();
        wait_until(|| !self.inside[bias as usize].load(Ordering::Acquire));
    }
}

/// As for [`Lock`]: a panic under it leaves nothing half changed.
impl<T> UnwindSafe for BiasedLock<T> {}
impl<T> RefUnwindSafe for BiasedLock<T> {}

impl<T: Default> Default for BiasedLock<T> {
    fn default() -> BiasedLock<T> {
        BiasedLock::new(T::default())
    }
}

impl<T> fmt::Debug for BiasedLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inside = self
            .inside
            .each_ref()
            .map(|inside| inside.load(Ordering::Relaxed));
        let owner = self.owner.load(Ordering::Relaxed);
        f.debug_struct("BiasedLock")
            .field("owner", &owner)
            .field("inside", &inside)
            .finish_non_exhaustive()
    }
}

/// The right to reach what a [`BiasedLock`] guards.
pub(crate) struct BiasedGuard<'a, T> {
    lock: &'a BiasedLock<T>,
    entry: Entry<'a>,
}

/// How somebody has come in. (As the plain lock's guard may be here, it is not `Send`.)
enum Entry<'a> {
    Owner { inside: &'a AtomicBool },
    Plain { _guard: LockGuard<'a, History> },
}

impl<T> Drop for BiasedGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Entry::Owner { inside } = self.entry {
            self.lock.leave(inside);
        }
    }
}

impl<T> Deref for BiasedGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: whoever has a guard holds the plain lock, and the owner is not inside, or is the
        // owner and inside, which no holder of the plain lock overlooks; so there is one
        // guard at a time, and it hands out exclusive references by way of `&mut` only.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for BiasedGuard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; and the guard is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

/// The number of the calling OS thread, which no other has ever had.
fn number() -> u32 {
    match NUMBER.with(Cell::get) {
        UNNUMBERED => {
            let number = next_number();
            NUMBER.with(|own| own.set(number));
            number
        }
        number => number,
    }
}

#[cold]
fn next_number() -> u32 {
    static LAST: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(NOBODY);
    let next = |last: u32| last.checked_add(BIASES).filter(|next| *next != UNNUMBERED);
    LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
        .map_or(UNNUMBERED, |last| last + BIASES)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::lock::membarrier;

    fn owner<T>(lock: &BiasedLock<T>) -> u32 {
        let owner = lock.owner.load(Ordering::Relaxed);
        owner - owner % BIASES
    }

    #[test]
    fn who_has_it_often_enough_becomes_the_owner_and_whoever_comes_revokes_that() {
        membarrier::prepare();
        if !is_available() {
            return; // There are no biased locks then.
        }
        let lock = BiasedLock::new(0);
        for _ in 0..2 {
            assert_eq!(owner(&lock), NOBODY);
            *lock.lock() += 1;
        }
        assert_eq!(owner(&lock), number());
        *lock.lock() += 1;
        std::thread::scope(|s| s.spawn(|| *lock.lock() += 1).join().expect("no panic"));
        assert_eq!((owner(&lock), *lock.lock()), (NOBODY, 4));
    }

    #[test]
    fn it_is_biased_a_number_of_times_and_then_never_again() {
        membarrier::prepare();
        if !is_available() {
            return; // It never is.
        }
        let lock = BiasedLock::new(0);
        let take = || *lock.lock() += 1;
        for bias in 0..=BIASES {
            (0..=ENOUGH * MORE.pow(bias)).for_each(|_| take());
            assert_eq!(owner(&lock), if bias < BIASES { number() } else { NOBODY });
            std::thread::scope(|s| s.spawn(take).join().expect("no panic"));
            take();
        }
    }

    #[test]
    fn it_is_not_biased_to_one_of_two_who_take_turns() {
        membarrier::prepare();
        let lock = BiasedLock::new(0);
        for _ in 0..100 {
            *lock.lock() += 1;
            std::thread::scope(|s| s.spawn(|| *lock.lock() += 1).join().expect("no panic"));
            assert_eq!(owner(&lock), NOBODY);
        }
        assert_eq!(*lock.lock(), 200);
    }

    /// Several owners in turn, and others who come while they are inside.
    #[test]
    fn nobody_is_inside_with_another() {
        membarrier::prepare();
        let rounds = 10_000;
        for _ in 0..rounds {
            let (lock, inside, biased) = (
                BiasedLock::new(0),
                AtomicBool::new(false),
                AtomicBool::new(false),
            );
            let take = || {
                let mut guard = lock.lock();
                assert!(
                    !inside.swap(true, Ordering::Relaxed),
                    "somebody is inside already"
                );
                *guard += 1;
                std::hint::spin_loop();
                inside.store(false, Ordering::Relaxed);
            };
            let robber = || {
                while !biased.load(Ordering::Acquire) {
                    std::hint::spin_loop();
                }
                (0..20).for_each(|_| take());
            };
            std::thread::scope(|s| {
                s.spawn(robber);
                (0..3).for_each(|_| take());
                biased.store(true, Ordering::Release);
                (0..100).for_each(|_| take());
            });
            assert_eq!(*lock.lock(), 123);
        }
    }
}
