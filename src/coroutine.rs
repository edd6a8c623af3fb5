//! A closure on a stack of its own: the only file that names corosensei.
//!
//! [`Coroutine`] is what a generator and a green thread have in common. It adds nothing to
//! corosensei's but our stacks, and a [`Suspender`]: the right to suspend a coroutine from any depth of its call stack without carrying a reference down there.

use std::num::NonZeroUsize;
use std::ptr::NonNull;

use corosensei::CoroutineResult;
use corosensei::stack::StackPointer;

use crate::stack::Stack;

pub(crate) use corosensei::Yielder;

/// A [`Stack`] as corosensei wants to see it. It asks for the base at every resume, so that is kept
/// at hand.
struct Place {
    stack: Stack,
    base: StackPointer,
}

impl Place {
    /// `room` bytes at the base of the stack are left to the coroutine's owner: a multiple of 16, at
    /// most half of the stack.
    #[inline]
    fn new(stack: Stack, room: usize) -> Place {
        assert!(room.is_multiple_of(16) && room <= (stack.base() - stack.limit()) / 2);
        let base = NonZeroUsize::new(stack.base() - room).expect("a stack is not at address zero");
        Place { stack, base }
    }
}

// SAFETY: a `Stack` owns a slot of mapped memory from `limit` to `base` with a guard page below,
// both are aligned to 16 bytes, and the slot stays where it is when the `Stack` is moved. A room at
// the base takes a multiple of that, and leaves half of the stack.
unsafe impl corosensei::stack::Stack for Place {
    #[inline]
    fn base(&self) -> StackPointer {
        self.base
    }

    #[inline]
    fn limit(&self) -> StackPointer {
        NonZeroUsize::new(self.stack.limit()).expect("a stack is not at address zero")
    }
}

/// What [`Coroutine::resume`] came back with.
pub(crate) enum Resumed<Y, R> {
    /// The coroutine has suspended itself with this value.
    Suspended(Y),
    /// The closure has returned.
    Finished(R),
}

/// A closure that runs on its own stack, and can be left and re-entered.
///
/// It must not be dropped while it is suspended: what is on its stack would be unwound by force,
/// from outside. The worker never does (law 3), and a generator unwinds itself first.
pub(crate) struct Coroutine<I, Y, R>(corosensei::Coroutine<I, Y, R, Place>);

impl<I: 'static, Y: 'static, R: 'static> Coroutine<I, Y, R> {
    /// Writes `f` to the stack; it runs at the first resume.
    #[inline]
    #[cfg_attr(not(feature = "runtime"), allow(dead_code))]
    pub(crate) fn new<F>(stack: Stack, f: F) -> Coroutine<I, Y, R>
    where
        F: FnOnce(&Yielder<I, Y>, I) -> R + 'static,
    {
        Coroutine(corosensei::Coroutine::with_stack(Place::new(stack, 0), f))
    }
}

impl<I, Y, R> Coroutine<I, Y, R> {
    /// Writes `f` to the stack; it runs at the first resume. `room` bytes at the base are left to
    /// the caller: a multiple of 16, at most half of the stack.
    ///
    /// # Safety
    /// When anything that `f`, `I`, `Y` or `R` borrow ends, the coroutine must have finished, or
    /// never be resumed again, or not look at it any more.
    #[inline]
    pub(crate) unsafe fn new_scoped<F>(stack: Stack, room: usize, f: F) -> Coroutine<I, Y, R>
    where
        F: FnOnce(&Yielder<I, Y>, I) -> R,
    {
        // SAFETY: passed on to the caller.
        Coroutine(unsafe {
            corosensei::Coroutine::with_stack_unchecked(Place::new(stack, room), f)
        })
    }

    /// Whether it can be resumed: it has not finished, and whoever has resumed it has got control
    /// back from it.
    #[cold]
    pub(crate) fn is_suspended(&self) -> bool {
        !self.0.done()
    }

    /// The address of its saved registers, if it is suspended and they can be found.
    #[cfg(all(feature = "runtime", target_arch = "x86_64", not(hebra_sanitizer)))]
    pub(crate) fn saved(&self) -> Option<usize> {
        let pointer = SavedState::get()?.pointer;
        // SAFETY: the probe has found an address in that word of a value of this kind; 0 where it
        // has finished.
        let word = unsafe { (&raw const self.0).byte_add(pointer).cast::<usize>().read() };
        (word != 0).then_some(word)
    }

    /// The address of its saved registers: not known here.
    #[cfg(all(
        feature = "runtime",
        not(all(target_arch = "x86_64", not(hebra_sanitizer)))
    ))]
    pub(crate) fn saved(&self) -> Option<usize> {
        None
    }

    /// Enters the coroutine until it suspends itself or returns. A panic in it continues here.
    ///
    /// # Panics
    /// Panics if it has finished.
    #[inline(always)]
    pub(crate) fn resume(&mut self, input: I) -> Resumed<Y, R> {
        match self.0.resume(input) {
            CoroutineResult::Yield(value) => Resumed::Suspended(value),
            CoroutineResult::Return(value) => Resumed::Finished(value),
        }
    }
}

/// Suspends a coroutine from wherever its own code has got to.
pub(crate) struct Suspender<I, Y>(NonNull<Yielder<I, Y>>);

impl<I, Y> Suspender<I, Y> {
    #[inline]
    pub(crate) fn new(yielder: &Yielder<I, Y>) -> Suspender<I, Y> {
        Suspender(NonNull::from(yielder))
    }

    /// Hands `value` to whoever has resumed the coroutine, and returns what it is resumed with
    /// next.
    ///
    /// # Safety
    /// The caller must be code of that coroutine, running on its stack or on the stack of a
    /// coroutine that it has resumed.
    #[inline(always)] // A processor predicts the switch's return only as long as no other call stands between.
    pub(crate) unsafe fn suspend(self, value: Y) -> I {
        // SAFETY: the yielder lies at the root of the coroutine's stack, which is alive as its code
        // is running.
        let yielder = unsafe { self.0.as_ref() };
        yielder.suspend(value)
    }
}

impl<I, Y> Clone for Suspender<I, Y> {
    #[inline]
    fn clone(&self) -> Suspender<I, Y> {
        *self
    }
}

impl<I, Y> Copy for Suspender<I, Y> {}

/// About where the caller's stack ends.
#[inline(always)]
pub(crate) fn stack_pointer() -> usize {
    #[cfg(target_arch = "x86_64")]
    macro_rules! read {
        () => {
            "mov {}, rsp"
        };
    }
    #[cfg(target_arch = "aarch64")]
    macro_rules! read {
        () => {
            "mov {}, sp"
        };
    }
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    {
        let address: usize;
        // SAFETY: reads a register.
        unsafe {
            std::arch::asm!(read!(), out(reg) address, options(nomem, nostack, preserves_flags))
        };
        address
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let here = 0u8;
        (&raw const here).addr()
    }
}

/// The control bits of the floating-point units: rounding, precision, masked exceptions, and how
/// denormals are treated. The psABI has functions keep them, a switch does not.
#[cfg(feature = "runtime")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FloatControl {
    /// SSE's, without the exceptions that have occurred.
    #[cfg(target_arch = "x86_64")]
    mxcsr: u32,
    #[cfg(target_arch = "x86_64")]
    x87: u16,
}

#[cfg(feature = "runtime")]
impl FloatControl {
    /// Those of the calling thread.
    #[inline(always)]
    pub(crate) fn current() -> FloatControl {
        #[cfg(target_arch = "x86_64")]
        {
            const EXCEPTIONS: u32 = 0x3f;
            let (mut mxcsr, mut x87) = (0_u32, 0_u16);
            // SAFETY: writes two registers to two variables of their size.
            unsafe {
                std::arch::asm!(
                    "stmxcsr [{}]",
                    "fnstcw [{}]",
                    in(reg) &raw mut mxcsr,
                    in(reg) &raw mut x87,
                    options(nostack, preserves_flags)
                )
            };
            let mxcsr = mxcsr & !EXCEPTIONS;
            FloatControl { mxcsr, x87 }
        }
        #[cfg(not(target_arch = "x86_64"))]
        FloatControl {}
    }

    /// Makes them the calling thread's.
    #[cold]
    pub(crate) fn set(self) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: both were read from these registers. Code that was compiled for the default mode
        // is run in another only if the caller of `current` was, by its own doing.
        unsafe {
            std::arch::asm!(
                "ldmxcsr [{}]",
                "fldcw [{}]",
                in(reg) &raw const self.mxcsr,
                in(reg) &raw const self.x87,
                options(nostack, preserves_flags)
            )
        };
    }
}

/// Asks for the `N` cache lines from `address` on. Any address will do.
#[cfg(feature = "runtime")]
#[inline(always)]
pub(crate) fn prefetch<const N: usize>(address: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..N {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let line = std::ptr::without_provenance(address.wrapping_add(64 * line));
        // SAFETY: a prefetch reads nothing that the program could see, and does not fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Where a suspended coroutine's registers are found. corosensei does not say; [`SavedState::get`]
/// finds out once, for dumps and debuggers.
#[cfg(all(feature = "runtime", target_arch = "x86_64", not(hebra_sanitizer)))]
#[derive(Debug)]
pub(crate) struct SavedState {
    /// Offset of the word of a [`Coroutine`] that holds the address of the saved registers: rip,
    /// rbx and rbp, and above them the stack as the caller of the switch has left it. The word is 0
    /// once the coroutine has finished.
    pub(crate) pointer: usize,
    /// The return address of the first frame of every coroutine: there a stack ends.
    pub(crate) root: usize,
}

#[cfg(all(feature = "runtime", target_arch = "x86_64", not(hebra_sanitizer)))]
impl SavedState {
    /// `None` if this version of corosensei keeps it elsewhere, or there is no stack for the probe.
    pub(crate) fn get() -> Option<&'static SavedState> {
        static FOUND: std::sync::OnceLock<Option<SavedState>> = std::sync::OnceLock::new();
        FOUND.get_or_init(SavedState::find).as_ref()
    }

    /// Suspends a probe twice, at different depths of its stack: the one word that differs is the
    /// saved stack pointer. The word that has not changed and lies just below the base is the first
    /// one, at which the first resume has left the root's return address.
    fn find() -> Option<SavedState> {
        #[inline(never)]
        fn deeper(yielder: &Yielder<(), ()>) -> u8 {
            let frame = std::hint::black_box([1; 256]);
            yielder.suspend(());
            frame[3]
        }
        type Probe = Coroutine<(), (), ()>;
        const WORD: usize = size_of::<usize>();
        let words = |probe: &Probe| -> [usize; size_of::<Probe>() / WORD] {
            // SAFETY: every field of the probe is one word or several, all of them initialised, so
            // that an array of words has the same size and no padding.
            unsafe {
                (&raw const *probe)
                    .cast::<[usize; size_of::<Probe>() / WORD]>()
                    .read()
            }
        };
        let stack = crate::stack::acquire(64 << 10).ok()?;
        let (limit, base) = (stack.limit(), stack.base());
        let mut probe = Probe::new(stack, |yielder, ()| {
            yielder.suspend(());
            deeper(yielder);
        });
        probe.resume(());
        let shallow = words(&probe);
        probe.resume(());
        let deep = words(&probe);
        let found = SavedState::compare(limit..base, &shallow, &deep);
        probe.resume(());
        found
    }

    /// Compares the words of the probe, which is suspended and whose stack that is.
    fn compare(
        stack: std::ops::Range<usize>,
        shallow: &[usize],
        deep: &[usize],
    ) -> Option<SavedState> {
        let mut differ = (0..shallow.len()).filter(|at| shallow[*at] != deep[*at]);
        let pointer = differ.next().filter(|at| shallow[*at] > deep[*at])?;
        let near_base = stack.end - 1024..stack.end;
        let first = shallow
            .iter()
            .enumerate()
            .find_map(|(at, word)| (at != pointer && near_base.contains(word)).then_some(*word))?;
        let is_plausible = differ.next().is_none()
            && stack.contains(&deep[pointer])
            && first.is_multiple_of(size_of::<usize>());
        is_plausible.then(|| SavedState {
            pointer: pointer * size_of::<usize>(),
            // SAFETY: an aligned word of a stack that stays mapped for ever (`stack`, invariant 1),
            // below the base, where the coroutine itself writes.
            root: unsafe { std::ptr::with_exposed_provenance::<usize>(first).read() },
        })
    }
}

#[cfg(all(
    test,
    feature = "runtime",
    target_arch = "x86_64",
    not(hebra_sanitizer)
))]
mod tests {
    use super::*;

    #[test]
    fn saved_registers_are_found() {
        let found = SavedState::get().expect("corosensei is as expected");
        assert_eq!(found.pointer % size_of::<usize>(), 0);
        assert_ne!(found.root, 0);
    }
}
