//! How a body has ended, and where it leaves that: at the base of its stack, or in the heap if that
//! is large.

use std::alloc::Layout;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

use super::Payload;
use crate::stack::Stack;

/// How a body has ended.
pub(super) struct Ended<Return> {
    /// What it has returned, if it has not panicked.
    value: MaybeUninit<Return>,
    panicked: Option<Payload>,
    /// How often it has tried to yield while it was closed.
    refusals: usize,
}

/// The place for it: written once, by the body's stack, and read once, by its generator.
pub(super) struct Place<Return>(NonNull<Ended<Return>>);

impl<Return> Place<Return> {
    /// More than that, rounded up, goes to the heap: half of the smallest stack is five times as
    /// much.
    const MOST: usize = 1024;
    const LAYOUT: Layout = Layout::new::<Ended<Return>>();
    const IS_BOXED: bool = Self::LAYOUT.size() + Self::LAYOUT.align() > Self::MOST;
    /// Bytes that it takes of the base of the stack.
    pub(super) const ROOM: usize = if Self::IS_BOXED {
        0
    } else if Self::LAYOUT.align() > 16 {
        (Self::LAYOUT.size() + Self::LAYOUT.align()).next_multiple_of(16)
    } else {
        Self::LAYOUT.size().next_multiple_of(16)
    };

    /// [`ROOM`](Place::ROOM) bytes at the base of `stack` belong to the place from now on.
    #[inline]
    pub(super) fn on(stack: &Stack) -> Place<Return> {
        if Self::IS_BOXED {
            let place = Box::into_raw(Box::<Ended<Return>>::new_uninit());
            return Place(NonNull::new(place.cast()).expect("a box is not at address zero"));
        }
        let start = (stack.base() - Self::ROOM).next_multiple_of(Self::LAYOUT.align());
        let start: *mut Ended<Return> = ptr::with_exposed_provenance_mut(start);
        Place(NonNull::new(start).expect("a stack is not at address zero"))
    }

    /// Where to write what the body returns.
    pub(super) fn value(self) -> *mut Return {
        // SAFETY: a place in memory that has room for an `Ended`; nothing is read.
        unsafe { (&raw mut (*self.0.as_ptr()).value).cast() }
    }

    /// Completes it after the value, if there is one.
    ///
    /// # Safety
    /// The place is there still, and unless it has `panicked` the body has written its value.
    pub(super) unsafe fn complete(self, panicked: Option<Payload>, refusals: usize) {
        let place = self.0.as_ptr();
        // SAFETY: passed on to the caller.
        unsafe {
            (&raw mut (*place).panicked).write(panicked);
            (&raw mut (*place).refusals).write(refusals);
        }
    }

    /// Takes out how the body has ended, and how often it has tried to yield while it was closed.
    ///
    /// # Safety
    /// The place is there still and has been completed. It is not used afterwards.
    pub(super) unsafe fn take(self) -> (Result<Return, Payload>, usize) {
        let place = self.0.as_ptr();
        // SAFETY: passed on to the caller.
        unsafe {
            let refusals = (*place).refusals;
            let result = match (&raw const (*place).panicked).read() {
                Some(payload) => Err(payload),
                None => Ok((&raw const (*place).value).cast::<Return>().read()),
            };
            if Self::IS_BOXED {
                drop(Box::from_raw(place.cast::<MaybeUninit<Ended<Return>>>()));
            }
            (result, refusals)
        }
    }
}

impl<Return> Clone for Place<Return> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Return> Copy for Place<Return> {}
