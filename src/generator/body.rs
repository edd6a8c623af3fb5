//! A closure of any type, kept until the first resume: a `Box<dyn FnOnce>` that does without the box where the closure is small.
//!
//! ```text
//!   Body:  run | discard | room, 4 words: the closure itself, or the box that it lies in
//! ```
//!
//! The two functions know the closure's type. They are made together with the room's contents and agree with them, until the closure
//! has been taken: then they are replaced by a pair that knows of none.

use std::marker::PhantomData;
use std::mem::{self, MaybeUninit};
use std::ptr;

use super::Yielder;

/// As large as what a started generator keeps in the same place, so it makes no generator larger.
type Room = MaybeUninit<[usize; 4]>;

type Run<Input, Yield, Return> = unsafe fn(*mut Room, &Yielder<Input, Yield>, Input) -> Return;

/// What a generator is going to run.
pub(super) struct Body<'env, Input, Yield, Return> {
    run: Run<Input, Yield, Return>,
    discard: unsafe fn(*mut Room),
    room: Room,
    marker: PhantomData<Box<dyn FnOnce(&Yielder<Input, Yield>, Input) -> Return + 'env>>,
}

/// A closure that is about to be run where it lies, in a [`Body`].
pub(super) struct Taken<Input, Yield, Return> {
    run: Run<Input, Yield, Return>,
    room: *mut Room,
}

impl<'env, Input, Yield, Return> Body<'env, Input, Yield, Return> {
    #[inline]
    pub(super) fn new<F>(f: F) -> Self
    where
        F: FnOnce(&Yielder<Input, Yield>, Input) -> Return + 'env,
    {
        if size_of::<F>() <= size_of::<Room>() && align_of::<F>() <= align_of::<Room>() {
            return Body::of(f);
        }
        let boxed = Box::new(f);
        Body::of(move |yielder: &_, input| boxed(yielder, input))
    }

    /// `f` fits into the room.
    #[inline]
    fn of<F>(f: F) -> Self
    where
        F: FnOnce(&Yielder<Input, Yield>, Input) -> Return + 'env,
    {
        const { assert!(size_of::<usize>() == align_of::<Room>()) };
        let mut room = Room::uninit();
        assert!(size_of::<F>() <= size_of::<Room>() && align_of::<F>() <= align_of::<Room>());
        // SAFETY: there is room for it.
        unsafe { room.as_mut_ptr().cast::<F>().write(f) };
        Body { run: run::<F, Input, Yield, Return>, discard: discard::<F>, room, marker: PhantomData }
    }

    /// The same body, with what it borrows forgotten.
    ///
    /// # Safety
    /// It must have been run to its end, or dropped, before what it borrows ends.
    pub(super) unsafe fn outlive(self) -> Body<'static, Input, Yield, Return> {
        let body = mem::ManuallyDrop::new(self);
        Body { run: body.run, discard: body.discard, room: body.room, marker: PhantomData }
    }

    /// Takes the closure, which stays where it is until it is run: to drop the body is to drop nothing from now on.
    #[inline]
    pub(super) fn take(&mut self) -> Taken<Input, Yield, Return> {
        self.discard = discard::<()>;
        Taken { run: mem::replace(&mut self.run, gone), room: &raw mut self.room }
    }
}

impl<Input, Yield, Return> Taken<Input, Yield, Return> {
    /// Moves the closure out of the body, onto this stack, and runs it.
    ///
    /// # Safety
    /// The body has not been moved since, nor is this the second run.
    #[inline]
    pub(super) unsafe fn run(&self, yielder: &Yielder<Input, Yield>, input: Input) -> Return {
        // SAFETY: passed on to the caller.
        unsafe { (self.run)(self.room, yielder, input) }
    }
}

impl<Input, Yield, Return> Drop for Body<'_, Input, Yield, Return> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `discard` and what is in the room agree.
        unsafe { (self.discard)(&raw mut self.room) };
    }
}

/// # Safety
/// There is an `F` in the room, which is the function's from now on.
unsafe fn run<F, Input, Yield, Return>(room: *mut Room, yielder: &Yielder<Input, Yield>, input: Input) -> Return
where
    F: FnOnce(&Yielder<Input, Yield>, Input) -> Return,
{
    // SAFETY: passed on to the caller.
    let f = unsafe { room.cast::<F>().read() };
    f(yielder, input)
}

/// # Safety
/// There is an `F` in the room, which is the function's from now on.
unsafe fn discard<F>(room: *mut Room) {
    // SAFETY: passed on to the caller.
    unsafe { ptr::drop_in_place(room.cast::<F>()) };
}

fn gone<Input, Yield, Return>(_: *mut Room, _: &Yielder<Input, Yield>, _: Input) -> Return {
    unreachable!("a body is taken once");
}
