//! Generators: coroutines that exchange values with whoever resumes them.
//!
//! The protocol is Python's (PEP 342, 380 and 479), the names are those of [`core::ops::Coroutine`]; the body runs on a stack of its own,
//! so it may yield from any depth of its calls, at the same cost. Where the two differ is marked in the table.
//!
//! | Case | Here | Python |
//! |---|---|---|
//! | creation | runs nothing and takes no stack | runs nothing |
//! | first resume | carries the first input, the body's second argument | *differs:* must send `None`, else `TypeError` |
//! | `return v` | [`GeneratorState::Complete`] | *differs:* `StopIteration(v)`, in band |
//! | resume after the end | [`try_resume`](Generator::try_resume) gives the input back; [`resume`](Generator::resume) panics | *differs:* `StopIteration` |
//! | resume from within | does not compile: `resume` borrows exclusively; through a `RefCell` it is the cell's panic | `ValueError` |
//! | the body panics | the panic continues in the resumer with its payload; the generator is done | the same |
//! | [`throw`](Generator::throw) at a yield | unwinds from there; a body that catches it may go on | the same |
//! | `throw` before the first resume, or after the end | runs nothing, returns the payload | the same |
//! | [`close`](Generator::close) | unwinds from the yield, destructors innermost first; returns what the body returns after all | the same (3.13) |
//! | a yield during `close` | unwinds again at once; in the end `close` panics, a body that will not go is abandoned | `RuntimeError` |
//! | a panic during `close` | continues in the closer; from a drop too, unless the thread is panicking already | *differs:* a drop prints it |
//! | drop while suspended | `close` | the same |
//! | [`yield_from`](Yielder::yield_from) | inputs, `throw` and `close` go straight to the innermost, at a cost that does not grow with the depth | the same, O(depth) |
//! | iteration | with `Input = ()`: [`iter`](Generator::iter) and `IntoIterator`, fused; then [`take_return`](Generator::take_return) | the value is lost |
//! | a yield in a destructor while the body unwinds | a panic, and with it the end of the process: the panic would leak into the resumer | allowed |
//! | a yielder used on another stack | a panic | – |
//! | copy, pickle, other threads | not `Clone`, `Send` or `Sync` | `TypeError` |
//! | borrowing the environment | [`Generator::scoped`] | free |
//!
//! # Thread-locals
//!
//! What is on a suspended generator's stack may refer to thread-locals. When an OS thread ends its thread-locals are destroyed, the youngest
//! first, and a generator that is kept in one of them must not run its destructors over those that are gone. Where it can be seen that the
//! thread is ending the generator is abandoned instead: its stack stays, its destructors do not run.
//!
//! It can be seen if no generator was run on that OS thread before the thread-local that keeps the suspended one was first used. So the rule:
//! *whoever keeps suspended generators in a `thread_local!` must use it before any generator runs there, or let no body yield
//! inside of another key's `with`.* On a green thread none of this matters: thread-locals outlive it.
//!
//! # How a delegation costs nothing
//!
//! ```text
//!   resumer --- resume ---> outer --- yield_from ---> inner --- yield_from ---> innermost
//!      ^                                                                            |
//!      +------------------------ yield_ suspends the outermost ---------------------+
//! ```
//!
//! A yielder knows its *root*: the generator that was resumed from outside. To yield is to suspend the root, wherever on top of it the
//! code has got to, and the next resume of the root returns there. In between nobody is woken to pass a value on.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::mem::{self, MaybeUninit};
use std::panic::{self, AssertUnwindSafe, Location};
use std::ptr::NonNull;
use std::thread;

use crate::coroutine::{Coroutine, Resumed, Suspender, stack_pointer};
use crate::report::say;
use crate::stack::{self, Label, What};
use crate::unwinding::{is_unwinding, set_stuck};

const DEFAULT_STACK_SIZE: usize = 256 << 10;

/// Yields that a body which is being closed may try before it is abandoned.
const PATIENCE: u32 = 16;

type Payload = Box<dyn Any + Send>;

/// The payload that unwinds a generator which is closed.
struct CloseUnwind;

/// What a resume brings instead of an input.
enum Order {
    Throw(Payload),
    Close,
}

/// What [`Generator::resume`] came back with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GeneratorState<Yield, Return> {
    /// The body has yielded this value and is suspended.
    Yielded(Yield),
    /// The body has returned this value; the generator is done.
    Complete(Return),
}

/// Where a generator stands; see [`Generator::status`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GeneratorStatus {
    /// The body has not begun.
    Created,
    /// The body is running. Only code that runs inside of it could see that, and it cannot: a resume borrows the generator.
    Running,
    /// The body waits at a yield.
    Suspended,
    /// The body has returned, unwound or was dropped unrun.
    Done,
}

/// The error of [`Generator::try_resume`] on a generator that is done: gives the input back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Finished<Input>(pub Input);

impl<Input> fmt::Debug for Finished<Input> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Finished(..)")
    }
}

impl<Input> fmt::Display for Finished<Input> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the generator has finished")
    }
}

impl<Input> std::error::Error for Finished<Input> {}

/// A body that can be left at every [`yield_`](Yielder::yield_) and re-entered by [`resume`](Generator::resume).
///
/// ```
/// use hebra::{Generator, GeneratorState};
///
/// // A running average: numbers go in, averages come out.
/// let mut average = Generator::new(|y, first: f64| {
///     let (mut sum, mut count) = (first, 1.0);
///     loop {
///         sum += y.yield_(sum / count);
///         count += 1.0;
///     }
/// });
/// # let _: &mut Generator<f64, f64, ()> = &mut average;
/// assert_eq!(average.resume(10.0), GeneratorState::Yielded(10.0));
/// assert_eq!(average.resume(20.0), GeneratorState::Yielded(15.0));
/// ```
///
/// A generator with `Input = ()` is an iterator:
///
/// ```
/// use hebra::Generator;
///
/// let squares = Generator::new(|y, ()| (1..=4).for_each(|n| y.yield_(n * n)));
/// assert_eq!(squares.into_iter().collect::<Vec<u32>>(), [1, 4, 9, 16]);
/// ```
///
/// It stays on its OS thread, and cannot be copied:
///
/// ```compile_fail,E0277
/// fn send<T: Send>(_: T) {}
/// send(hebra::Generator::<(), (), ()>::new(|_, ()| ()));
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>(_: T) {}
/// share(hebra::Generator::<(), (), ()>::new(|_, ()| ()));
/// ```
/// ```compile_fail,E0277
/// fn copy<T: Clone>(_: T) {}
/// copy(hebra::Generator::<(), (), ()>::new(|_, ()| ()));
/// ```
pub struct Generator<Input, Yield, Return> {
    state: State<Input, Yield, Return>,
    stack_size: usize,
    location: &'static Location<'static>,
    /// What the body has returned to an iterator, until somebody takes it.
    returned: Option<Return>,
    /// Neither `Send` nor `Sync`.
    marker: PhantomData<*mut ()>,
}

type Body<'env, Input, Yield, Return> = Box<dyn FnOnce(&Yielder<Input, Yield>, Input) -> Return + 'env>;
type Running<Yield, Return> = Coroutine<(), Yield, Ended<Return>>;

/// How a body has ended.
struct Ended<Return> {
    result: Result<Return, Payload>,
    /// It has tried to yield while it was closed.
    ignored_close: bool,
}

enum State<Input, Yield, Return> {
    Created(Body<'static, Input, Yield, Return>),
    /// The yielder lies on the coroutine's stack. In it the resumer leaves what it brings; a switch carries one word only.
    Started(Running<Yield, Return>, NonNull<Yielder<Input, Yield>>),
    Done,
}

impl<Input: 'static, Yield: 'static, Return: 'static> Generator<Input, Yield, Return> {
    /// Makes a generator that will run `body` with its yielder and the input of the first resume.
    ///
    /// Its stack of 256 KiB is taken from a pool of this OS thread at the first resume.
    #[track_caller]
    #[inline]
    pub fn new<F>(body: F) -> Generator<Input, Yield, Return>
    where
        F: FnOnce(&Yielder<Input, Yield>, Input) -> Return + 'static,
    {
        Generator::with_stack_size(DEFAULT_STACK_SIZE, body)
    }

    /// As [`new`](Generator::new), with a stack of `size` bytes: rounded up to a power of two of at least 16 KiB, guard page and up to
    /// 2 KiB of colouring included. Memory is taken page by page, as the body uses it.
    #[track_caller]
    #[inline]
    pub fn with_stack_size<F>(size: usize, body: F) -> Generator<Input, Yield, Return>
    where
        F: FnOnce(&Yielder<Input, Yield>, Input) -> Return + 'static,
    {
        Generator::from_body(size, Box::new(body), Location::caller())
    }
}

impl<Input, Yield, Return> Generator<Input, Yield, Return> {
    /// Makes a generator whose body may borrow, and runs `scope` with it. When `scope` ends the generator is closed.
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
    /// Whoever forgets it (`mem::forget`) would leave a body behind that borrows what is gone. So `scope` gets a handle only.
    ///
    /// # Panics
    /// Continues a panic of `scope` or of the body. A body that goes on yielding while it is closed ends the process: it cannot be
    /// left behind, as it may have lent to other threads what it borrows.
    #[track_caller]
    pub fn scoped<'env, F, S, T>(body: F, scope: S) -> T
    where
        F: FnOnce(&Yielder<Input, Yield>, Input) -> Return + 'env,
        S: for<'g> FnOnce(ScopedGenerator<'g, Input, Yield, Return>) -> T,
        Input: 'env,
        Yield: 'env,
        Return: 'env,
    {
        let body: Body<'env, Input, Yield, Return> = Box::new(body);
        let body = Box::into_raw(Box::new(body)).cast::<Body<'static, Input, Yield, Return>>();
        // SAFETY: the pointer comes from `into_raw` and differs from it in a lifetime. The generator that gets the body does not
        // leave this frame, and `closed` ends it, or the process, before anything of that lifetime can end.
        let body = unsafe { Box::from_raw(body) };
        let mut closed = CloseScope(Generator::from_body(DEFAULT_STACK_SIZE, *body, Location::caller()));
        scope(ScopedGenerator { generator: &mut closed.0, brand: PhantomData })
    }

    #[inline]
    fn from_body(
        stack_size: usize,
        body: Body<'static, Input, Yield, Return>,
        location: &'static Location<'static>,
    ) -> Generator<Input, Yield, Return> {
        Generator { state: State::Created(body), stack_size, location, returned: None, marker: PhantomData }
    }

    /// Runs the body until it yields or returns. `input` is what its `yield_` returns, or its second argument the first time.
    ///
    /// # Panics
    /// Panics if the generator is done, or if there is no memory for its stack. A panic in the body continues here, with its
    /// payload.
    #[inline]
    #[track_caller]
    pub fn resume(&mut self, input: Input) -> GeneratorState<Yield, Return> {
        match self.try_resume(input) {
            Ok(state) => state,
            Err(Finished(_)) => panic!("resume of a generator that has finished; ask is_done, or use try_resume"),
        }
    }

    /// As [`resume`](Generator::resume), but a generator that is done gives the input back.
    ///
    /// # Errors
    /// [`Finished`], with the input, if the generator is done.
    ///
    /// # Panics
    /// Panics if there is no memory for its stack. A panic in the body continues here, with its payload.
    #[inline]
    pub fn try_resume(&mut self, input: Input) -> Result<GeneratorState<Yield, Return>, Finished<Input>> {
        let State::Started(coroutine, yielder) = &mut self.state else {
            return self.try_start(input);
        };
        // SAFETY: the body is suspended, so the frame that its yielder lies in is there.
        unsafe { yielder.as_ref() }.input.set(MaybeUninit::new(input));
        match coroutine.resume(()) {
            Resumed::Suspended(value) => Ok(GeneratorState::Yielded(value)),
            Resumed::Finished(ended) => Ok(self.complete(ended)),
        }
    }

    #[cold]
    #[inline(never)]
    fn complete(&mut self, ended: Ended<Return>) -> GeneratorState<Yield, Return> {
        match self.finish(ended) {
            Ok(value) => GeneratorState::Complete(value),
            Err(payload) => panic::resume_unwind(payload),
        }
    }

    #[inline(never)]
    fn try_start(&mut self, input: Input) -> Result<GeneratorState<Yield, Return>, Finished<Input>> {
        if self.is_done() {
            return Err(Finished(input));
        }
        match self.start(input, None) {
            Resumed::Suspended(value) => Ok(GeneratorState::Yielded(value)),
            Resumed::Finished(ended) => Ok(self.complete(ended)),
        }
    }

    /// Resumes a suspended body with an order instead of an input. `None`: it is not suspended, and done now.
    #[cold]
    #[inline(never)]
    fn command(&mut self, order: Order) -> Result<Resumed<Yield, Ended<Return>>, Order> {
        let State::Started(coroutine, yielder) = &mut self.state else {
            self.state = State::Done;
            return Err(order);
        };
        // SAFETY: as in `try_resume`.
        let yielder = unsafe { yielder.as_ref() };
        yielder.order.set(Some(order));
        yielder.flags.set(yielder.flags.get() | ORDERED);
        Ok(coroutine.resume(()))
    }

    /// Takes a stack and runs the body on it. `delegator` is the yielder of the generator that delegates to this one.
    fn start(&mut self, input: Input, delegator: Option<&Yielder<Input, Yield>>) -> Resumed<Yield, Ended<Return>> {
        let stack = match stack::acquire(self.stack_size) {
            Ok(stack) => stack,
            Err(error) => panic!("there is no stack for a generator: {error}"),
        };
        stack.set_label(&Label { what: What::Generator, name: None, location: self.location });
        let State::Created(body) = mem::replace(&mut self.state, State::Done) else {
            unreachable!("only a created generator is started");
        };
        let (limit, size) = (stack.limit(), stack.base() - stack.limit());
        // What the body begins with stays in this frame: corosensei takes closures of up to 1 KiB, and an input may be larger.
        let first = Cell::new(Some((body, input)));
        let take = NonNull::from(&first);
        let known = Cell::new(NonNull::dangling());
        let publish = NonNull::from(&known);
        let delegator = delegator.map(NonNull::from);
        let run = move |raw: &_, ()| {
            // SAFETY: `start` is in its resume below, and `first` in its frame.
            let (body, input) = unsafe { take.as_ref() }.take().expect("it starts once");
            let yielder = Yielder {
                root: Cell::new(NonNull::dangling()),
                root_raw: Cell::new(Suspender::new(raw)),
                delegate: Cell::new(None),
                raw: Suspender::new(raw),
                limit,
                size,
                flags: Cell::new(if is_unwinding() { RESUMER_PANICS } else { 0 }),
                refusals: Cell::new(0),
                input: Cell::new(MaybeUninit::uninit()),
                order: Cell::new(None),
            };
            let own = NonNull::from(&yielder);
            yielder.root.set(own);
            if let Some(delegator) = delegator {
                // SAFETY: the delegator stands in the call of `start`.
                unsafe { delegator.as_ref() }.adopt(own);
            }
            // SAFETY: `start` is in its resume below, and `known` in its frame.
            unsafe { publish.as_ref() }.set(own);
            let result = panic::catch_unwind(AssertUnwindSafe(|| body(&yielder, input)));
            Ended { result, ignored_close: yielder.refusals.get() > 0 }
        };
        // SAFETY: `new` asks for `'static`; `scoped` ends the generator, or the process, before what the body borrows ends.
        let mut coroutine = unsafe { Coroutine::new_scoped(stack, run) };
        let resumed = coroutine.resume(());
        if let Resumed::Suspended(_) = resumed {
            self.state = State::Started(coroutine, known.get());
        }
        resumed
    }

    /// The body has ended: its stack goes back to the pool.
    fn finish(&mut self, ended: Ended<Return>) -> Result<Return, Payload> {
        self.state = State::Done;
        ended.result
    }

    /// Makes the body unwind from the yield at which it is suspended, with `payload`, as if it had panicked there (without the hook).
    ///
    /// A body that catches the unwinding may go on: what it then yields or returns is the result. On a generator that has not begun
    /// or is done nothing runs; it is done, and the payload comes back.
    ///
    /// # Errors
    /// The payload that came out of the body: the given one, or one of its own.
    ///
    /// ```
    /// use hebra::{Generator, GeneratorState};
    /// use std::panic::{AssertUnwindSafe, catch_unwind};
    ///
    /// let mut g = Generator::new(|y, ()| {
    ///     let caught = catch_unwind(AssertUnwindSafe(|| y.yield_("first")));
    ///     y.yield_(caught.unwrap_err().downcast_ref::<&str>().copied().unwrap());
    /// });
    /// g.resume(());
    /// assert_eq!(g.throw(Box::new("thrown")).unwrap(), GeneratorState::Yielded("thrown"));
    /// ```
    pub fn throw(&mut self, payload: Box<dyn Any + Send>) -> Result<GeneratorState<Yield, Return>, Box<dyn Any + Send>> {
        match self.command(Order::Throw(payload)) {
            Ok(Resumed::Suspended(value)) => Ok(GeneratorState::Yielded(value)),
            Ok(Resumed::Finished(ended)) => self.finish(ended).map(GeneratorState::Complete),
            Err(Order::Throw(payload)) => Err(payload),
            Err(Order::Close) => unreachable!("the order comes back as it was given"),
        }
    }

    /// Ends the generator: a suspended body unwinds from its yield, and its destructors run, innermost first. One that has not begun is
    /// dropped unrun.
    ///
    /// If the body catches the unwinding and returns, its value is the result.
    ///
    /// # Panics
    /// A panic in the body meanwhile continues here. Panics if the body has yielded again: each such yield unwinds at once, and a body
    /// that goes on all the same is abandoned, with its stack and without its remaining destructors.
    #[track_caller]
    pub fn close(&mut self) -> Option<Return> {
        match self.unwind() {
            Unwound::Clean(returned) => returned,
            Unwound::Panicked(payload) => panic::resume_unwind(payload),
            Unwound::Ignored | Unwound::Abandoned => panic!("{IGNORED}"),
        }
    }

    fn unwind(&mut self) -> Unwound<Return> {
        match self.command(Order::Close) {
            Err(_) => Unwound::Clean(None),
            Ok(Resumed::Suspended(_)) => {
                self.abandon();
                Unwound::Abandoned
            }
            Ok(Resumed::Finished(ended)) => {
                let ignored = ended.ignored_close;
                match self.finish(ended) {
                    Err(payload) if !payload.is::<CloseUnwind>() => Unwound::Panicked(payload),
                    _ if ignored => Unwound::Ignored,
                    result => Unwound::Clean(result.ok()),
                }
            }
        }
    }

    /// Leaves a suspended body where it stands, for good: its stack is not used again, nor are its destructors run.
    fn abandon(&mut self) {
        mem::forget(mem::replace(&mut self.state, State::Done));
    }

    /// Returns where the generator stands.
    pub fn status(&self) -> GeneratorStatus {
        match self.state {
            State::Created(_) => GeneratorStatus::Created,
            State::Started(..) => GeneratorStatus::Suspended,
            State::Done => GeneratorStatus::Done,
        }
    }

    /// Returns whether the generator is done: it cannot be resumed any more.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Takes the value that the body has returned while the generator was iterated over.
    pub fn take_return(&mut self) -> Option<Return> {
        self.returned.take()
    }
}

const IGNORED: &str = "a generator has ignored its close: it has yielded again";

/// What came of a close.
enum Unwound<Return> {
    Clean(Option<Return>),
    Panicked(Payload),
    /// It has tried to yield, but is unwound.
    Ignored,
    /// It has gone on trying, and is left behind.
    Abandoned,
}

impl<Input, Yield, Return> Drop for Generator<Input, Yield, Return> {
    /// Closes the generator. What `close` would panic with continues here, unless the thread is panicking already.
    fn drop(&mut self) {
        if !matches!(self.state, State::Started(..)) {
            return;
        }
        if !stack::is_pool_alive() {
            // Thread-locals are being destroyed, and what is on that stack may refer to one that is gone.
            return self.abandon();
        }
        match self.unwind() {
            _ if is_unwinding() => {}
            Unwound::Panicked(payload) => panic::resume_unwind(payload),
            Unwound::Abandoned => panic!("{IGNORED}"),
            Unwound::Clean(_) | Unwound::Ignored => {}
        }
    }
}

impl<Input, Yield, Return> fmt::Debug for Generator<Input, Yield, Return> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generator")
            .field("status", &self.status())
            .field("location", &format_args!("{}", self.location))
            .finish_non_exhaustive()
    }
}

/// The generator is being closed: unwind, do not suspend.
const CLOSING: u8 = 1;
/// The resumer was panicking when it resumed: that is not the body's own unwinding.
const RESUMER_PANICS: u8 = 2;
/// The resumer brings an order.
const ORDERED: u8 = 4;

/// The body's end of a generator: what it yields through.
///
/// ```compile_fail,E0521
/// // It does not outlive the body's run.
/// let mut escaped = None;
/// hebra::Generator::<(), (), ()>::scoped(|y, ()| escaped = Some(y), |mut g| { g.resume(()); });
/// ```
pub struct Yielder<Input, Yield> {
    /// The yielder of the generator that was resumed from outside: this one, or the outermost that delegates to it.
    root: Cell<NonNull<Yielder<Input, Yield>>>,
    /// Suspends the root's coroutine: a copy of its `raw`, to save a step on the way there.
    root_raw: Cell<Suspender<(), Yield>>,
    /// The yielder of the generator that this one delegates to at the moment.
    delegate: Cell<Option<NonNull<Yielder<Input, Yield>>>>,
    /// Suspends the coroutine of this generator.
    raw: Suspender<(), Yield>,
    /// The lowest address and the size of its stack.
    limit: usize,
    size: usize,
    /// Of a root: [`CLOSING`], [`RESUMER_PANICS`], [`ORDERED`].
    flags: Cell<u8>,
    /// Of a root: yields tried while closing.
    refusals: Cell<u32>,
    /// Of a root: what the resumer brings, unless it brings an order.
    input: Cell<MaybeUninit<Input>>,
    order: Cell<Option<Order>>,
}

impl<Input, Yield> Yielder<Input, Yield> {
    /// Hands `value` to the resumer, and returns the input of the next resume. May be called at any depth of the body's calls.
    ///
    /// # Panics
    /// Unwinds when the generator is closed or [`throw`](Generator::throw) is called. Panics if it is called on another stack than the
    /// generator's own (from within another generator, or on another green thread), or in a destructor while the body unwinds, which
    /// ends the process.
    #[inline(always)] // A return inside of the switch is predicted only if it leaves the function that was resumed.
    pub fn yield_(&self, value: Yield) -> Input {
        // SAFETY: a root runs as long as what it delegates to, and its yielder lies on its stack (see `delegate`).
        let root = unsafe { self.root.get().as_ref() };
        self.assert_here();
        if root.flags.get() != 0 || is_unwinding() {
            return root.yield_slowly(value);
        }
        root.suspend(self.root_raw.get(), value)
    }

    /// `raw` is this root's.
    #[inline(always)]
    fn suspend(&self, raw: Suspender<(), Yield>, value: Yield) -> Input {
        // SAFETY: `yield_` has checked that it runs on this generator's stack, or on that of one which it has resumed to delegate.
        unsafe { raw.suspend(value) };
        if self.flags.get() != 0 || is_unwinding() {
            self.obey();
        }
        // SAFETY: whoever has resumed has brought an input: an order would have unwound in `obey`. It is read once.
        unsafe { self.input.replace(MaybeUninit::uninit()).assume_init() }
    }

    /// Returns if there is no order.
    #[cold]
    fn obey(&self) {
        if is_unwinding() {
            self.flags.set(self.flags.get() | RESUMER_PANICS);
        }
        self.flags.set(self.flags.get() & !ORDERED);
        match self.order.take() {
            None => {}
            Some(Order::Throw(payload)) => panic::resume_unwind(payload),
            Some(Order::Close) => {
                self.flags.set(self.flags.get() | CLOSING);
                panic::resume_unwind(Box::new(CloseUnwind))
            }
        }
    }

    #[cold]
    fn yield_slowly(&self, value: Yield) -> Input {
        let flags = self.flags.get();
        let unwinds = is_unwinding() && flags & RESUMER_PANICS == 0;
        if flags & CLOSING != 0 {
            self.refusals.set(self.refusals.get() + 1);
            if thread::panicking() || self.refusals.get() > PATIENCE {
                // In a destructor a second unwinding would be the end, and a loop would go on for ever: stop here for good.
                if unwinds {
                    set_stuck();
                }
                // SAFETY: as in `suspend`.
                unsafe { self.raw.suspend(value) };
                unreachable!("an abandoned generator is not resumed");
            }
            panic::resume_unwind(Box::new(CloseUnwind));
        }
        assert!(!unwinds, "a generator has yielded in a destructor while its body unwinds");
        // Whether the next resumer panics is for `obey` to find out.
        self.flags.set(0);
        self.suspend(self.raw, value)
    }

    fn is_closing(&self) -> bool {
        // SAFETY: as in `yield_`.
        unsafe { self.root.get().as_ref() }.flags.get() & CLOSING != 0
    }

    /// Makes `inner`, and whatever that delegates to already, suspend this generator's root.
    fn adopt(&self, inner: NonNull<Yielder<Input, Yield>>) {
        self.delegate.set(Some(inner));
        let mut next = Some(inner);
        while let Some(yielder) = next {
            // SAFETY: who is delegated to has started and not ended, so the frame that its yielder lies in is there.
            let yielder = unsafe { yielder.as_ref() };
            yielder.root.set(self.root.get());
            yielder.root_raw.set(self.root_raw.get());
            next = yielder.delegate.get();
        }
    }

    /// A yielder can be carried to another stack, and suspending from there would mix up two of them.
    #[inline(always)]
    #[track_caller]
    fn assert_here(&self) {
        let here = stack_pointer();
        assert!(here.wrapping_sub(self.limit) < self.size, "a yielder was used on another stack than its generator's");
    }

    /// Runs `inner` to its end in place of this generator, and returns what it returns: its values go to this generator's resumer, and
    /// inputs, [`throw`](Generator::throw) and [`close`](Generator::close) come to it. `input` is its first input. An item costs the
    /// same at any depth of delegation.
    ///
    /// Python's `yield from`. For an iterator there is [`yield_from_iter`](Yielder::yield_from_iter).
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
    pub fn yield_from<Return>(&self, inner: &mut Generator<Input, Yield, Return>, input: Input) -> Return {
        self.assert_here();
        let closed_before = self.is_closing();
        match self.delegate(inner, input) {
            // PEP 380: whatever the inner one made of it, a close goes on in the outer one.
            Ok(_) if self.is_closing() && !closed_before => panic::resume_unwind(Box::new(CloseUnwind)),
            Ok(value) => value,
            Err(payload) => panic::resume_unwind(payload),
        }
    }

    /// Runs `inner` with this generator's root as its own. It returns when `inner` has ended: until then it is the root that suspends,
    /// with `inner`, this frame and everything between them standing still.
    #[track_caller]
    fn delegate<Return>(&self, inner: &mut Generator<Input, Yield, Return>, input: Input) -> Result<Return, Payload> {
        let resumed = match &mut inner.state {
            State::Created(_) => inner.start(input, Some(self)),
            State::Started(coroutine, yielder) => {
                self.adopt(*yielder);
                // SAFETY: `inner` is suspended, so the frame that its yielder lies in is there.
                let yielder = unsafe { yielder.as_ref() };
                // What comes next is taken from the root; this first input `inner` looks for in its own yielder.
                yielder.input.set(MaybeUninit::new(input));
                coroutine.resume(())
            }
            State::Done => panic!("yield_from of a generator that has finished"),
        };
        self.delegate.set(None);
        match resumed {
            Resumed::Finished(ended) => inner.finish(ended),
            Resumed::Suspended(_) => unreachable!("it is the root that suspends"),
        }
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

impl<Yield, Return> Generator<(), Yield, Return> {
    /// Iterates over what the body yields, up to its end. Then [`take_return`](Generator::take_return) has what it returned.
    #[inline]
    pub fn iter(&mut self) -> Iter<'_, Yield, Return> {
        Iter { generator: self }
    }

    #[inline]
    fn advance(&mut self) -> Option<Yield> {
        match self.try_resume(()) {
            Ok(GeneratorState::Yielded(value)) => Some(value),
            Ok(GeneratorState::Complete(value)) => {
                self.returned = Some(value);
                None
            }
            Err(Finished(())) => None,
        }
    }
}

impl<Yield, Return> IntoIterator for Generator<(), Yield, Return> {
    type Item = Yield;
    type IntoIter = IntoIter<Yield, Return>;

    #[inline]
    fn into_iter(self) -> IntoIter<Yield, Return> {
        IntoIter { generator: self }
    }
}

impl<'a, Yield, Return> IntoIterator for &'a mut Generator<(), Yield, Return> {
    type Item = Yield;
    type IntoIter = Iter<'a, Yield, Return>;

    #[inline]
    fn into_iter(self) -> Iter<'a, Yield, Return> {
        self.iter()
    }
}

/// What a generator yields, borrowed; made by [`Generator::iter`].
#[derive(Debug)]
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct Iter<'a, Yield, Return> {
    generator: &'a mut Generator<(), Yield, Return>,
}

impl<Yield, Return> Iterator for Iter<'_, Yield, Return> {
    type Item = Yield;

    #[inline]
    fn next(&mut self) -> Option<Yield> {
        self.generator.advance()
    }
}

impl<Yield, Return> FusedIterator for Iter<'_, Yield, Return> {}

/// What a generator yields; made by its `into_iter`.
#[derive(Debug)]
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct IntoIter<Yield, Return> {
    generator: Generator<(), Yield, Return>,
}

impl<Yield, Return> IntoIter<Yield, Return> {
    /// Returns the generator.
    pub fn into_inner(self) -> Generator<(), Yield, Return> {
        self.generator
    }
}

impl<Yield, Return> Iterator for IntoIter<Yield, Return> {
    type Item = Yield;

    #[inline]
    fn next(&mut self) -> Option<Yield> {
        self.generator.advance()
    }
}

impl<Yield, Return> FusedIterator for IntoIter<Yield, Return> {}

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
    pub fn try_resume(&mut self, input: Input) -> Result<GeneratorState<Yield, Return>, Finished<Input>> {
        self.generator.try_resume(input)
    }

    /// See [`Generator::throw`].
    pub fn throw(&mut self, payload: Box<dyn Any + Send>) -> Result<GeneratorState<Yield, Return>, Box<dyn Any + Send>> {
        self.generator.throw(payload)
    }

    /// See [`Generator::close`].
    #[track_caller]
    pub fn close(&mut self) -> Option<Return> {
        match self.generator.unwind() {
            Unwound::Clean(returned) => returned,
            Unwound::Panicked(payload) => panic::resume_unwind(payload),
            Unwound::Ignored => panic!("{IGNORED}"),
            Unwound::Abandoned => end_process(),
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
            Unwound::Abandoned => end_process(),
            _ if is_unwinding() => {}
            Unwound::Panicked(payload) => panic::resume_unwind(payload),
            Unwound::Clean(_) | Unwound::Ignored => {}
        }
    }
}

/// A scoped body that cannot be ended may have lent what it borrows to other threads; there is no going on.
#[cold]
fn end_process() -> ! {
    say(format_args!("{IGNORED}, though it borrows from a scope that ends"));
    std::process::abort();
}
