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
