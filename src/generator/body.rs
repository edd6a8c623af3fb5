//! A closure of any type, kept until the first resume: a `Box<dyn FnOnce>` that does without the
//! box where the closure is small.
//!
//! ```text
//!   Body:  run | discard | room, 4 words: the closure itself, or the box that it lies in
//! ```
//!
//! The two functions know the closure's type: they are made together with the room's contents, and
//! agree with them until the closure is taken. Then they are replaced by a pair that knows of none.

use std::marker::PhantomData;
use std::mem::{self, MaybeUninit};

use super::Yielder;

/// No larger than what a started generator keeps in the same place.
type Room = MaybeUninit<[usize; 4]>;

/// Takes the input from the one place, and writes what the closure returns to the other: by value, an
/// unoptimised build would copy both in each of the frames in between.
type Run<Input, Yield, Return> =
    unsafe fn(*mut Room, &Yielder<Input, Yield>, *const Input, *mut Return);

/// What a generator is going to run.
pub(super) struct Body<'env, Input, Yield, Return> {
    run: Run<Input, Yield, Return>,
    discard: unsafe fn(*mut Room),
    room: Room,
    /// What the closure borrows; and it need not be `Send`.
    marker: PhantomData<(&'env (), *mut ())>,
}

/// A closure that is about to be run. It lies in a [`Body`] still, which cannot be moved meanwhile.
pub(super) struct Taken<'body, Input, Yield, Return> {
    run: Run<Input, Yield, Return>,
    room: *mut Room,
    marker: PhantomData<&'body mut Room>,
}

impl<'env, Input, Yield, Return> Body<'env, Input, Yield, Return> {
    #[inline]
    pub(super) fn new<F>(f: F) -> Self
    where
        F: FnOnce(&Yielder<Input, Yield>, Input) -> Return + 'env,
    {
        if fits::<F>() {
            return Body::of(f);
        }
        let boxed = Box::new(f);
        Body::of(move |yielder: &_, input| boxed(yielder, input))
    }

    #[inline]
    fn of<F>(f: F) -> Self
    where
        F: FnOnce(&Yielder<Input, Yield>, Input) -> Return + 'env,
    {
        assert!(fits::<F>());
        let mut room = Room::uninit();
        // SAFETY: there is room for it.
        unsafe { room.as_mut_ptr().cast::<F>().write(f) };
        Body {
            run: run::<F, Input, Yield, Return>,
            discard: discard::<F>,
            room,
            marker: PhantomData,
        }
    }

    /// The same body, with what it borrows forgotten. Whoever calls this sees to it that the body
    /// has been run to its end, or dropped, before what it borrows ends: see
    /// [`Generator::scoped`](super::Generator::scoped), the only one.
    ///
    /// # Safety
    /// As said.
    pub(super) unsafe fn outlive(self) -> Body<'static, Input, Yield, Return> {
        let body = mem::ManuallyDrop::new(self);
        Body {
            run: body.run,
            discard: body.discard,
            room: body.room,
            marker: PhantomData,
        }
    }

    /// Takes the closure: to drop the body is to drop nothing from now on.
    #[inline]
    pub(super) fn take(&mut self) -> Taken<'_, Input, Yield, Return> {
        self.discard = discard::<()>;
        Taken {
            run: mem::replace(&mut self.run, gone),
            room: &raw mut self.room,
            marker: PhantomData,
        }
    }
}

impl<Input, Yield, Return> Taken<'_, Input, Yield, Return> {
    /// Moves the closure onto this stack and runs it.
    ///
    /// # Safety
    /// There is an input at `input`, which is moved out, and room for what the closure returns at
    /// `returned`.
    #[inline]
    pub(super) unsafe fn run(
        self,
        yielder: &Yielder<Input, Yield>,
        input: *const Input,
        returned: *mut Return,
    ) {
        // SAFETY: `take` has left the room as it was, and left it to this call, of which there is
        // one. The rest is passed on to the caller.
        unsafe { (self.run)(self.room, yielder, input, returned) }
    }
}

impl<Input, Yield, Return> Drop for Body<'_, Input, Yield, Return> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `discard` and what is in the room agree, and nobody looks at it afterwards.
        unsafe { (self.discard)(&raw mut self.room) };
    }
}

const fn fits<F>() -> bool {
    size_of::<F>() <= size_of::<Room>() && align_of::<F>() <= align_of::<Room>()
}

/// # Safety
/// There is an `F` in the room, and from now on nobody else looks at it; as `Taken::run`.
unsafe fn run<F, Input, Yield, Return>(
    room: *mut Room,
    yielder: &Yielder<Input, Yield>,
    input: *const Input,
    returned: *mut Return,
) where
    F: FnOnce(&Yielder<Input, Yield>, Input) -> Return,
{
    // SAFETY: passed on to the caller.
    unsafe {
        let f = room.cast::<F>().read();
        returned.write(f(yielder, input.read()));
    }
}

/// # Safety
/// There is an `F` in the room, and from now on nobody else looks at it.
unsafe fn discard<F>(room: *mut Room) {
    // SAFETY: passed on to the caller.
    unsafe { room.cast::<F>().drop_in_place() };
}

fn gone<Input, Yield, Return>(
    _: *mut Room,
    _: &Yielder<Input, Yield>,
    _: *const Input,
    _: *mut Return,
) {
    unreachable!("a body is taken once");
}
