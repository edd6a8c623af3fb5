//! The body's end of a generator.
//!
//! ```text
//!   root ── delegate ──> inner ── delegate ──> innermost       each has `root`, and in `raw` what suspends the root
//!   flags, refusals: of the root, for all of them              order, attention: of the innermost, which is resumed
//! ```
//!
//! A yield has two things to ask before the switch, whether it stands on the right stack and
//! whether it is allowed; they are one comparison, for a yielder that must take the slow path is
//! told that its stack has no *room* (see [`Footing`]). After the switch there is `attention`.

use std::cell::Cell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::panic;
use std::ptr::NonNull;
use std::thread;

use super::footing::Footing;
use super::parcel::Parcel;
use super::{CloseUnwind, Generator, Order, Payload, State, end_process};
use crate::coroutine::{Resumed, Suspender};
use crate::panic_count;
use crate::unwinding::{is_unwinding, set_stuck};

/// Yields that a body which is being closed may try before it is abandoned.
const PATIENCE: usize = 16;

/// The generator is being closed: unwind, do not suspend.
const CLOSING: u8 = 1;
/// The resumer was unwinding when it resumed, and its panic count could not be taken: what
/// `panicking` says is not about the body.
const RESUMER_PANICS: u8 = 2;

/// The body's end of a generator: what it yields through.
///
/// ```compile_fail,E0521
/// // It does not outlive the body's run.
/// let mut escaped = None;
/// hebra::Generator::<(), (), ()>::scoped(|y, ()| escaped = Some(y), |mut g| { g.resume(()); });
/// ```
#[repr(C)] // What a yield looks at comes first, in one cache line or two.
pub struct Yielder<Input, Yield> {
    pub(super) footing: Footing,
    /// Suspends the coroutine of the root.
    raw: Cell<Suspender<Parcel<Input>, Parcel<Yield>>>,
    /// The resumer brings an order, or unwinds and could not have its panic count taken.
    attention: Cell<bool>,
    order: Cell<Option<Order>>,
    /// The yielder of the generator that was resumed from outside: this one, or the outermost that
    /// delegates to it.
    root: Cell<Option<Standing<Input, Yield>>>,
    /// The yielder of the generator that this one delegates to at the moment.
    delegate: Cell<Option<Standing<Input, Yield>>>,
    /// Of a root: [`CLOSING`], [`RESUMER_PANICS`].
    flags: Cell<u8>,
    /// Of a root: yields tried while closing.
    refusals: Cell<usize>,
}

/// Where a yielder is: in the first frame of a body that has started and not ended, on the
/// coroutine's stack.
///
/// Three have one, and none keeps it longer: the generator, as long as it is a `State::Started`;
/// whoever delegates to that generator, until it has ended; and who is delegated to, of the root,
/// which runs as long.
pub(super) struct Standing<Input, Yield>(NonNull<Yielder<Input, Yield>>);

impl<Input, Yield> Standing<Input, Yield> {
    #[inline]
    pub(super) fn new(yielder: &Yielder<Input, Yield>) -> Self {
        Standing(NonNull::from(yielder))
    }

    /// The yielder, for no longer than the `place` is borrowed where this was found.
    #[inline]
    pub(super) fn within<P>(self, _place: &P) -> &Yielder<Input, Yield> {
        // SAFETY: the frame that it lies in is there; see above.
        unsafe { self.0.as_ref() }
    }
}

impl<Input, Yield> Clone for Standing<Input, Yield> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<Input, Yield> Copy for Standing<Input, Yield> {}

impl<Input, Yield> Yielder<Input, Yield> {
    /// A yielder that has yet to be [`settled`](Yielder::settle).
    #[inline]
    pub(super) fn new(raw: Suspender<Parcel<Input>, Parcel<Yield>>, footing: Footing) -> Self {
        let resumer_panics = is_unwinding();
        footing.measure(resumer_panics);
        Yielder {
            footing,
            raw: Cell::new(raw),
            attention: Cell::new(false),
            order: Cell::new(None),
            root: Cell::new(None),
            delegate: Cell::new(None),
            flags: Cell::new(if resumer_panics { RESUMER_PANICS } else { 0 }),
            refusals: Cell::new(0),
        }
    }

    /// Makes it a root, or the delegate of `delegator`, which runs as long. From here on it stays
    /// where it is.
    #[inline]
    pub(super) fn settle(&self, delegator: Option<&Yielder<Input, Yield>>) {
        self.root.set(Some(Standing::new(self)));
        if let Some(delegator) = delegator {
            delegator.adopt(self);
        }
    }

    /// How many yields were refused while closing.
    #[inline]
    pub(super) fn refusals(&self) -> usize {
        self.refusals.get()
    }

    /// Leaves an order for whoever is resumed when this root is.
    pub(super) fn command(&self, order: Order) {
        let innermost = self.chain().last().expect("a chain begins with its root");
        innermost.order.set(Some(order));
        innermost.attention.set(true);
    }

    /// Makes the next resume, which brings an input, look at whether the resumer unwinds.
    pub(super) fn look(&self) {
        let innermost = self.chain().last().expect("a chain begins with its root");
        innermost.attention.set(true);
    }

    /// This yielder, the one that it delegates to, and so on to the innermost.
    fn chain(&self) -> impl Iterator<Item = &Yielder<Input, Yield>> {
        std::iter::successors(Some(self), |&yielder| {
            Some(yielder.delegate.get()?.within(yielder))
        })
    }

    fn root(&self) -> &Yielder<Input, Yield> {
        self.root
            .get()
            .expect("a yielder is settled before anybody sees it")
            .within(self)
    }

    /// Sets the flags of this root, and with them the room of all that it delegates to.
    fn set_flags(&self, flags: u8) {
        self.flags.set(flags);
        self.chain().for_each(Yielder::measure);
    }

    fn measure(&self) {
        self.footing.measure(self.root().flags.get() != 0);
    }

    /// Hands `value` to the resumer, and returns the input of the next resume. May be called at any
    /// depth of the body's calls.
    ///
    /// # Panics
    /// Unwinds when the generator is closed or [`throw`](Generator::throw) is called. Panics if it
    /// is called on another stack than the generator's own (from within another generator, or
    /// on another green thread), inside of a time-out or another cancel scope that the body has
    /// opened, or in a destructor while the body unwinds, which ends the process.
    #[track_caller]
    // A return inside of the switch is predicted only if it leaves the function that was resumed. But
    // in an unoptimised build the caller would have room for the values of each of its yields.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub fn yield_(&self, value: Yield) -> Input {
        if self.footing.is_out_of_room() || thread::panicking() {
            return self.yield_slowly(value);
        }
        self.suspend(value)
    }

    #[cfg_attr(not(debug_assertions), inline(always))]
    fn suspend(&self, value: Yield) -> Input {
        let mut value = ManuallyDrop::new(value);
        // SAFETY: the resumer opens the parcel before it resumes this frame again, if at all. This is
        // the generator's stack, and the generator the root or one that the root runs on to
        // delegate: the callers have looked.
        let input = unsafe { self.raw.get().suspend(Parcel::of(&mut value)) };
        if self.attention.get() {
            self.obey();
        }
        // SAFETY: a resumer without an input leaves an order, with which `obey` does not return.
        unsafe { input.open() }
    }

    /// Returns if there is no order.
    #[cold]
    fn obey(&self) {
        self.attention.set(false);
        let order = self.order.take();
        if let Some(Order::Join) = order {
            return;
        }
        let resumer_panics = if is_unwinding() { RESUMER_PANICS } else { 0 };
        let closing = if let Some(Order::Close) = order {
            CLOSING
        } else {
            0
        };
        self.root().set_flags(resumer_panics | closing);
        match order {
            None | Some(Order::Join) => {}
            Some(Order::Throw(payload)) => panic::resume_unwind(payload),
            Some(Order::Close) => panic::resume_unwind(Box::new(CloseUnwind)),
        }
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    fn yield_slowly(&self, value: Yield) -> Input {
        self.footing.assert_here();
        let root = self.root();
        let flags = root.flags.get();
        let unwinds = is_unwinding() && flags & RESUMER_PANICS == 0;
        if flags & CLOSING != 0 {
            root.refusals.set(root.refusals.get() + 1);
            if thread::panicking() || root.refusals.get() > PATIENCE {
                // In a destructor a second unwinding would be the end, and a loop would go on for
                // ever: stop here for good.
                if self.footing.is_held() {
                    end_process(
                        "a generator has ignored its close inside of a cancel scope, which would stay open",
                    );
                }
                if unwinds {
                    panic_count::take().keep();
                    if is_unwinding() {
                        set_stuck();
                    }
                }
                self.suspend(value);
                unreachable!("an abandoned generator is not resumed");
            }
            drop(value); // Its destructor may panic: not while this unwinds.
            panic::resume_unwind(Box::new(CloseUnwind));
        }
        assert!(
            !unwinds,
            "a generator has yielded in a destructor while its body unwinds"
        );
        if self.footing.is_held() {
            drop(value); // As above.
            panic!(
                "a generator has yielded inside of a time-out or a cancel scope that it has opened: that would cancel whoever runs \
                 meanwhile in its place (PEP 789 tells why)"
            );
        }
        // Whether the next resumer panics is for `obey` to find out.
        root.set_flags(0);
        self.suspend(value)
    }

    /// Returns whether the generator is being closed, or one that delegates to it: then a yield
    /// unwinds at once instead of yielding. For bodies that catch unwinding, and for destructors.
    ///
    /// ```
    /// use hebra::Generator;
    /// use std::panic::{AssertUnwindSafe, catch_unwind};
    ///
    /// // Retries an item that was refused by `throw`; ends when it is closed.
    /// let mut g = Generator::new(|y, ()| {
    ///     while catch_unwind(AssertUnwindSafe(|| y.yield_("item"))).is_err() && !y.is_closing() {}
    /// });
    /// g.resume(());
    /// assert!(g.throw(Box::new("again")).is_ok());
    /// assert_eq!(g.close(), Some(()));
    /// ```
    pub fn is_closing(&self) -> bool {
        self.root().flags.get() & CLOSING != 0
    }

    /// Makes `inner`, and whatever that delegates to already, suspend this generator's root.
    fn adopt(&self, inner: &Yielder<Input, Yield>) {
        self.delegate.set(Some(Standing::new(inner)));
        let mut held = self.footing.is_held();
        for yielder in inner.chain() {
            yielder.root.set(self.root.get());
            yielder.raw.set(self.raw.get());
            yielder.footing.set_delegator_held(held);
            held = yielder.footing.is_held();
            yielder.measure();
        }
    }

    /// Runs `inner` to its end in place of this generator, and returns what it returns: its values
    /// go to this generator's resumer, and inputs, [`throw`](Generator::throw) and
    /// [`close`](Generator::close) come to it. `input` is its first input. An item costs the
    /// same at any depth of delegation.
    ///
    /// Python's `yield from`. For an iterator there is
    /// [`yield_from_iter`](Yielder::yield_from_iter).
    ///
    /// # Panics
    /// Continues a panic of `inner`. Panics if `inner` is done, and as [`yield_`](Yielder::yield_).
    ///
    /// ```
    /// use hebra::Generator;
    ///
    /// let inner = Generator::new(|y, ()| { y.yield_(2); y.yield_(3); "done" });
    /// let outer = Generator::new(move |y, ()| {
    ///     let mut inner = inner;
    ///     y.yield_(1);
    ///     assert_eq!(y.yield_from(&mut inner, ()), "done");
    /// });
    /// assert_eq!(outer.into_iter().collect::<Vec<i32>>(), [1, 2, 3]);
    /// ```
    #[track_caller]
    pub fn yield_from<Return>(
        &self,
        inner: &mut Generator<Input, Yield, Return>,
        input: Input,
    ) -> Return {
        self.footing.assert_here();
        if inner.is_done() {
            drop(input); // Its destructor may panic: not while this panic unwinds.
            panic!("yield_from of a generator that has finished");
        }
        let closed_before = self.is_closing();
        match self.delegate(inner, &mut ManuallyDrop::new(input)) {
            // PEP 380: whatever the inner one made of it, a close goes on in the outer one.
            Ok(_) if self.is_closing() && !closed_before => {
                panic::resume_unwind(Box::new(CloseUnwind))
            }
            Ok(value) => value,
            Err(payload) => panic::resume_unwind(payload),
        }
    }

    /// Runs `inner` with this generator's root as its own. It returns when `inner` has ended: until
    /// then it is the root that suspends, with `inner`, this frame and everything between them
    /// standing still.
    #[track_caller]
    fn delegate<Return>(
        &self,
        inner: &mut Generator<Input, Yield, Return>,
        input: &mut ManuallyDrop<Input>,
    ) -> Result<Return, Payload> {
        let result = match &mut inner.state {
            State::Created(_) => match inner.start(input, Some(self)) {
                Resumed::Finished(result) => Some(result),
                Resumed::Suspended(_) => None,
            },
            State::Started(coroutine, yielder, _) => {
                self.adopt(yielder.within(yielder));
                yielder.within(yielder).command(Order::Join);
                // SAFETY: the caller does not use it any more, and has it in its frame.
                match coroutine.resume(unsafe { Parcel::of(input) }) {
                    Resumed::Finished(()) => Some(inner.finish()),
                    Resumed::Suspended(_) => None,
                }
            }
            State::Done => unreachable!("the caller has looked"),
        };
        self.delegate.set(None);
        result.expect("it is the root that suspends")
    }

    /// Yields every item of `iter`; inputs are dropped. Python's `yield from` for an iterator.
    ///
    /// # Panics
    /// As [`yield_`](Yielder::yield_).
    pub fn yield_from_iter<I: IntoIterator<Item = Yield>>(&self, iter: I) {
        for value in iter {
            self.yield_(value);
        }
    }
}

impl<Input, Yield> fmt::Debug for Yielder<Input, Yield> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Yielder").finish_non_exhaustive()
    }
}
