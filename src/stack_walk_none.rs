//! Stands in for `stack_walk.rs` where stacks cannot be walked: without the feature `dump`, on other
//! processors, under a sanitizer. Dumps then have no stacks.

/// See `stack_walk.rs`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Registers {}

impl Registers {
    pub(crate) fn saved_at(_address: usize) -> Option<Registers> {
        None
    }
}

/// See `stack_walk.rs`. There is none.
pub(crate) enum Walker {}

impl Walker {
    pub(crate) fn new() -> Option<Walker> {
        None
    }

    pub(crate) fn walk(&mut self, _start: Registers, _frame: impl FnMut(u64) -> bool) -> bool {
        match *self {}
    }
}
