//! Stacks for the floor: guarded, coloured, from one mapping, so that there can be a million of raw coroutines.
//!
//! Corosensei's own stacks take two mappings each, of which the kernel allows some 32,000. What is measured here is what a library can
//! hardly do without: room of hebra's default size for each stack, a guard page that needs no mapping (Linux 6.13), and hot ends that
//! do not all lie in the same cache sets.

use std::ptr;
use std::{io, num::NonZeroUsize};

use corosensei::stack::{Stack, StackPointer};
use corosensei::{Coroutine, CoroutineResult};

const STRIDE: usize = 256 << 10;
const GUARD: usize = 4096;
/// The first byte of each stack is a multiple of this further down, of sixteen in turn.
const COLOUR: usize = 128;
/// In `linux/mman-common.h` since 6.13.
const MADV_GUARD_INSTALL: libc::c_int = 102;

/// Memory for so many stacks; never unmapped, as the process is about to end when it is no longer needed.
pub struct Slab {
    base: usize,
    next: usize,
    count: usize,
}

impl Slab {
    /// # Errors
    /// If the kernel does not give so much address space.
    pub fn new(count: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping, at an address that the kernel chooses, touches no memory that is in use.
        let base = unsafe { libc::mmap(ptr::null_mut(), count * STRIDE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the range is the mapping made above. It may fail: then huge pages are as likely as the system has them.
        unsafe { libc::madvise(base, count * STRIDE, libc::MADV_NOHUGEPAGE) };
        Ok(Self { base: base as usize, next: 0, count })
    }

    /// A stack that nobody had.
    ///
    /// # Errors
    /// If the kernel knows no guards without mappings.
    ///
    /// # Panics
    /// If all have been given out.
    pub fn stack(&mut self) -> io::Result<SlabStack> {
        assert!(self.next < self.count, "the slab has {} stacks", self.count);
        let limit = self.base + self.next * STRIDE;
        let guard = ptr::with_exposed_provenance_mut(limit);
        // SAFETY: the page belongs to a slot of our own mapping that has not been given out.
        if unsafe { libc::madvise(guard, GUARD, MADV_GUARD_INSTALL) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let base = limit + STRIDE - self.next % 16 * COLOUR;
        self.next += 1;
        Ok(SlabStack { base, limit })
    }
}

/// One slot of a slab, which outlives it.
pub struct SlabStack {
    base: usize,
    limit: usize,
}

// SAFETY: `base` is aligned to 128 bytes, lies above `limit` by nearly the stride, and the lowest page between them is a guard; the
// memory is mapped for as long as the process lives, and no slot is given out twice.
unsafe impl Stack for SlabStack {
    fn base(&self) -> StackPointer {
        NonZeroUsize::new(self.base).expect("no mapping lies at zero")
    }

    fn limit(&self) -> StackPointer {
        NonZeroUsize::new(self.limit).expect("no mapping lies at zero")
    }
}

pub type Raw = Coroutine<(), u64, (), SlabStack>;

/// Coroutines that each have a stack of their own, have counted once, and will go on to count.
///
/// # Errors
/// As [`Slab::new`] and [`Slab::stack`].
pub fn counters(count: usize) -> io::Result<Vec<Raw>> {
    let mut slab = Slab::new(count)?;
    let mut coroutines = Vec::with_capacity(count);
    for _ in 0..count {
        let mut counter = Coroutine::with_stack(slab.stack()?, |yielder, ()| {
            let mut next = 0_u64;
            loop {
                yielder.suspend(next);
                next = next.wrapping_add(1);
            }
        });
        let first: CoroutineResult<u64, ()> = counter.resume(());
        debug_assert_eq!(first.as_yield(), Some(0));
        coroutines.push(counter);
    }
    Ok(coroutines)
}
