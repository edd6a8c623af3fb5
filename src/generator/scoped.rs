//! Generators whose body borrows: they live inside of a closure.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{self, Location};

use super::body::Body;
use super::{
    DEFAULT_STACK_SIZE, Finished, Generator, GeneratorState, GeneratorStatus, IGNORED, Iter,
    Unwound, Yielder, end_process,
};
use crate::unwinding::{discard, is_unwinding};

impl<Input, Yield, Return> Generator<Input, Yield, Return> {
    /// Makes a generator whose body may borrow, and runs `scope` with it. When `scope` ends the
    /// generator is closed.
    ///
    /// ```
    /// use hebra::Generator;
    ///
    /// let words = String::from("to be or not");
    /// let longest = Generator::scoped(
    ///     |y, ()| words.split(' ').for_each(|word| y.yield_(word)),
    ///     |mut each| each.iter().max_by_key(|word| word.len()),
    /// );
    /// assert_eq!(longest, Some("not"));
    /// ```
    ///
    /// # Why not a generator with a lifetime
    /// Whoever forgets it (`mem::forget`) would leave a body behind that borrows what is gone. So
    /// `scope` gets a handle only.
    ///
    /// # Panics
    /// Continues a panic of `scope` or of the body. A body that goes on yielding while it is closed
    /// ends the process: it cannot be left behind, as it may have lent to other threads what it
    /// borrows.
    #[track_caller]
    pub fn scoped<'env, F, S, T>(body: F, scope: S) -> T
    where
        F: FnOnce(&Yielder<Input, Yield>, Input) -> Return + 'env,
        S: for<'g> FnOnce(ScopedGenerator<'g, Input, Yield, Return>) -> T,
        Input: 'env,
        Yield: 'env,
        Return: 'env,
    {
        let body = Body::<'env, _, _, _>::new(body);
        // SAFETY: the generator that gets the body does not leave this frame, and `closed` ends it,
        // or the process, before anything of that lifetime can end.
        let body = unsafe { body.outlive() };
        let mut closed = CloseScope(Generator::from_body(
            DEFAULT_STACK_SIZE,
            body,
            Location::caller(),
        ));
        scope(ScopedGenerator {
            generator: &mut closed.0,
            brand: PhantomData,
        })
    }
}

/// A handle to a generator whose body borrows; see [`Generator::scoped`].
pub struct ScopedGenerator<'g, Input, Yield, Return> {
    generator: &'g mut Generator<Input, Yield, Return>,
    /// One scope's handle is of another type than another's, so two cannot be exchanged.
    brand: PhantomData<Cell<&'g ()>>,
}

impl<Input, Yield, Return> ScopedGenerator<'_, Input, Yield, Return> {
    /// See [`Generator::resume`].
    #[inline]
    #[track_caller]
    pub fn resume(&mut self, input: Input) -> GeneratorState<Yield, Return> {
        self.generator.resume(input)
    }

    /// See [`Generator::try_resume`].
    #[inline]
    pub fn try_resume(
        &mut self,
        input: Input,
    ) -> Result<GeneratorState<Yield, Return>, Finished<Input>> {
        self.generator.try_resume(input)
    }

    /// See [`Generator::throw`].
    pub fn throw(
        &mut self,
        payload: Box<dyn Any + Send>,
    ) -> Result<GeneratorState<Yield, Return>, Box<dyn Any + Send>> {
        self.generator.throw(payload)
    }

    /// See [`Generator::close`].
    #[track_caller]
    pub fn close(&mut self) -> Option<Return> {
        match self.generator.unwind() {
            Unwound::Clean(returned) => returned,
            Unwound::Panicked(payload) => panic::resume_unwind(payload),
            Unwound::Ignored => panic!("{IGNORED}"),
            Unwound::Abandoned => left_behind(),
        }
    }

    /// See [`Generator::status`].
    pub fn status(&self) -> GeneratorStatus {
        self.generator.status()
    }

    /// See [`Generator::is_done`].
    pub fn is_done(&self) -> bool {
        self.generator.is_done()
    }

    /// See [`Generator::take_return`].
    pub fn take_return(&mut self) -> Option<Return> {
        self.generator.take_return()
    }
}

impl<Input, Yield> Yielder<Input, Yield> {
    /// As [`yield_from`](Yielder::yield_from), for a generator that borrows.
    ///
    /// # Panics
    /// As `yield_from`.
    ///
    /// ```
    /// use hebra::Generator;
    ///
    /// let outer = Generator::new(|y, ()| {
    ///     let words = String::from("to be");
    ///     y.yield_(0);
    ///     Generator::scoped(
    ///         |y, ()| words.split(' ').for_each(|word| y.yield_(word.len())),
    ///         |mut lengths| y.yield_from_scoped(&mut lengths, ()),
    ///     )
    /// });
    /// assert_eq!(outer.into_iter().collect::<Vec<_>>(), [0, 2, 2]);
    /// ```
    #[track_caller]
    pub fn yield_from_scoped<Return>(
        &self,
        inner: &mut ScopedGenerator<'_, Input, Yield, Return>,
        input: Input,
    ) -> Return {
        self.yield_from(inner.generator, input)
    }
}

impl<Yield, Return> ScopedGenerator<'_, (), Yield, Return> {
    /// See [`Generator::iter`].
    #[inline]
    pub fn iter(&mut self) -> Iter<'_, Yield, Return> {
        self.generator.iter()
    }
}

impl<Input, Yield, Return> fmt::Debug for ScopedGenerator<'_, Input, Yield, Return> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.generator.fmt(f)
    }
}

/// Ends the generator of a scope when the scope ends.
struct CloseScope<Input, Yield, Return>(Generator<Input, Yield, Return>);

impl<Input, Yield, Return> Drop for CloseScope<Input, Yield, Return> {
    fn drop(&mut self) {
        match self.0.unwind() {
            Unwound::Abandoned => left_behind(),
            unwound if is_unwinding() => discard(unwound),
            Unwound::Panicked(payload) => panic::resume_unwind(payload),
            Unwound::Clean(_) | Unwound::Ignored => {}
        }
    }
}

/// A scoped body that cannot be ended may have lent what it borrows to other threads; there is no
/// going on.
#[cold]
fn left_behind() -> ! {
    end_process(&format!(
        "{IGNORED}, though it borrows from a scope that ends"
    ));
}
