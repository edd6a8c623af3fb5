//! Where a body stands, and whether it may leave: what a yield asks before the switch, and what
//! cancel scopes have to say about it.
//!
//! A time-out that a body has opened, and then yields inside of, would go on in whoever runs
//! meanwhile, and cancel that (PEP 789). A scope does not know generators, nor is there anything in
//! a thread that says which of them runs. But the stack is labelled: so a scope that is entered
//! looks at the label of the stack that it is on, and takes the room from the generator that it
//! finds there. That costs the scope a few nanoseconds, and a yield nothing.

use std::cell::Cell;
#[cfg(feature = "runtime")]
use std::ptr::{self, NonNull};

use crate::coroutine::stack_pointer;
#[cfg(feature = "runtime")]
use crate::stack;

/// The part of a yielder that does not depend on its values.
#[repr(C)]
pub(super) struct Footing {
    /// The lowest address of the stack.
    limit: usize,
    /// From there to the other end, or 0: then a yield takes the slow path.
    room: Cell<usize>,
    size: usize,
    /// Cancel scopes that the body is in.
    scopes: Cell<u32>,
    /// A generator that delegates to this one is in a cancel scope.
    delegator_held: Cell<bool>,
}

impl Footing {
    /// On the stack of `size` bytes from `limit` on, without any room.
    #[inline]
    pub(super) fn new(limit: usize, size: usize) -> Footing {
        Footing {
            limit,
            room: Cell::new(0),
            size,
            scopes: Cell::new(0),
            delegator_held: Cell::new(false),
        }
    }

    /// Whether this is another stack than the generator's, or a yield is not to be done without
    /// further thought.
    #[inline(always)]
    pub(super) fn is_out_of_room(&self) -> bool {
        stack_pointer().wrapping_sub(self.limit) >= self.room.get()
    }

    /// A yielder can be carried to another stack, and suspending from there would mix up two of
    /// them.
    #[inline]
    #[track_caller]
    pub(super) fn assert_here(&self) {
        let here = stack_pointer().wrapping_sub(self.limit);
        assert!(
            here < self.size,
            "a yielder was used on another stack than its generator's"
        );
    }

    /// Gives the room back, unless a scope has taken it or the generator `needs_thought` for
    /// another reason.
    #[inline]
    pub(super) fn measure(&self, needs_thought: bool) {
        self.room.set(if needs_thought || self.is_held() {
            0
        } else {
            self.size
        });
    }

    /// Whether the body, or one that delegates to it, is in a cancel scope of its own.
    #[inline]
    pub(super) fn is_held(&self) -> bool {
        self.scopes.get() > 0 || self.delegator_held.get()
    }

    pub(super) fn set_delegator_held(&self, held: bool) {
        self.delegator_held.set(held);
    }
}

/// Names the generator on whose stack the caller is; 0: on none.
#[cfg(feature = "runtime")]
pub(crate) fn generator_here() -> usize {
    stack::owner_of(stack_pointer()).map_or(0, |address| address.get())
}

/// A cancel scope is open on the calling stack. If that is a generator's, its body cannot yield
/// until this is released.
#[cfg(feature = "runtime")]
pub(crate) struct Hold(Option<NonNull<Footing>>);

#[cfg(feature = "runtime")]
impl Hold {
    pub(crate) fn new() -> Hold {
        let address = stack::owner_of(stack_pointer());
        let hold = Hold(
            address
                .and_then(|address| NonNull::new(ptr::with_exposed_provenance_mut(address.get()))),
        );
        if let Some(footing) = hold.footing() {
            footing.scopes.set(footing.scopes.get() + 1);
            footing.room.set(0);
        }
        hold
    }

    /// To be called by the code that made it. The next yield finds that there is room again.
    pub(crate) fn release(self) {
        if let Some(footing) = self.footing() {
            footing.scopes.set(footing.scopes.get() - 1);
        }
    }

    fn footing(&self) -> Option<&Footing> {
        // SAFETY: the label said that the caller is on the stack of the generator whose footing
        // this is, so its body is running, in whose first frame the footing lies. As long
        // as a scope is open the body cannot be left, and it is not sent elsewhere.
        self.0.map(|footing| unsafe { footing.as_ref() })
    }
}
